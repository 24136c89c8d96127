"""The special tokens that a checkpoint names beside ``tokenizer.json``, as transformers puts the files together.

Bundles, phones and other runtimes read ``tokenizer.json`` alone, so a token that only another file knows is refused by name.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firsttoken.checkpoint import read_json
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Engine

CONFIG_FILE, MAP_FILE, ADDED_FILE = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
DECODER = "added_tokens_decoder"  # of tokenizer_config.json; where it is, transformers reads neither of the other files
LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # which the library does not take for text
LISTS = ("additional_special_tokens", "extra_special_tokens")
MOST_DIGITS = 10  # of a token's number
# Names of tokens that no prompt and no answer holds: often added for training and never saved.
UNSPOKEN = ("pad_token", "unk_token", "sep_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class Declared:
    """A token that a file names; ``number`` is None where the file gives no id, ``special`` None where it does not say."""

    file: str
    text: str
    number: int | None = None
    special: bool | None = None


def merged_settings(folder: Path) -> dict:
    """``tokenizer_config.json`` with what ``special_tokens_map.json`` names, where transformers reads that too."""
    settings = read_json(folder / CONFIG_FILE, "") if (folder / CONFIG_FILE).exists() else {}
    if DECODER in settings or not (folder / MAP_FILE).exists():
        return settings
    return {**settings, **read_json(folder / MAP_FILE, "")}


def check_special_tokens(folder: Path, engine: "Engine") -> None:
    """Raises `FirstTokenError` for the first special token that ``tokenizer.json`` does not know, or knows as something else."""
    added = {token.content: (number, token.special) for number, token in engine.get_added_tokens_decoder().items()}
    settings = merged_settings(folder)
    silent = {text_of(settings.get(name)) for name in UNSPOKEN} - {text_of(settings.get(name)) for name in ("bos_token", "eos_token")}
    for token in declared(folder, settings):
        if token.text in silent:
            continue
        found = added.get(token.text)
        if found is None:
            ordinary = None if LONE_SURROGATE.search(token.text) else engine.token_to_id(token.text)
            knows = "does not know it" if ordinary is None else f"has it as the ordinary token {ordinary}"
        elif token.number is not None and found[0] != token.number:
            knows = f"has it as token {found[0]}"
        elif token.special and not found[1]:
            knows = "has it as ordinary text"
        else:
            continue
        number = "" if token.number is None else f" ({token.number})"
        raise FirstTokenError(
            f"{folder / token.file}: names the special token {visible(repr(token.text), 80)}{number}, but tokenizer.json {knows}; "
            "a bundle has only tokenizer.json, so write it again with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )


def declared(folder: Path, settings: dict) -> Iterator[Declared]:
    """Yields every special token that the files beside ``tokenizer.json`` name and transformers would read."""
    own = settings.get(DECODER)
    if isinstance(own, dict):
        for number, token in own.items():
            if (text := text_of(token)) is not None and number.isdecimal() and number.isascii() and len(number) < MOST_DIGITS:
                yield Declared(CONFIG_FILE, text, int(number), bool(token.get("special")) if isinstance(token, dict) else None)
    elif (folder / ADDED_FILE).exists():
        for text, added in read_json(folder / ADDED_FILE, "").items():
            if type(added) is not int:
                raise FirstTokenError(
                    f"{folder / ADDED_FILE}: token {visible(repr(text), 80)} has no whole number; copy the file again from the model's page"
                )
            yield Declared(ADDED_FILE, text, added)
    in_map = read_json(folder / MAP_FILE, "") if own is None and (folder / MAP_FILE).exists() else {}
    for name, value in settings.items():
        file = MAP_FILE if name in in_map else CONFIG_FILE
        if name in LISTS:
            listed = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
            yield from (Declared(file, text, special=True) for token in listed if (text := text_of(token)))
        elif name in ("bos_token", "eos_token") and (text := text_of(value)):
            yield Declared(file, text, special=True)


def text_of(token: Any) -> str | None:
    """The text of a token given as text, or as the object that these files may hold."""
    value = token.get("content") if isinstance(token, dict) else token
    return value if isinstance(value, str) else None
