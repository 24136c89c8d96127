"""What a manifest says of the chat template: the affixes of one turn, and the pieces of a conversation."""

from typing import Literal

from pydantic import Field

from firsttoken.bundle.part import Part


class Affix(Part):
    text: str
    tokens: list[int]


Trim = Literal["none", "both", "left", "right", "newlines", "leading_newlines"]


class Conversation(Part):
    """What the chat template writes between the contents of a conversation's messages, so that a phone can write it without Jinja.

    Text is ``open`` + question, or with a system message ``open_system`` + it + ``system_to_user`` + question; then for each answer
    ``user_to_assistant`` + answer + ``assistant_to_user`` + next question; at the end ``generation``. Where ``assistant_to_system`` is given,
    the system message stands before the last question: ``open`` begins a longer conversation, and ``assistant_to_system`` + system
    message + ``system_to_user`` takes the place of the last ``assistant_to_user``.

    ``system``, ``user`` and ``assistant`` say which white space (Python's ``str.isspace``, or newlines) of a content goes. ``thinking`` "cut": of an
    earlier answer with ``</think>`` only what follows the last one is written, less the white space that ``after_thinking`` says.
    A template that takes no system message has no ``open_system``.
    """

    open: str
    open_system: str | None = None
    system_to_user: str | None = None
    assistant_to_system: str | None = None
    user_to_assistant: str
    assistant_to_user: str
    generation: str
    system: Trim = "none"
    user: Trim = "none"
    assistant: Trim = "none"
    thinking: Literal["kept", "cut"] = "kept"
    after_thinking: Trim = "none"


class Chat(Part):
    """One user turn of the chat template, rendered on the host: prefix + user text + suffix, less the white space of the text that ``trim`` says.

    ``conversation`` writes several turns. Where it is absent, ``conversation_refused`` says why the template cannot be written without Jinja;
    both are absent in bundles from before firsttoken looked for it. ``rendered_on``: the template prints the date, and this one (YYYY-MM-DD) stands in
    the pieces since the export.
    """

    prefix: Affix
    suffix: Affix
    trim: Trim = "none"
    conversation: Conversation | None = None
    conversation_refused: str | None = None
    rendered_on: str | None = Field(None, pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
