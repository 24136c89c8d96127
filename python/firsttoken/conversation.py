"""Conversations of several turns without Jinja: what a chat template writes between the contents of messages, found by rendering probes.

The pieces are taken from short conversations and then held against others, longer ones and odd ones; a template that writes any of them
otherwise is refused with the reason.
"""

import time
from collections.abc import Callable, Iterable, Iterator

from firsttoken.bundle.chat_facts import Conversation, Trim
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible

Messages = list[dict]
THOUGHT = "</think>"
TRIMS: dict[Trim, Callable[[str], str]] = {
    "none": lambda text: text,
    "both": str.strip,
    "left": str.lstrip,
    "right": str.rstrip,
    "newlines": lambda text: text.strip("\n"),
    "leading_newlines": lambda text: text.lstrip("\n"),
}
SYSTEM, QUESTIONS, ANSWERS = "firsttokenSystem", ("firsttokenAsked1", "firsttokenAsked2"), ("firsttokenAnswered1",)
LOOSE = "\n \n{}\n \n"  # told apart by every trim
THINKING = "<think>\nfirsttokenThought\n</think>\n \n{}\n \n"
# What the pieces are held against: white space at the ends, code, quotes, other scripts, markup, thoughts in every form.
ASKED = (
    "What is a token?",
    "  Und in Größe?\t\n",
    "\n```python\nprint('{{ 7 * 7 }}', \"%s\\n\")\n```\n",
    "日本語 🙂 <b>&amp;</b> [INST] \u00a0",
)
ANSWERED = (
    "A piece of text.",
    "<think>\nLet me see: 1 < 2.\n</think>\n\nYes.\n",
    "thought before</think>\n two\n\nparagraphs ",
    "\n* a list\n* \"quoted\" and 'quoted'\n",
    "<think>\n\n</think>\n\n{% raw %}",
    "<think>\ncut short",
)
SYSTEMS = (None, "You are brief.", " \nAnswer in {{ language }}.\nNo lists.\n")
MOST_TURNS = 4
MOST_SECONDS = 30  # for all probes; real templates take a tenth of one


def find_conversation(write: Callable[[Messages], str]) -> tuple[Conversation | None, str | None]:
    """Returns the pieces of the template that ``write`` renders (with the generation prompt), or why there are none.

    ``write`` may raise `FirstTokenError`, as `chat.render` does.
    """
    until = time.monotonic() + MOST_SECONDS

    def patiently(messages: Messages) -> str:
        if time.monotonic() > until:
            raise FirstTokenError(f"its conversations take more than {MOST_SECONDS} seconds to render")
        return write(messages)

    try:
        found = _pieces(patiently)
        _hold(found, patiently, probes(with_system=found.open_system is not None))
    except FirstTokenError as error:
        return None, str(error)
    return found, None


def write_conversation(pieces: Conversation, messages: Messages) -> str:
    """Returns the text of ``messages``: a system message or none, then questions and answers in turn, the last one a question."""
    contents = [_content(pieces, message) for message in messages]
    system = contents.pop(0) if messages[0]["role"] == "system" else None
    if system is not None and (pieces.open_system is None or pieces.system_to_user is None):
        raise FirstTokenError("the chat template takes no system message; leave it out")
    is_first = pieces.assistant_to_system is None or len(contents) == 1
    text = pieces.open if system is None or not is_first else f"{pieces.open_system}{system}{pieces.system_to_user}"
    for place, content in enumerate(contents):
        if place % 2:
            text += pieces.user_to_assistant + content
        elif place == 0:
            text += content
        elif system is not None and not is_first and place == len(contents) - 1:
            text += f"{pieces.assistant_to_system}{system}{pieces.system_to_user}{content}"
        else:
            text += pieces.assistant_to_user + content
    return text + pieces.generation


def _content(pieces: Conversation, message: dict) -> str:
    role, content = message["role"], message["content"]
    if role == "assistant" and pieces.thinking == "cut" and THOUGHT in content:
        return TRIMS[pieces.after_thinking](content.rpartition(THOUGHT)[2])
    trim: Trim = {"system": pieces.system, "user": pieces.user, "assistant": pieces.assistant}[role]
    return TRIMS[trim](content)


