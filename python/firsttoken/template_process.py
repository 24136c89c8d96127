"""Asking the process that renders chat templates (`template_worker`)."""

from datetime import date
from typing import Any

from firsttoken.errors import FirstTokenError
from firsttoken.kept_process import EndedError, KeptProcess
from firsttoken.safe_text import visible
from firsttoken.template_limits import SECONDS

ADVICE = "correct chat_template in tokenizer_config.json, or take it out to export without chat"
RENDERER = KeptProcess("firsttoken.template_worker", SECONDS)


def rendered(template: str, values: dict[str, Any]) -> str:
    """Returns the template's text for ``values``. Raises `FirstTokenError` for one that fails, does not end or wants too much."""
    return rendered_on(template, values, None)[0]


def rendered_chats(template: str, values: dict[str, Any], chats: list[dict[str, Any]]) -> list[list[str] | dict[str, str]]:
    """Returns for each chat (``messages``, ``tools``, and ``asked``: how many of the messages, and whether the prompt for an answer follows) its texts
    in the order asked, or an ``error``.
    """
    try:
        said = RENDERER.ask({"template": template, "values": values, "chats": chats})
    except EndedError as error:
        if len(chats) == 1:
            return [{"error": str(error)}]
        return [answer for chat in chats for answer in rendered_chats(template, values, [chat])]
    if "chats" not in said:
        return [{"error": str(said.get("error"))}] * len(chats)
    answers: list[list[str] | dict[str, str]] = said["chats"]
    return answers


def rendered_on(template: str, values: dict[str, Any], today: date | None) -> tuple[str, bool]:
    """The same on the day ``today`` (None: now), and whether the template asked for the date."""
    try:
        said = RENDERER.ask({"template": template, "values": values, "today": today and today.isoformat()})
    except EndedError as error:
        raise FirstTokenError(f"the chat template cannot be rendered ({error}); {ADVICE}") from None
    if "text" not in said:
        raise FirstTokenError(f"the chat template cannot be rendered ({visible(said.get('error'))}); {ADVICE}")
    return said["text"], said["dated"]
