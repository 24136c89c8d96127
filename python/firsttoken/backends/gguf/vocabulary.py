"""A checkpoint's ``tokenizer.json`` as a GGUF file's vocabulary, the other way round than `gguf_file.tokenizer_json` reads one.

llama.cpp cuts text by a rule of its own code, which the file names (``tokenizer.ggml.pre``); a wrong name is no error there, only another text. So
the rule is found by comparing the whole of what ``tokenizer.json`` does before merging with what each name means, and what was written is read
again, rebuilt, and held against the original on texts that are hard to cut (`probes`). What stays in doubt is refused by name.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Never

import numpy as np
from tokenizers import Tokenizer as Engine

from firsttoken.backends.gguf.probes import different
from firsttoken.chat import read_template
from firsttoken.checkpoint import read_json
from firsttoken.errors import FirstTokenError
from firsttoken.gguf_file.tokenizer_json import PRE, SPACE, tokenizer_files
from firsttoken.gguf_file.vocabulary import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, Vocabulary
from firsttoken.plain_file import TOKENIZER_BYTES
from firsttoken.safe_text import visible
from firsttoken.special_tokens import text_of
from firsttoken.tokenizer import TOKENIZER_FILE, Tokenizer

IDLE = {"trim_offsets", "add_prefix_space"}  # parameters of ByteLevel that change no token where they are false or say offsets alone
PADDING = "[PAD{}]"
ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")


def vocabulary(folder: Path, rows: int, begin: int | None, ends: Sequence[int], file: Path) -> Vocabulary:
    """What a GGUF ``file`` says of the tokenizer in ``folder``, with tokens for all ``rows`` of the embedding; ``begin`` and ``ends`` as `LoweringJob` has them.

    Raises `FirstTokenError` for a tokenizer that llama.cpp would not cut text as.
    """
    tokenizer = Tokenizer(folder)
    values = read_json(folder / TOKENIZER_FILE, "copy it from the model's page", TOKENIZER_BYTES)
    model = values.get("model") or {}
    if model.get("type", "BPE") != "BPE" or any(model.get(key) for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix")):
        _refuse(folder, f"a tokenizer of the kind {visible(repr(model.get('type')), 40)}; expected byte-level BPE, or SentencePiece's BPE")
    tokens, kinds = _tokens(values, rows)
    settings = _settings(tokenizer, tokens, begin, ends)
    template = read_template(folder, tokenizer.settings)
    if byte_level(values):
        pre = rule(folder, values)
        pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
        found = Vocabulary(file, "gpt2", pre, tokens, kinds, pairs, np.zeros(0, np.float32), settings, template)
    else:
        settings["add_space_prefix"] = space_prefix(folder, values)
        unknown = model.get("unk_token")
        for number, token in enumerate(tokens):
            if len(token) == 6 and token.startswith("<0x") and token.endswith(">") and kinds[number] == NORMAL:
                kinds[number] = BYTE
            elif token == unknown:
                kinds[number], settings["unknown_token_id"] = UNKNOWN, number
        found = Vocabulary(file, "llama", "default", tokens, kinds, [], _scores(model, tokens), settings, template)
    check_rebuilt(folder, found, tokenizer, len(model["merges"]))
    return found


def _refuse(folder: Path, what: str) -> Never:
    raise FirstTokenError(f"{folder / TOKENIZER_FILE}: {what}; llama.cpp would cut text otherwise, so no GGUF file is written")


def _tokens(values: dict, rows: int) -> tuple[list[str], np.ndarray]:
    """Texts and kinds by number; what the embedding has rows for and the tokenizer no token is unused, as in llama.cpp's own files."""
    tokens, kinds = [PADDING.format(number) for number in range(rows)], np.full(rows, UNUSED, np.int32)
    for token, number in values["model"]["vocab"].items():
        tokens[number], kinds[number] = token, NORMAL
    for added in values.get("added_tokens") or []:
        tokens[added["id"]], kinds[added["id"]] = added["content"], CONTROL if added.get("special") else USER_DEFINED
    return tokens, kinds


