"""Tokenizers as GGUF vocabularies: read again and rebuilt they cut alike, in llama.cpp itself too; a doubt is a refusal."""

import json
from pathlib import Path

import numpy as np
import pytest
from gguf_fixtures import VOCABULARY, end_token, needs_llama_cpp, on_disk, words, write_words
from lowering_jobs import lowered_artifact

from firsttoken.backends.gguf import vocabulary as module
from firsttoken.backends.gguf.vocabulary import vocabulary
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.gguf_file.header import read_header
from firsttoken.gguf_file.tokenizer_json import tokenizer_files
from firsttoken.tokenizer import Tokenizer

FILE = Path("model.gguf")
SPACE = "\u2581"


def changed(folder: Path, change) -> Path:
    """The small tokenizer with its ``tokenizer.json`` changed."""
    write_words(folder)
    values = json.loads((folder / "tokenizer.json").read_text())
    change(values)
    (folder / "tokenizer.json").write_text(json.dumps(values))
    return folder


@pytest.fixture(scope="module")
def pieces(tmp_path_factory) -> Path:
    """SentencePiece's BPE as transformers writes it: trained by SentencePiece, merges from its scores, a prefix, bytes, special tokens."""
    import io

    import sentencepiece

    raw = io.BytesIO()
    texts = [line for path in sorted(Path(__file__).parents[2].glob("*.py")) for line in path.read_text().splitlines()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=raw, vocab_size=700, model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, character_coverage=0.999, minloglevel=2,
    )  # fmt: skip
    trained = sentencepiece.SentencePieceProcessor(model_proto=raw.getvalue())
    tokens = [trained.id_to_piece(n) for n in range(700)]
    numbers = {token: n for n, token in enumerate(tokens)}
    merges = [
        (trained.get_score(numbers[left + right]), [left, right])
        for token in tokens[259:] if len(token) > 1
        for left, right in ((token[:at], token[at:]) for at in range(1, len(token))) if left in numbers and right in numbers
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("pieces")
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    back = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]  # fmt: skip
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    document = {
        "version": "1.0", "truncation": None, "padding": None, "pre_tokenizer": None, "decoder": {"type": "Sequence", "decoders": back},
        "added_tokens": [{"id": n, "content": tokens[n], **flags} for n in range(3)],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, spaces]},
        "post_processor": {
            "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": True,
            "byte_fallback": True, "ignore_merges": False, "vocab": numbers, "merges": [pair for _, pair in sorted(merges, key=lambda one: -one[0])],
        },
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(document))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}))
    return folder


def test_byte_level(tmp_path):
    found = vocabulary(write_words(tmp_path), VOCABULARY, None, [0, 1], FILE)
    count = len(words()["tokens"])
    assert (
        (found.model, found.pre) == ("gpt2", "smollm") and found.tokens[:count] == words()["tokens"] and found.merges == words()["merges"]
    )
    assert found.kinds[:2].tolist() == [3, 3] and set(found.kinds[count:].tolist()) == {5} and found.tokens[-1] == f"[PAD{VOCABULARY - 1}]"
    wanted = {"eos_token_id": 0, "eot_token_id": 1, "padding_token_id": 0, "add_bos_token": False, "add_eos_token": False}
    assert found.settings == wanted


def test_the_demo_checkpoint_is_cut_as_qwen2(tmp_path):
    found = vocabulary(checkpoint_path(), 4096, None, [0], FILE)
    assert found.pre == "qwen2" and found.chat_template is not None


def test_sentencepiece(pieces):
    found = vocabulary(pieces, 704, 1, [2], FILE)
    assert (found.model, found.settings["bos_token_id"], found.settings["add_bos_token"], found.settings["add_space_prefix"]) == (
        "llama",
        1,
        True,
        True,
    )
    kinds = found.kinds.tolist()
    assert kinds[:3] == [2, 3, 3] and kinds.count(6) == 256 and kinds[700:] == [5] * 4 and found.settings["unknown_token_id"] == 0
    rebuilt = tokenizer_files(found)["tokenizer.json"]["model"]
    original = json.loads((pieces / "tokenizer.json").read_text())["model"]
    assert rebuilt["vocab"] == original["vocab"] and sorted(rebuilt["merges"]) == sorted(original["merges"])


@needs_llama_cpp
def test_llama_cpp_cuts_sentencepiece_alike(pieces, tmp_path):
    """Special tokens, digits, accents, emoji and code, by `lower`'s own probes; and by this file."""
    from firsttoken.backends.gguf.llamacpp import tokenizing

    _, folder = on_disk("llama2", tmp_path / "checkpoint", vocab_size=704)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text((pieces / name).read_text())
    lowered_artifact(folder, tmp_path, "int8", "gguf", ends=[end_token()], cache_length=128, prefill_chunk=48)
    tokenizer = Tokenizer(pieces)
    with tokenizing(tmp_path / "model.gguf") as encode:
        for text in Path(__file__).read_text().splitlines():
            if text:
                assert encode(text) == tokenizer.encode(text, begin=False), text


