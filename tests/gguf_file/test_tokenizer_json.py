"""Tokenizers rebuilt from a GGUF file: token by token what transformers and SentencePiece make of the same vocabulary."""

import json
from pathlib import Path

import numpy as np
import pytest
from gguf_writer import byte_level_words

from firsttoken.errors import FirstTokenError
from firsttoken.gguf_file.header import Header
from firsttoken.gguf_file.tokenizer_json import tokenizer_files
from firsttoken.gguf_file.vocabulary import read_vocabulary
from firsttoken.tokenizer import Tokenizer

TEXTS = (
    "Hello, world! It's 12345.67 o'clock; we'll see.",
    "  leading and trailing spaces  ",
    "def f(x):\n\treturn x ** 2\r\n\r\n    # IT'S A COMMENT 😀",
    "Größe naïve Ångström e\u0301 ﬁ 第一个 token １２３ ٣٤٥",
    "<|user|>What?<|end|>\n<|user|> again",
    "a\u00a0b\u3000c\u200bd \x00 end",
    "",
    " ",
    "\n\n\n   \n",
)


def header(words: dict, **more) -> Header:
    metadata = {f"tokenizer.ggml.{key}": value for key, value in more.items()}
    metadata |= {"tokenizer.ggml.model": words.get("model", "gpt2"), "tokenizer.ggml.tokens": words["tokens"]}
    metadata |= {f"tokenizer.ggml.{key}": words[key] for key in ("merges", "scores", "pre") if key in words}
    return Header(metadata | {"tokenizer.ggml.token_type": np.array(words["kinds"], np.int32)}, {}, 0)


def rebuilt(folder: Path, words: dict, **more) -> Tokenizer:
    for name, document in tokenizer_files(read_vocabulary(Path("model.gguf"), header(words, **more))).items():
        (folder / name).write_text(json.dumps(document))
    return Tokenizer(folder)


def witness(pre: str, words: dict):
    """The tokenizer that transformers itself builds of a vocabulary: by its class, or for Llama 3 by its converter of tiktoken files."""
    from inspect import signature

    from tokenizers import Regex, pre_tokenizers
    from tokenizers import Tokenizer as Engine
    from transformers import GPT2Tokenizer, Qwen2Tokenizer
    from transformers.convert_slow_tokenizer import TikTokenConverter

    vocabulary = {token: n for n, token in enumerate(words["tokens"])}
    merges = [tuple(merge.split(" ")) for merge in words["merges"]]
    if pre == "smollm":
        return words["engine"]
    if pre == "llama-bpe":
        plain = json.loads(words["engine"].to_str())
        plain["model"]["ignore_merges"] = True
        engine = Engine.from_str(json.dumps(plain))
        pattern = signature(TikTokenConverter.__init__).parameters["pattern"].default
        engine.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        return engine
    kind = Qwen2Tokenizer if pre == "qwen2" else GPT2Tokenizer
    made = kind(
        vocab=vocabulary,
        merges=merges,
        unk_token=None,
        pad_token=None,
        bos_token=None,
        eos_token="<|end|>",
        additional_special_tokens=["<|user|>"],
    )
    return made.backend_tokenizer