def _pieces(write: Callable[[Messages], str]) -> Conversation:
    two = chat(None, QUESTIONS, ANSWERS)
    opening, answered, asked, generation = _between(write(two), [QUESTIONS[0], ANSWERS[0], QUESTIONS[1]])
    found = Conversation(open=opening, user_to_assistant=answered, assistant_to_user=asked, generation=generation)
    found = _with_system(found, write)
    systems = (None, SYSTEM) if found.open_system is not None else (None,)
    _hold(found, write, (chat(system, QUESTIONS[:turns], ANSWERS[: turns - 1]) for turns in (1, 2) for system in systems))
    plain = chat(SYSTEM if found.open_system is not None else None, QUESTIONS, ANSWERS)
    for role in dict.fromkeys(message["role"] for message in plain):
        loose = [message | {"content": LOOSE.format(message["content"])} if message["role"] == role else message for message in plain]
        found = _agreeing(found, [{role: trim} for trim in TRIMS], loose, write, f"the white space of a message of the {role}")
    thought = chat(None, QUESTIONS, (THINKING.format(ANSWERS[0]),))
    kinds = [{"thinking": "kept"}, *({"thinking": "cut", "after_thinking": trim} for trim in TRIMS)]
    return _agreeing(found, kinds, thought, write, "the thoughts of an earlier answer")


def _with_system(found: Conversation, write: Callable[[Messages], str]) -> Conversation:
    """The same with the pieces around a system message; as it is where the template takes none."""
    try:
        one, two = (write(chat(SYSTEM, QUESTIONS[:turns], ANSWERS[: turns - 1])) for turns in (1, 2))
    except FirstTokenError:  # "System role not supported"
        return found
    if SYSTEM not in one:
        return found
    opening, after, _ = _between(one, [SYSTEM, QUESTIONS[0]])
    begun = found.model_copy(update={"open_system": opening, "system_to_user": after})
    if two.find(SYSTEM) < two.find(QUESTIONS[0]):
        return begun
    _, _, before_system, _, _ = _between(two, [QUESTIONS[0], ANSWERS[0], SYSTEM, QUESTIONS[1]])
    return begun.model_copy(update={"assistant_to_system": before_system})


def _between(text: str, contents: list[str]) -> list[str]:
    """What stands before, between and behind ``contents``, each of which has to be there once and in this order."""
    pieces: list[str] = []
    for content in contents:
        if (shown := text.count(content)) != 1:
            raise FirstTokenError(
                f"it shows a message of a conversation {shown} times, or in another place than the others"
                if pieces
                else f"it shows the first message of a conversation {shown} times"
            )
        piece, _, text = text.partition(content)
        pieces.append(piece)
    return [*pieces, text]


def _agreeing(found: Conversation, changes: list[dict], messages: Messages, write: Callable[[Messages], str], what: str) -> Conversation:
    """``found`` with the first of ``changes`` that writes ``messages`` as the template does."""
    wanted = write(messages)
    for change in changes:
        if write_conversation(tried := found.model_copy(update=change), messages) == wanted:
            return tried
    raise FirstTokenError(f"it changes {what} in a way that is not known")


def _hold(found: Conversation, write: Callable[[Messages], str], conversations: Iterable[Messages]) -> None:
    """Raises `FirstTokenError` where the pieces do not write a conversation as the template does."""
    for messages in conversations:
        if write_conversation(found, messages) != write(messages):
            last = visible(repr(messages[-1]["content"]), 40)
            asked = sum(message["role"] == "user" for message in messages)
            kind = f"{asked} question{'s' * (asked > 1)}" + (" with a system message" if messages[0]["role"] == "system" else "")
            raise FirstTokenError(f"it writes a conversation of {kind} otherwise than its parts (the one that ends with {last})")


def probes(with_system: bool) -> Iterator[Messages]:
    """Yields conversations of one turn to `MOST_TURNS`, with different contents in every place."""
    for number in range(len(ANSWERED)):
        for turns in range(1, MOST_TURNS + 1):
            asked = [ASKED[(number + turn) % len(ASKED)] for turn in range(turns)]
            answered = [ANSWERED[(number + turn) % len(ANSWERED)] for turn in range(turns - 1)]
            for system in SYSTEMS if with_system else SYSTEMS[:1]:
                yield chat(system, asked, answered)


def chat(system: str | None, asked: list[str] | tuple[str, ...], answered: list[str] | tuple[str, ...]) -> Messages:
    """The messages of a conversation: one question more than answers."""
    messages: Messages = [] if system is None else [{"role": "system", "content": system}]
    for place, question in enumerate(asked):
        messages.append({"role": "user", "content": question})
        if place < len(answered):
            messages.append({"role": "assistant", "content": answered[place]})
    return messages