@needs_llama_cpp
def test_another_rule_is_found_out_in_llama_cpp(tiny_model, tmp_path, monkeypatch):
    """A rule's name that is wrong is no error in llama.cpp, only another text: the probes refuse it."""
    monkeypatch.setattr(module, "rule", lambda folder, values: "smollm")
    monkeypatch.setattr(module, "check_rebuilt", lambda *_: None)
    with pytest.raises(FirstTokenError, match="llama.cpp cuts text otherwise than .*no GGUF file is written"):
        lowered_artifact(tiny_model, tmp_path, "fp32", "gguf", ends=[4], cache_length=128, prefill_chunk=48)


@pytest.mark.parametrize("other", ["gpt-2", "smollm"])
def test_another_rule_is_found_out_by_rebuilding_too(monkeypatch, other):
    monkeypatch.setattr(module, "rule", lambda folder, values: other)
    with pytest.raises(FirstTokenError, match="is not rebuilt out of what a GGUF file holds of it: .* tokens and .*, from place"):
        vocabulary(checkpoint_path(), 4096, None, [0], FILE)


def pattern(values: dict) -> None:
    values["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "\\d+"}, "behavior": "Isolated", "invert": False}, values["pre_tokenizer"]["pretokenizers"][1]]}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (pattern, r"cuts text before merging by a rule that none of gpt-2, smollm, .*\\\\d\+"),
        (lambda values: values["model"].update(ignore_merges=True), "none of gpt-2"),
        (lambda values: values.update(normalizer={"type": "Lowercase"}), "none of gpt-2.*Lowercase"),
        (lambda values: values["model"].update(dropout=0.1), "a tokenizer of the kind 'BPE'; expected byte-level BPE"),
        (lambda values: values.update(pre_tokenizer={"type": "Whitespace"}), "does more to a text than SentencePiece's spaces"),
    ],
)
def test_a_doubt_is_a_refusal(tmp_path, change, said):
    with pytest.raises(FirstTokenError, match=said):
        vocabulary(changed(tmp_path, change), VOCABULARY, None, [0], FILE)


def test_merges_that_sentencepiece_would_not_leave_out(pieces, tmp_path):
    values = json.loads((pieces / "tokenizer.json").read_text())
    del values["model"]["merges"][40]
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    (tmp_path / "tokenizer_config.json").write_text((pieces / "tokenizer_config.json").read_text())
    with pytest.raises(FirstTokenError, match=r"merges in \d+ ways, and SentencePiece would in \d+"):
        vocabulary(tmp_path, 704, 1, [2], FILE)


def test_the_file_says_it(tmp_path):
    """Begin and end tokens, kinds and the chat template as llama.cpp's keys."""
    _, folder = on_disk("qwen2", tmp_path / "checkpoint")
    write_words(folder, chat_template="{% for message in messages %}{{ message['content'] }}{% endfor %}<|user|>")
    lowered_artifact(folder, tmp_path, "int8", "gguf", ends=[end_token()], cache_length=128, prefill_chunk=48)
    metadata = read_header(tmp_path / "model.gguf").metadata
    assert metadata["tokenizer.ggml.model"] == "gpt2" and metadata["tokenizer.ggml.pre"] == "smollm"
    assert metadata["tokenizer.ggml.token_type"].dtype == np.int32 and len(metadata["tokenizer.ggml.tokens"]) == VOCABULARY
    assert metadata["tokenizer.chat_template"].startswith("{% for message") and metadata["tokenizer.ggml.add_bos_token"] is False


def test_an_added_token_that_takes_spaces_is_probed(tmp_path):
    """One that stands alone, or takes the spaces beside it, is not written as such: texts with it would be cut otherwise."""

    def added(values):
        content = next(word for word in values["model"]["vocab"] if word.isalpha() and len(word) > 2)
        values["added_tokens"].append({"id": values["model"]["vocab"][content], "content": content, "single_word": True, "lstrip": True, "rstrip": True, "normalized": False, "special": False})  # fmt: skip

    with pytest.raises(FirstTokenError, match="is not rebuilt out of what a GGUF file holds of it"):
        vocabulary(changed(tmp_path, added), VOCABULARY, None, [0], FILE)


def test_three_tokens_that_end_answers_come_back(tmp_path):
    from firsttoken.bundle.manifest import read_manifest
    from firsttoken.pipeline import export

    [first] = export(checkpoint_path(), tmp_path / "a", "int8", ("gguf",), prove=False, end_tokens=[4093, 4094, 4095])
    [again] = export(first / "model.gguf", tmp_path / "b", "int8", ("tflite-xnnpack",), prove=False, cache_length=64)
    assert read_manifest(first).tokenizer.end == read_manifest(again).tokenizer.end == [4093, 4094, 4095]