def _settings(tokenizer: Tokenizer, tokens: list[str], begin: int | None, ends: Sequence[int]) -> dict[str, Any]:
    """The tokens that mean something. The end token that the checkpoint names comes first; llama.cpp stops at each of them."""
    named = {key: tokenizer.token_id(text_of(tokenizer.settings.get(name))) for key, name in NAMED.items()}
    main = named.pop("eos_token_id")
    ordered = sorted(ends, key=lambda end: (end != main, end))
    settings: dict[str, Any] = {key: number for key, number in named.items() if number is not None and number < len(tokens)}
    settings |= dict(zip(ENDS, ordered, strict=False))
    begin = tokenizer.begin if begin is None else begin
    if begin is not None:
        settings["bos_token_id"] = begin
    return {**settings, "add_bos_token": tokenizer.begin is not None, "add_eos_token": False}


NAMED = {"eos_token_id": "eos_token", "padding_token_id": "pad_token", "unknown_token_id": "unk_token"}


def byte_level(values: dict) -> bool:
    """Whether text is bytes before it is merged."""
    return any(step.get("type") == "ByteLevel" for step in steps(values.get("pre_tokenizer"), "pretokenizers"))


def steps(step: dict | None, inside: str) -> list[dict]:
    """The steps of a tokenizer's part, one behind the other, without what changes no token."""
    if step is None:
        return []
    if step.get("type") == "Sequence":
        return [one for part in step[inside] for one in steps(part, inside)]
    return [{key: value for key, value in step.items() if not (key in IDLE and (key == "trim_offsets" or value is False))}]


def rule(folder: Path, values: dict) -> str:
    """The name under which llama.cpp cuts text as this ``tokenizer.json`` does. Raises `FirstTokenError` where no name does."""
    cut, normal = steps(values.get("pre_tokenizer"), "pretokenizers"), steps(values.get("normalizer"), "normalizers")
    whole = bool(values["model"].get("ignore_merges"))
    for name, (before, normalizer, whole_words, _) in PRE.items():
        same = [one for part in before for one in steps(part, "pretokenizers")] == cut
        if same and normal in ([], steps(normalizer, "normalizers")) and whole == whole_words:
            return name
    shown = visible(json.dumps({"normalizer": normal, "pre_tokenizer": cut, "ignore_merges": whole}, ensure_ascii=False), 300)
    _refuse(folder, f"cuts text before merging by a rule that none of {', '.join(PRE)} is ({shown})")


def space_prefix(folder: Path, values: dict) -> bool:
    """Whether SentencePiece writes a space before every text. Raises `FirstTokenError` for what does more than that to a text."""
    spaces = [{"type": "Replace", "pattern": {"String": " "}, "content": SPACE}]
    normal, cut = steps(values.get("normalizer"), "normalizers"), steps(values.get("pre_tokenizer"), "pretokenizers")
    before = [{"type": "Prepend", "prepend": SPACE}]
    # a text without spaces left cannot be cut at them
    if cut == [{"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}]:
        cut = []
    if cut == [] and normal in (spaces, before + spaces):
        return normal != spaces
    shown = visible(json.dumps({"normalizer": normal, "pre_tokenizer": cut}, ensure_ascii=False), 300)
    _refuse(folder, f"does more to a text than SentencePiece's spaces ({shown})")


def _scores(model: dict, tokens: list[str]) -> np.ndarray:
    """A score for every token, so that the piece with the highest one is the next that is merged: minus its first merge's place. What no merge
    makes comes behind."""
    places: dict[str, int] = {}
    for pair in model["merges"]:
        left, right = pair.split(" ", 1) if isinstance(pair, str) else pair
        places.setdefault(left + right, len(places))
    return np.array([-places.get(token, len(places) + number) for number, token in enumerate(tokens)], np.float32)


def check_rebuilt(folder: Path, found: Vocabulary, tokenizer: Tokenizer, merges: int) -> None:
    """Raises `FirstTokenError` unless what a reader of the file rebuilds cuts every probe as the original does."""
    documents = tokenizer_files(found)
    rebuilt = Engine.from_str(json.dumps(documents[TOKENIZER_FILE]))
    if len(found.scores) and len(documents[TOKENIZER_FILE]["model"]["merges"]) != merges:
        _refuse(
            folder,
            f"merges in {merges} ways, and SentencePiece would in {len(documents[TOKENIZER_FILE]['model']['merges'])}, of the same pieces",
        )
    other = different(tokenizer, lambda text: rebuilt.encode(text, add_special_tokens=False).ids)
    if other is not None:
        _refuse(folder, f"is not rebuilt out of what a GGUF file holds of it: {other}")
