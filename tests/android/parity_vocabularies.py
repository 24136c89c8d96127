"""Tokenizers with the configuration of real families, trained here on Python's own library and on the text of `parity_lines`.

Each is the family's `tokenizer.json` in everything but vocabulary and merges: normalizer, split, flags, decoder, added tokens.
"""

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

QWEN2_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
VOCABULARY = 5000
QWEN35_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN_SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTRACTED = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K_SPLIT = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}]*[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]+{CONTRACTED}"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}]+[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]*{CONTRACTED}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CL100K_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DEEPSEEK_V3_SPLITS = (
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
# Letters with upper and lower case are named one by one there; these are the ranges of its first blocks.
DEEPSEEK_V2_SPLITS = (
    "[\r\n]",
    (
        r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝ"
        "\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe]+"
    ),
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
    r"\s+$",
    "[一-龥ࠀ-一가-퟿]+",
)
DEEPSEEK_CODER_SPLITS = ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+")


def split(expression: str, behavior: str = "Isolated", invert: bool = False) -> dict:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": behavior, "invert": invert}


def byte_level(use_regex: bool, prefix: bool = False) -> dict:
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use_regex}


def sequence(name: str, *steps: dict) -> dict:
    return {"type": "Sequence", name: list(steps)}


def added(content: str, special: bool = True, **flags) -> dict:
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special} | flags


def sentencepiece_decoder(strip: int) -> dict:
    steps = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
    return sequence("decoders", *steps, *([{"type": "Strip", "content": " ", "start": strip, "stop": 0}] if strip else []))


def trained(pre_tokenizer, text: list[str], special: list[str], alphabet: list[str] | None) -> dict:
    """Returns the model of a BPE tokenizer trained on ``text``; ``alphabet`` None: the most frequent characters only, the rest becomes bytes."""
    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizer
    few = {} if alphabet is not None else {"limit_alphabet": 300}
    engine.train_from_iterator(
        text,
        trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet or [], show_progress=False, **few),
    )
    return json.loads(engine.to_str())["model"]


def byte_level_file(text: list[str], pre_tokenizer: dict, tokens: list[dict], normalizer: dict | None = None, **flags) -> dict:
    # what is trained with is what is written, so the pieces of the merges are those of the split
    loaded = Tokenizer.from_str(json.dumps(json.loads(Tokenizer(models.BPE()).to_str()) | {"pre_tokenizer": pre_tokenizer}))
    model = trained(loaded.pre_tokenizer, text, [], pre_tokenizers.ByteLevel.alphabet())
    return whole(model | flags, tokens, normalizer, pre_tokenizer, byte_level(True))


def sentencepiece_file(text: list[str], tokens: list[dict], normalizer: dict | None, pre_tokenizer: dict | None, decoder: dict) -> dict:
    names = [token["content"] for token in tokens]
    written = [line.replace(" ", "▁") for line in text]
    model = trained(pre_tokenizers.Split(Regex("▁+[^▁]*"), "isolated"), written, names + [f"<0x{n:02X}>" for n in range(256)], None)
    return whole(model | {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}, tokens, normalizer, pre_tokenizer, decoder)


def whole(model: dict, tokens: list[dict], normalizer: dict | None, pre_tokenizer: dict | None, decoder: dict) -> dict:
    """Returns a tokenizer file; tokens that the vocabulary lacks get the ids after it, as the families have them."""
    free = max(model["vocab"].values()) + 1
    numbered = []
    for token in tokens:
        number = model["vocab"].get(token["content"])
        if number is None:
            number, free = free, free + 1
        numbered.append({"id": number} | token)
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": sorted(numbered, key=lambda token: token["id"]), "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": None, "decoder": decoder, "model": model,
    }  # fmt: skip


def qwen2(text: list[str]) -> dict:
    tokens = [added("<|endoftext|>"), added("<|im_start|>"), added("<|im_end|>"), added("<tool_call>", special=False)]
    return byte_level_file(text, sequence("pretokenizers", split(QWEN2_SPLIT), byte_level(False)), tokens, {"type": "NFC"})


