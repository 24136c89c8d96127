"""Chat templates, rendered on the host: what goes before and after one user turn, and between the turns of a conversation.

Templates are Jinja programs that come with the checkpoint, so they run in a sandbox and in a process of their own
(`template_worker`). A phone needs no Jinja: it gets two affixes, and the pieces of `conversation`.
"""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from firsttoken import plain_file
from firsttoken.bundle.chat_facts import Affix, Chat, Trim
from firsttoken.conversation import ASKED, LOOSE, TRIMS, find_conversation
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible
from firsttoken.special_tokens import text_of
from firsttoken.template_process import rendered_on
from firsttoken.tokenizer import Tokenizer

SENTINEL = "firsttokenUserTurn"


def chat_affixes(folder: str | Path, tokenizer: Tokenizer, today: date | None = None) -> Chat | None:
    """Returns the text and tokens around one user turn, with the pieces of longer conversations, or None where the checkpoint has no chat template.

    The template is rendered with a single user message and ``add_generation_prompt``; then with probe conversations; all on the day ``today`` (default:
    this one), which is noted where the template asks for the date. Raises `FirstTokenError` for a template that fails, does not show the message exactly
    once, or changes it otherwise than by white space at its ends.
    """
    template = read_template(Path(folder), tokenizer.settings)
    if template is None:
        return None
    day, dated = today or date.today(), False

    def write(messages: list[dict]) -> str:
        nonlocal dated
        text, asked = rendered_on(template, template_values(messages, tokenizer.settings), day)
        dated = dated or asked
        return text

    parts = write([{"role": "user", "content": SENTINEL}]).split(SENTINEL)
    if len(parts) != 2:
        raise FirstTokenError(
            f"checkpoint {folder}: the chat template shows the user's message {len(parts) - 1} times, expected once; "
            "correct chat_template in tokenizer_config.json, or take it out to export without chat"
        )
    prefix, suffix = (Affix(text=part, tokens=tokenizer.encode(part, begin=False)) for part in parts)
    trim = _trim(folder, parts, write)
    conversation, refused = find_conversation(write)
    return Chat(
        prefix=prefix,
        suffix=suffix,
        trim=trim,
        conversation=conversation,
        conversation_refused=refused,
        rendered_on=day.isoformat() if dated else None,
    )


def _trim(folder: str | Path, parts: list[str], write: Callable[[list[dict]], str]) -> Trim:
    """Which white space of the user's message the template leaves out. Raises `FirstTokenError` for one that changes it in another way."""
    prefix, suffix = parts

    def keeps(trim: Trim, content: str) -> bool:
        return write([{"role": "user", "content": content}]) == prefix + TRIMS[trim](content) + suffix

    trim = next((trim for trim in TRIMS if keeps(trim, LOOSE.format(SENTINEL))), None)
    changed = LOOSE.format(SENTINEL) if trim is None else next((content for content in ASKED if not keeps(trim, content)), None)
    if trim is None or changed is not None:
        raise FirstTokenError(
            f"checkpoint {folder}: the chat template writes the user's message {visible(repr(changed), 60)} otherwise than with white space left out at its "
            "ends, which a phone cannot do without Jinja; correct chat_template in tokenizer_config.json, or take it out to export without chat"
        )
    return trim


def read_template(folder: Path, settings: dict) -> str | None:
    """Returns the default chat template of a checkpoint, from its own file or ``tokenizer_config.json``."""
    path = folder / "chat_template.jinja"
    if path.exists():
        try:
            return plain_file.read_text(path)
        except (OSError, UnicodeDecodeError) as error:
            raise FirstTokenError(f"{path}: cannot be read ({visible(plain_file.why(error))})") from None
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = {
            entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict) and isinstance(entry.get("name"), str)
        }
        template = named.get("default", next(iter(named.values()), None))
    return template if isinstance(template, str) and template.strip() else None


def render(template: str, messages: list[dict], settings: dict, add_generation_prompt: bool = True, today: date | None = None) -> str:
    """Renders a chat template as transformers does, on the day ``today`` or now. Raises `FirstTokenError` if it fails."""
    return rendered_on(template, template_values(messages, settings, add_generation_prompt), today)[0]


def template_values(messages: list[dict], settings: dict, add_generation_prompt: bool = True) -> dict[str, Any]:
    """What a template may look at: the messages, and the special tokens by their names."""
    special = {name: text for name in settings if name.endswith("_token") and (text := text_of(settings[name])) is not None}
    return {"messages": messages, "add_generation_prompt": add_generation_prompt, "tools": None, "documents": None, **special}
