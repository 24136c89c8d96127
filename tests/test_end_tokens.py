"""End tokens that whoever exports names, and what is said where the checkpoint names none or forgets one."""

import json

import pytest

from firsttoken import cli
from firsttoken.bundle.manifest import read_manifest
from firsttoken.chat import chat_affixes
from firsttoken.demo import checkpoint_path
from firsttoken.end_tokens import asked_ends, turn_end_note, with_ends
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export
from firsttoken.prove.words import missed_words
from firsttoken.tokenizer import Tokenizer


@pytest.mark.parametrize(
    ("asked", "ends"), [(["none"], []), ([7], [7]), (["7", "<|im_end|>"], [7, 4095]), (["4095", "<|im_end|>"], [4095]), (["the"], None)]
)
def test_ids_and_texts(asked, ends):
    tokenizer = Tokenizer(checkpoint_path())
    facts = with_ends(tokenizer, tokenizer.facts(), asked)
    assert facts.end_asked and facts.end == (ends if ends is not None else [tokenizer.token_id("the")])


@pytest.mark.parametrize("asked", [["4096"], ["<|im_stop|>"], ["none", "7"], ["-1"], [""], ["9" * 30]])
def test_what_is_no_token(asked):
    with pytest.raises(FirstTokenError, match="--end-token is .*; expected 'none' alone, an id below 4096, or the text of a token"):
        asked_ends(Tokenizer(checkpoint_path()), asked)


def forget_ends(checkpoint):
    (checkpoint / "generation_config.json").unlink(missing_ok=True)
    for name in ("config.json", "tokenizer_config.json"):
        values = json.loads((checkpoint / name).read_text())
        (checkpoint / name).write_text(json.dumps({key: value for key, value in values.items() if not key.startswith("eos_token")}))


def test_a_checkpoint_that_ends_no_answer_is_refused_unless_that_is_meant(capsys, tmp_path, tiny_checkpoint):
    forget_ends(tiny_checkpoint)
    arguments = ["export", str(tiny_checkpoint), "-o", str(tmp_path / "out"), "--no-prove", "--cache-length", "64"]
    assert cli.run(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no token ends an answer" in said and "--end-token" in said and not (tmp_path / "out").exists()
    for asked, ends in ((["--end-token", "none"], []), (["--end-token", "<|im_end|>", "--end-token", "4093"], [4093, 4095])):
        assert cli.run([*arguments, *asked, "--force"]) == 0
        manifest = read_manifest(tmp_path / "out/tflite-xnnpack")
        assert manifest.tokenizer.end == ends and manifest.tokenizer.end_asked
        assert missed_words(tmp_path / "out/tflite-xnnpack", manifest, tiny_checkpoint) == []


def test_the_end_of_a_turn_that_the_author_does_not_list_is_told(tmp_path, tiny_checkpoint):
    forget_ends(tiny_checkpoint)
    (tiny_checkpoint / "generation_config.json").write_text('{"eos_token_id": 4093}')
    tokenizer = Tokenizer(tiny_checkpoint)
    note = turn_end_note(tokenizer, tokenizer.facts(), chat_affixes(tiny_checkpoint, tokenizer))
    assert "closes an answer with '<|im_end|>'" in note and "--end-token 4095" in note
    said: list[str] = []
    export(tiny_checkpoint, tmp_path / "out", prove=False, cache_length=64, say=said.append)
    assert note in said
    demo = Tokenizer(checkpoint_path())
    assert turn_end_note(demo, demo.facts(), chat_affixes(checkpoint_path(), demo)) is None