def llama3(text: list[str]) -> dict:
    tokens = [added(f"<|{name}|>") for name in ("begin_of_text", "end_of_text", "start_header_id", "end_header_id", "eot_id")]
    return byte_level_file(text, sequence("pretokenizers", split(LLAMA3_SPLIT), byte_level(False)), tokens, ignore_merges=True)


def r1_distill_llama(text: list[str]) -> dict:
    tokens = [
        added("<｜begin▁of▁sentence｜>"),
        added("<｜User｜>", special=False),
        added("<think>", special=False),
        added("</think>", special=False),
    ]
    made = llama3(text)
    return made | {"added_tokens": whole(made["model"], tokens, None, None, {})["added_tokens"]}


def smollm(text: list[str]) -> dict:
    digits = {"type": "Digits", "individual_digits": True}
    return byte_level_file(
        text, sequence("pretokenizers", digits, byte_level(True)), [added("<|endoftext|>"), added("<|im_start|>"), added("<|im_end|>")]
    )


def gpt2(text: list[str]) -> dict:
    return byte_level_file(text, byte_level(True), [added("<|endoftext|>")])


def smollm2(text: list[str]) -> dict:
    """SmolLM2's: digits one by one, then GPT-2's pattern; more tokens than SmolLM's."""
    made = smollm(text)
    tokens = [
        added(name)
        for name in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>", "<gh_stars>")
    ]
    return made | {"added_tokens": whole(made["model"], tokens, None, None, {})["added_tokens"]}


def tekken(text: list[str]) -> dict:
    tokens = [added(name) for name in ("<unk>", "<s>", "</s>", "[INST]", "[/INST]")]
    return byte_level_file(text, sequence("pretokenizers", split(TEKKEN_SPLIT), byte_level(False)), tokens, ignore_merges=True)


def o200k(text: list[str]) -> dict:
    tokens = [added(name) for name in ("<|startoftext|>", "<|endoftext|>", "<|return|>", "<|start|>", "<|message|>")]
    return byte_level_file(
        text, sequence("pretokenizers", split(O200K_SPLIT, "Removed", True), byte_level(False)), tokens, ignore_merges=True
    )


def qwen35(text: list[str]) -> dict:
    """Qwen3.5's: marks go with letters."""
    tokens = [
        added("<|endoftext|>"),
        added("<|im_start|>"),
        added("<|im_end|>"),
        added("<tool_call>", special=False),
        added("<think>", special=False),
    ]
    return byte_level_file(text, sequence("pretokenizers", split(QWEN35_SPLIT), byte_level(False)), tokens, {"type": "NFC"})


def r1_distill_qwen(text: list[str]) -> dict:
    """R1-Distill-Qwen's: Qwen's pattern and normalizer, DeepSeek's tokens."""
    made = qwen2(text)
    return made | {"added_tokens": whole(made["model"], deepseek_tokens(), None, None, {})["added_tokens"]}


def phi4(text: list[str]) -> dict:
    tokens = [added(name, rstrip=True, lstrip=True) for name in ("<|endoftext|>", "<|im_start|>", "<|im_sep|>", "<|im_end|>")]
    return byte_level_file(text, sequence("pretokenizers", split(CL100K_SPLIT, "Removed", True), byte_level(False)), tokens)


def deepseek_tokens() -> list[dict]:
    marks = [added(f"<｜{name}｜>") for name in ("begin▁of▁sentence", "end▁of▁sentence", "▁pad▁")]
    return [*marks, *(added(name, special=False) for name in ("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"))]


def deepseek_v3(text: list[str]) -> dict:
    steps = (*map(split, DEEPSEEK_V3_SPLITS), byte_level(False))
    return byte_level_file(text, sequence("pretokenizers", *steps), deepseek_tokens(), sequence("normalizers"))


