"""What a GGUF file says about its tokens: texts, kinds, merges or scores, and which of them mean something. Checked, not yet a tokenizer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

import numpy as np

from firsttoken.errors import FirstTokenError
from firsttoken.gguf_file.header import Header
from firsttoken.safe_text import visible

# llama.cpp's kinds of tokens
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
KINDS = (NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE)
# Keys behind "tokenizer.ggml." that are read here or in `tokenizer_json`, and those that say nothing about encoding and decoding.
READ = frozenset(
    ["model", "pre", "tokens", "token_type", "scores", "merges", "add_bos_token", "add_eos_token", "add_space_prefix", "bos_token_id", "eos_token_id", "eot_token_id", "eom_token_id", "unknown_token_id", "padding_token_id"]
)  # fmt: skip
INERT = frozenset(
    ["seperator_token_id", "separator_token_id", "cls_token_id", "mask_token_id", "prefix_token_id", "suffix_token_id", "middle_token_id", "fim_pre_token_id", "fim_suf_token_id", "fim_mid_token_id", "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id", "escape_whitespaces", "token_type_count", "add_sep_token"]
)  # fmt: skip


@dataclass(frozen=True)
class Vocabulary:
    """``tokens`` by their numbers; ``kinds`` as llama.cpp numbers them. ``merges`` and ``scores`` are empty where the file has none."""

    path: Path
    model: str
    pre: str | None
    tokens: list[str]
    kinds: np.ndarray
    merges: list[str]
    scores: np.ndarray
    settings: dict[str, Any]
    chat_template: str | None

    def refuse(self, what: str) -> Never:
        raise FirstTokenError(
            f"{self.path}: {what}; firsttoken cannot rebuild its tokenizer exactly, export from the original Hugging Face checkpoint instead"
        )

    def token(self, key: str) -> int | None:
        """The number of a token that the file names, as ``bos_token_id``. Raises `FirstTokenError` for one that the vocabulary does not have."""
        found = self.settings.get(key)
        if found is None:
            return None
        if type(found) is not int or not 0 <= found < len(self.tokens):
            self.refuse(f"tokenizer.ggml.{key} is {visible(repr(found))}, expected a token from 0 to {len(self.tokens) - 1}")
        return found

    def flag(self, key: str, default: bool) -> bool:
        found = self.settings.get(key, default)
        if not isinstance(found, bool):
            self.refuse(f"tokenizer.ggml.{key} is {visible(repr(found))}, expected true or false")
        return found

    def of_kind(self, *kinds: int) -> list[int]:
        return np.flatnonzero(np.isin(self.kinds, kinds)).tolist()


def read_vocabulary(path: Path, header: Header) -> Vocabulary:
    """Raises `FirstTokenError` for parts that are absent, do not fit together, or that nobody here understands."""
    start = "tokenizer.ggml."
    settings = {key.removeprefix(start): value for key, value in header.metadata.items() if key.startswith(start)}
    tokens, model, pre = settings.get("tokens"), settings.get("model"), settings.get("pre")
    if not isinstance(tokens, list) or not tokens or not isinstance(tokens[0], str):
        raise FirstTokenError(
            f"{path}: has no tokenizer (tokenizer.ggml.tokens); the tokenizer is part of every bundle, take a complete file"
        )
    kinds = settings.get("token_type", np.full(len(tokens), NORMAL))
    merges, scores = settings.get("merges", []), settings.get("scores", np.zeros(0, np.float32))
    template = header.metadata.get("tokenizer.chat_template")
    found = Vocabulary(path, str(model), pre, tokens, kinds, merges, scores, settings, template if isinstance(template, str) else None)
    if not isinstance(pre, str | None):
        found.refuse(f"tokenizer.ggml.pre is {visible(repr(pre))}")
    for key, value in settings.items():
        says = len(value) > 0 if isinstance(value, list | np.ndarray) else value not in (0, False, "")
        if says and key not in READ and key not in INERT:
            found.refuse(f"metadata {visible(start + key)!r} may change how text is cut into tokens")
    if not isinstance(kinds, np.ndarray) or kinds.dtype.kind not in "iu" or len(kinds) != len(tokens) or not np.isin(kinds, KINDS).all():
        found.refuse(f"tokenizer.ggml.token_type does not give one kind from 1 to 6 to each of {len(tokens)} tokens")
    if not isinstance(scores, np.ndarray) or (len(scores) and (len(scores) != len(tokens) or not np.isfinite(scores).all())):
        found.refuse(f"tokenizer.ggml.scores does not give one number to each of {len(tokens)} tokens")
    if not isinstance(merges, list) or not all(isinstance(merge, str) for merge in merges):
        found.refuse("tokenizer.ggml.merges is no list of texts")
    used = [token for token, kind in zip(tokens, kinds, strict=True) if kind != UNUSED]
    if len(set(used)) != len(used):
        found.refuse("two of its tokens have the same text")
    return found
