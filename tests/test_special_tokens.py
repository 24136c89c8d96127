"""Special tokens that only a file beside tokenizer.json knows are refused by name; transformers would add them, a bundle cannot."""

import json
import shutil

import pytest
from transformers import AutoTokenizer

from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.special_tokens import check_special_tokens
from firsttoken.tokenizer import Tokenizer

END = "<|im_end|>"
NEW = "<|turn|>"


def folder_with(tmp_path, settings=None, **files):
    shutil.copy(checkpoint_path() / "tokenizer.json", tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    for name, values in {"tokenizer_config": settings or {}, **files}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    return tmp_path


def check(folder):
    check_special_tokens(folder, Tokenizer(folder).engine)


CASES = {
    "added_tokens.json": ({}, {"added_tokens": {END: 4095, NEW: 4096}}, "added_tokens.json: names the special token '<|turn|>' .4096., but .*does not know it"),
    "another id": ({}, {"added_tokens": {END: 4096}}, "'<|im_end|>' .4096., but tokenizer.json has it as token 4095"),
    "special_tokens_map.json": ({}, {"special_tokens_map": {"eos_token": NEW}}, "special_tokens_map.json: names the special token '<|turn|>', but"),
    "an object": ({}, {"special_tokens_map": {"bos_token": {"content": NEW, "lstrip": False}}}, "special_tokens_map.json: names .*'<|turn|>'"),
    "additional": ({}, {"special_tokens_map": {"additional_special_tokens": [END, NEW]}}, "special_tokens_map.json: names .*'<|turn|>'"),
    "tokenizer_config.json": ({"eos_token": NEW}, {}, "tokenizer_config.json: names the special token '<|turn|>'"),
    "its decoder": ({"added_tokens_decoder": {"4096": {"content": NEW, "special": True}}}, {}, "tokenizer_config.json: names .*'<|turn|>' .4096."),
    "an ordinary word": ({"eos_token": "the"}, {}, "'the', but tokenizer.json has it as the ordinary token"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_token_that_tokenizer_json_does_not_know_is_refused(tmp_path, case):
    settings, files, said = CASES[case]
    folder = folder_with(tmp_path, settings, **files)
    with pytest.raises(FirstTokenError, match=said.replace("|", "[|]")):
        check(folder)
    if case != "another id":  # transformers knows it as one token, so ours would cut other pieces
        name = "the" if case == "an ordinary word" else NEW
        text = f"a {name}b" if name == NEW else "whether"
        assert AutoTokenizer.from_pretrained(folder, local_files_only=True)(text).input_ids != Tokenizer(folder).encode(text)


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("another id", "an ordinary word")])
def test_the_advice_helps(tmp_path, case):
    settings, files, _ = CASES[case]
    folder = folder_with(tmp_path, settings, **files)
    AutoTokenizer.from_pretrained(folder, local_files_only=True).save_pretrained(folder)
    for name in files:
        (folder / f"{name}.json").unlink(missing_ok=True)
    check(folder)
    text = f"word {NEW}word{END}"
    assert AutoTokenizer.from_pretrained(folder, local_files_only=True)(text).input_ids == Tokenizer(folder).encode(text)


@pytest.mark.parametrize(
    ("settings", "files"),
    [
        ({}, {}),
        ({"pad_token": "[PAD]", "unk_token": "<unk>"}, {"added_tokens": {"[PAD]": 4096}}),  # added for training, never saved, never spoken
        ({"eos_token": END}, {"added_tokens": {END: 4095}, "special_tokens_map": {"eos_token": END, "bos_token": None}}),
        ({"added_tokens_decoder": {"4095": {"content": END, "special": True}}}, {"added_tokens": {NEW: 4096}}),  # which no one reads then
        ({"added_tokens_decoder": {"4095": {"content": END, "special": True}}}, {"special_tokens_map": {"eos_token": NEW}}),
    ],
)
def test_what_tokenizer_json_knows_is_taken(tmp_path, settings, files):
    folder = folder_with(tmp_path, settings, **files)
    check(folder)
    text = f"word {END}word {NEW}"
    assert AutoTokenizer.from_pretrained(folder, local_files_only=True)(text).input_ids == Tokenizer(folder).encode(text)


def test_the_demo_names_what_its_tokenizer_knows():
    check(checkpoint_path())


def test_names_that_are_no_text(tmp_path):
    with pytest.raises(FirstTokenError, match="does not know it"):
        check(folder_with(tmp_path, {"eos_token": "\ud800"}))
    settings = {"added_tokens_decoder": {"9" * 5000: {"content": NEW}, "x": {"content": NEW}, "7": [], "8": {"content": 3}}}
    check(folder_with(tmp_path, {**settings, "additional_special_tokens": {"a": 3}, "bos_token": []}))


def test_numbers_that_are_none(tmp_path):
    with pytest.raises(FirstTokenError, match="has no whole number"):
        check(folder_with(tmp_path, added_tokens={END: "4095"}))