def deepseek_v2(text: list[str]) -> dict:
    digits = {"type": "Digits", "individual_digits": True}
    return byte_level_file(text, sequence("pretokenizers", *map(split, DEEPSEEK_V2_SPLITS), digits, byte_level(False)), deepseek_tokens())


def deepseek_coder(text: list[str]) -> dict:
    digits = {"type": "Digits", "individual_digits": True}
    return byte_level_file(
        text, sequence("pretokenizers", *map(split, DEEPSEEK_CODER_SPLITS), digits, byte_level(False)), deepseek_tokens()
    )


def gemma(text: list[str]) -> dict:
    """Gemma's: spaces become ▁ before anything is cut, and the text is then split at none that is left."""
    tokens = [
        added("<pad>"),
        added("<eos>"),
        added("<bos>"),
        added("<unk>"),
        added("<start_of_turn>"),
        added("<end_of_turn>"),
        added("\n\n", special=False),
    ]
    normalizer = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    merged = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    return sentencepiece_file(text, tokens, normalizer, merged, sentencepiece_decoder(0))


def phi3(text: list[str]) -> dict:
    """Phi-3's: Llama 2's, and tokens that take the spaces after them."""
    tokens = [
        added("<unk>"),
        added("<s>"),
        added("</s>", special=False, rstrip=True),
        *(added(f"<|{name}|>", rstrip=True) for name in ("system", "user", "end")),
    ]
    made = llama2(text)
    return made | {"added_tokens": whole(made["model"], tokens, None, None, {})["added_tokens"]}


def llama2(text: list[str]) -> dict:
    normalizer = sequence(
        "normalizers", {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    )
    return sentencepiece_file(text, [added("<unk>"), added("<s>"), added("</s>")], normalizer, None, sentencepiece_decoder(1))


def mistral(text: list[str]) -> dict:
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    return sentencepiece_file(
        text, [added("<unk>"), added("<s>"), added("</s>"), added("[INST]"), added("[/INST]")], None, metaspace, sentencepiece_decoder(1)
    )


def odd(text: list[str]) -> dict:
    """No family's: the settings that the others leave out, so that none of them is only believed to work."""
    tokens = [
        added("<|left|>", lstrip=True), added("<|right|>", rstrip=True), added("import", special=False, single_word=True),
        added("é!", special=False, normalized=True), added("<|left|><|right|>", special=False), added("the ", special=False, normalized=True, lstrip=True),
    ]  # fmt: skip
    steps = (
        split(r"\s*-+", "MergedWithPrevious"), split("[A-Z]{2,}", "MergedWithNext"), split(r"\p{N}", "Contiguous"), split(r"[^\x{0}-\x{8}]+", "Removed", True),
        split(QWEN2_SPLIT, "Removed", True), byte_level(True, prefix=True),
    )  # fmt: skip
    return byte_level_file(text, sequence("pretokenizers", *steps), tokens, {"type": "NFKC"})


def metaspace(text: list[str]) -> dict:
    """Metaspace in normalizer's and decoder's place, as older SentencePiece conversions have it."""
    scheme = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    return sentencepiece_file(text, [added("<unk>"), added("<s>", normalized=True), added("</s>")], None, scheme, scheme)


KINDS = (
    gpt2, smollm2, tekken, o200k, qwen2, qwen35, deepseek_v3, deepseek_v2, deepseek_coder, llama3, r1_distill_llama, r1_distill_qwen, gemma, phi3, phi4,
    llama2, mistral,
)  # fmt: skip
FAMILIES = {made.__name__: made for made in (*KINDS, metaspace, odd)}


def training_text(lines: list[str]) -> list[str]:
    """Python's own library, which every machine has, and the lines themselves."""
    import json as package

    folder = Path(package.__file__).parent.parent
    files = sorted(folder.glob("*.py"))[:60]
    return [line for file in files for line in file.read_text(encoding="utf-8", errors="ignore").splitlines(keepends=True)] + lines
