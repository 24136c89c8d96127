"""A GGUF file's vocabulary as ``tokenizer.json`` and ``tokenizer_config.json``, which cut text as the original files do.

Two kinds can be rebuilt: byte-level BPE, where the file names the rule that cuts text before merging, and SentencePiece's BPE, whose merges
follow from its scores. Whatever leaves a doubt is refused by name.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from firsttoken.gguf_file.vocabulary import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, Vocabulary
from firsttoken.safe_text import visible

SPACE = "\u2581"  # SentencePiece's
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + REST


def _byte_level(use_regex: bool) -> dict:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _split(pattern: str) -> list[dict]:
    return [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}, _byte_level(False)]


DIGITS = [{"type": "Digits", "individual_digits": True}, _byte_level(True)]
# tokenizer.ggml.pre -> how the original tokenizer.json cuts text before merging, its normalizer, whether it takes whole words first, and
# whether texts begin with the begin token where the file does not say
PRE: dict[str, tuple[list[dict], dict | None, bool, bool]] = {
    "gpt-2": ([_byte_level(True)], None, False, False),
    "smollm": (DIGITS, None, False, False),
    "starcoder": (DIGITS, None, False, False),
    "refact": (DIGITS, None, False, False),  # Granite's; llama.cpp cuts alike by this name, smollm and starcoder (src/llama-vocab.cpp)
    "llama-bpe": (_split(LLAMA3), None, True, True),
    "qwen2": (_split(QWEN2), {"type": "NFC"}, False, False),
}


def tokenizer_files(words: Vocabulary) -> dict[str, dict[str, Any]]:
    """Returns the JSON documents of a tokenizer by file name. Raises `FirstTokenError` for a kind that cannot be rebuilt exactly."""
    if words.flag("add_eos_token", False):
        words.refuse("tokenizer.ggml.add_eos_token is true: texts would end before the answer begins")
    if words.model == "gpt2":
        made, begins = _byte_level_bpe(words)
    elif words.model == "llama":
        made, begins = _sentencepiece_bpe(words), True
    else:
        words.refuse(f"its tokenizer is of the kind {visible(repr(words.model))}, expected 'gpt2' or 'llama'")
    begin = words.token("bos_token_id")
    begins = words.flag("add_bos_token", begins and begin is not None)
    if begins:
        if begin is None:
            words.refuse("tokenizer.ggml.add_bos_token is true, but no begin token is named (tokenizer.ggml.bos_token_id)")
        token = words.tokens[begin]
        first = {"SpecialToken": {"id": token, "type_id": 0}}
        pair = [first, *({"Sequence": {"id": name, "type_id": n}} for n, name in enumerate("AB"))]
        made["post_processor"] = {
            "type": "TemplateProcessing",
            "single": pair[:2],
            "pair": pair,
            "special_tokens": {token: {"id": token, "ids": [begin], "tokens": [token]}},
        }
    return {"tokenizer.json": made, "tokenizer_config.json": _settings(words, begins), "generation_config.json": _ends(words)}


def _settings(words: Vocabulary, begins: bool) -> dict[str, Any]:
    named = {"bos_token": "bos_token_id", "eos_token": "eos_token_id", "unk_token": "unknown_token_id", "pad_token": "padding_token_id"}
    settings: dict[str, Any] = {name: words.tokens[at] for name, key in named.items() if (at := words.token(key)) is not None}
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": begins, "clean_up_tokenization_spaces": False}
    return settings | ({"chat_template": words.chat_template} if words.chat_template else {})


def _ends(words: Vocabulary) -> dict[str, Any]:
    ends = [at for key in ("eos_token_id", "eot_token_id", "eom_token_id") if (at := words.token(key)) is not None]
    found: dict[str, Any] = {"eos_token_id": sorted(set(ends))} if ends else {}
    return found | ({} if (begin := words.token("bos_token_id")) is None else {"bos_token_id": begin})


def _document(words: Vocabulary, special: list[int], model: dict[str, Any], **steps: Any) -> dict[str, Any]:
    added = sorted([*special, *words.of_kind(USER_DEFINED)])
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": n, "content": words.tokens[n], **flags, "special": n in set(special)} for n in added],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        **steps,
        "model": {"type": "BPE", "dropout": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, **model},
    }


def _byte_level_bpe(words: Vocabulary) -> tuple[dict[str, Any], bool]:
    pre = words.pre
    if pre not in PRE:
        why = "'default' means that its converter did not know it" if pre == "default" else f"known are {', '.join(PRE)}"
        words.refuse(f"its rule for cutting text (tokenizer.ggml.pre) is {visible(repr(pre))}: {why}")
    if bytes_ := words.of_kind(BYTE):
        words.refuse(f"token {bytes_[0]} is a single byte, which byte-level BPE has no use for")
    cut, normalizer, whole_words, begins = PRE[pre]
    pairs = [merge.split(" ") for merge in words.merges]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        words.refuse("tokenizer.ggml.merges does not give pairs of tokens with a space between")
    # unused tokens fill the vocabulary up to the weights' rows; the original tokenizer does not have them
    vocabulary = {token: n for n, (token, kind) in enumerate(zip(words.tokens, words.kinds, strict=True)) if kind != UNUSED}
    absent = next((pair for pair in pairs if not {*pair, "".join(pair)} <= vocabulary.keys()), None)
    if absent:
        words.refuse(f"the merge {visible(repr(' '.join(absent)))} is of tokens that the vocabulary does not have")
    model = {
        "unk_token": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": whole_words,
        "vocab": vocabulary,
        "merges": pairs,
    }
    made = _document(
        words,
        words.of_kind(CONTROL, UNKNOWN),
        model,
        normalizer=normalizer,
        pre_tokenizer=cut[0] if len(cut) == 1 else {"type": "Sequence", "pretokenizers": cut},
        decoder=_byte_level(True),
    )
    return made, begins


def _sentencepiece_bpe(words: Vocabulary) -> dict[str, Any]:
    if not len(words.scores):
        words.refuse("a SentencePiece vocabulary without scores (tokenizer.ggml.scores)")
    numbers = {words.tokens[n]: n for n in words.of_kind(NORMAL)}
    # what fills the vocabulary up to the weights' rows is made of no two pieces, and the original tokenizer does not have it
    if unused := [n for n in words.of_kind(UNUSED) if any(True for _ in cuts(words.tokens[n], numbers))]:
        words.refuse(f"token {unused[0]} of its SentencePiece vocabulary is unused, and may stand between two merges")
    if (unknown := words.token("unknown_token_id")) is None:
        unknown = next(iter(words.of_kind(UNKNOWN)), None)
    if unknown is None:
        words.refuse("its SentencePiece vocabulary names no unknown token")
    merges = _merges(words, numbers)
    bytes_ = len(words.of_kind(BYTE))
    if bytes_ not in (0, 256):
        words.refuse(f"{bytes_} of its tokens are bytes, expected 256 or none")
    prefix = words.flag("add_space_prefix", True)
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    back = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
    model = {
        "unk_token": words.tokens[unknown],
        "fuse_unk": True,
        "byte_fallback": bytes_ == 256,
        "ignore_merges": False,
        "vocab": {token: n for n, (token, kind) in enumerate(zip(words.tokens, words.kinds, strict=True)) if kind != UNUSED},
        "merges": merges,
    }
    return _document(
        words,
        words.of_kind(CONTROL, UNKNOWN),
        model,
        normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, spaces]} if prefix else spaces,
        decoder={"type": "Sequence", "decoders": [*back, *([{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else [])]},
    )


def _merges(words: Vocabulary, numbers: dict[str, int]) -> list[list[str]]:
    """SentencePiece merges the two neighbours whose joint piece has the highest score: sorted by it, all ways to a piece are the merges."""
    longer = [n for token, n in numbers.items() if len(token) > 1]
    scores = words.scores[longer]
    if len(np.unique(scores)) != len(longer):
        words.refuse(
            "its SentencePiece scores are not all different, so they do not say in which order pieces are merged (a unigram vocabulary?)"
        )
    found: list[list[str]] = []
    for place in np.argsort(-scores, kind="stable"):
        found += cuts(words.tokens[longer[place]], numbers)
    return found


def cuts(token: str, numbers: dict[str, int]) -> Iterator[list[str]]:
    """The two pieces of the vocabulary ``numbers`` that a token is made of, in every way."""
    both = ((token[:at], token[at:]) for at in range(1, len(token)))
    yield from ([left, right] for left, right in both if left in numbers and right in numbers)
