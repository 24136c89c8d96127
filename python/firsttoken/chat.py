"""Chat templates, rendered on the host: what goes before and after one user turn, and between the turns of a conversation.

Templates are Jinja programs that come with the checkpoint, so they run in a sandbox and in a process of their own
(`template_worker`). A phone needs no Jinja: it gets two affixes, and the pieces of `conversation`.
"""

from pathlib import Path
from typing import Any

from firsttoken import plain_file
from firsttoken.bundle.chat_facts import Affix, Chat
from firsttoken.conversation import find_conversation
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible
from firsttoken.template_process import rendered
from firsttoken.tokenizer import Tokenizer

SENTINEL = "firsttokenUserTurn"


def chat_affixes(folder: str | Path, tokenizer: Tokenizer) -> Chat | None:
    """Returns the text and tokens around one user turn, with the pieces of longer conversations, or None where the checkpoint has no chat template.

    The template is rendered with a single user message and ``add_generation_prompt``; then with probe conversations. Raises `FirstTokenError` for a
    template that fails or does not show the message exactly once.
    """
    template = read_template(Path(folder), tokenizer.settings)
    if template is None:
        return None
    text = render(template, [{"role": "user", "content": SENTINEL}], tokenizer.settings)
    parts = text.split(SENTINEL)
    if len(parts) != 2:
        raise FirstTokenError(
            f"checkpoint {folder}: the chat template shows the user's message {len(parts) - 1} times, expected once; "
            "correct chat_template in tokenizer_config.json, or take it out to export without chat"
        )
    prefix, suffix = (Affix(text=part, tokens=tokenizer.encode(part, begin=False)) for part in parts)
    conversation, refused = find_conversation(lambda messages: render(template, messages, tokenizer.settings))
    return Chat(prefix=prefix, suffix=suffix, conversation=conversation, conversation_refused=refused)


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


def render(template: str, messages: list[dict], settings: dict, add_generation_prompt: bool = True) -> str:
    """Renders a chat template as transformers does. Raises `FirstTokenError` if it fails."""
    special = {name: _text(settings[name]) for name in settings if name.endswith("_token") and _text(settings[name]) is not None}
    values = {"messages": messages, "add_generation_prompt": add_generation_prompt, "tools": None, "documents": None, **special}
    return rendered(template, values)


def _text(token: Any) -> str | None:
    value = token.get("content") if isinstance(token, dict) else token
    return value if isinstance(value, str) else None