@pytest.mark.parametrize("pre", ["smollm", "qwen2", "gpt-2", "llama-bpe"])
def test_byte_level_tokens_are_those_of_transformers(tmp_path, pre):
    words = byte_level_words(600) | {"pre": pre}
    ours, theirs = rebuilt(tmp_path, words, eos_token_id=0), witness(pre, words)
    source = Path(__file__).read_text()
    for text in (*TEXTS, source):
        tokens = ours.encode(text, begin=False)
        assert tokens == theirs.encode(text, add_special_tokens=False).ids, text
        assert ours.decode(tokens, special=True) == theirs.decode(tokens, skip_special_tokens=False)
    if pre != "qwen2":  # which joins accents first
        assert ours.decode(ours.encode(source, begin=False), special=True) == source


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """SentencePiece's own BPE, trained on this folder's texts, with bytes and a user-defined piece."""
    import io

    import sentencepiece

    model = io.BytesIO()
    texts = [line for path in sorted(Path(__file__).parent.glob("*.py")) for line in path.read_text().splitlines()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=900, model_type="bpe", byte_fallback=True, user_defined_symbols=["<tool>"],
        normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=0.999, minloglevel=2,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def sentence_words(engine) -> dict:
    count = engine.get_piece_size()
    kinds = [
        2
        if engine.is_unknown(n)
        else 3
        if engine.is_control(n)
        else 6
        if engine.is_byte(n)
        else 4
        if engine.id_to_piece(n) == "<tool>"
        else 1
        for n in range(count)
    ]
    scores = np.array([engine.get_score(n) for n in range(count)], np.float32)
    return {"model": "llama", "tokens": [engine.id_to_piece(n) for n in range(count)], "kinds": kinds, "scores": scores}


def test_sentencepiece_tokens_are_its_own(tmp_path, sentences):
    ours = rebuilt(tmp_path, sentence_words(sentences), bos_token_id=1, eos_token_id=2, unknown_token_id=0)
    assert ours.begin == 1
    for text in (*TEXTS[:4], *TEXTS[5:], *Path(__file__).read_text().splitlines()):
        if "<tool>" in text or "<unk>" in text:  # tokens of their own here, letters to SentencePiece
            continue
        tokens = ours.encode(text, begin=False)
        assert tokens == sentences.encode(text), text
        assert ours.decode(tokens) == sentences.decode(tokens)


def test_a_piece_of_the_users_starts_anew(tmp_path, sentences):
    """As llama.cpp has it, and Llama 2's own tokenizer.json; SentencePiece itself puts no space behind such a piece."""
    ours = rebuilt(tmp_path, sentence_words(sentences), bos_token_id=1, eos_token_id=2)
    tool = sentences.piece_to_id("<tool>")
    assert ours.encode("class<tool>return", begin=False) == [*sentences.encode("class"), tool, *sentences.encode("return")]


def test_without_a_space_in_front(tmp_path, sentences):
    ours = rebuilt(tmp_path, sentence_words(sentences), bos_token_id=1, eos_token_id=2, add_space_prefix=False)
    with_space = rebuilt(tmp_path, sentence_words(sentences), bos_token_id=1, eos_token_id=2)
    assert ours.encode(" class", begin=False) == with_space.encode("class", begin=False)
    assert ours.decode(ours.encode(" class", begin=False)) == " class"


def test_begin_and_end_tokens(tmp_path):
    words = byte_level_words() | {"pre": "llama-bpe"}
    told = rebuilt(tmp_path, words, bos_token_id=1, eos_token_id=0, eot_token_id=1)
    assert (told.begin, told.end_tokens()) == (1, [0, 1])  # as llama.cpp takes Llama 3's vocabulary where the file does not say
    assert told.engine.encode("a").ids[0] == 1
    silent = rebuilt(tmp_path, words, bos_token_id=1, eos_token_id=0, add_bos_token=False)
    assert (silent.begin, silent.begin_token, silent.end_tokens()) == (None, 1, [0])


def test_unused_tokens_fill_up_and_are_no_tokens(tmp_path):
    words = byte_level_words() | {"pre": "qwen2"}
    count = len(words["tokens"])
    padded = words | {"tokens": [*words["tokens"], "[PAD1]", "[PAD2]", "<tool>"], "kinds": [*words["kinds"], 5, 5, 4]}
    made = rebuilt(tmp_path, padded, eos_token_id=0)
    assert made.vocab_size == count + 3 and made.encode("<tool>") == [count + 2]
    assert made.special == {"<|end|>": 0, "<|user|>": 1} and len(made.encode("[PAD1]")) > 1


BYTE_LEVEL = byte_level_words(280) | {"pre": "smollm"}
SPM = {
    "model": "llama",
    "tokens": ["<unk>", "a", "b", "ab", "ba"],
    "kinds": [2, 1, 1, 1, 1],
    "scores": np.array([0, -3, -4, -1, -2], np.float32),
}


@pytest.mark.parametrize(
    ("words", "more", "said"),
    [
        ({"pre": "default"}, {}, "'default' means that its converter did not know it"),
        ({"pre": "tekken"}, {}, "'tekken': known are gpt-2, smollm"),
        ({"pre": 3}, {}, "tokenizer.ggml.pre is 3"),
        ({"model": "t5"}, {}, "of the kind 't5'"),
        ({"merges": []}, {}, "does not give pairs"),
        ({"merges": ["a b c"]}, {}, "does not give pairs"),
        ({"merges": [3]}, {}, "no list of texts"),
        ({"merges": ["Ġ zzz"]}, {}, "tokens that the vocabulary does not have"),
        ({"kinds": [1]}, {}, "does not give one kind"),
        ({"kinds": [9] * len(BYTE_LEVEL["tokens"])}, {}, "does not give one kind"),
        ({"tokens": ["a"] * len(BYTE_LEVEL["tokens"])}, {}, "same text"),
        ({}, {"bos_token_id": 10**6}, "bos_token_id is 1000000, expected a token from 0 to"),
        ({}, {"add_bos_token": True}, "no begin token is named"),
        ({}, {"add_bos_token": 7}, "expected true or false"),
        ({}, {"add_eos_token": True}, "would end before"),
        ({}, {"remove_extra_whitespaces": True}, "may change how text is cut"),
        ({**SPM, "scores": np.zeros(0, np.float32)}, {}, "without scores"),
        ({**SPM, "scores": np.array([0, -3, -4, -1, -1], np.float32)}, {}, "not all different"),
        ({**SPM, "scores": np.array([0, -3, -4, np.nan, -1], np.float32)}, {}, "does not give one number"),
        ({**SPM, "kinds": [2, 1, 1, 1, 5]}, {}, "token 4 .* is unused"),
        ({**SPM, "kinds": [1, 1, 1, 1, 1]}, {}, "names no unknown token"),
        ({**SPM, "kinds": [2, 6, 1, 1, 1]}, {}, "1 of its tokens are bytes"),
    ],
)
def test_a_doubt_is_a_refusal(words, more, said):
    with pytest.raises(FirstTokenError, match=said) as raised:
        tokenizer_files(read_vocabulary(Path("model.gguf"), header(BYTE_LEVEL | words, **more)))
    assert "export from the original" in str(raised.value)


def test_no_tokens_at_all():
    with pytest.raises(FirstTokenError, match="has no tokenizer"):
        read_vocabulary(Path("model.gguf"), Header({}, {}, 0))
