"""Trials are never scored on the recipe's held-out text, nor on what they train on."""

import numpy as np
import pytest

from firsttoken.demo import held_out_text
from firsttoken.distill.documents import held_back, training_windows
from firsttoken.distill.recipe_search.split import SearchData
from firsttoken.distill.students import tokenizer_folder
from firsttoken.errors import FirstTokenError
from firsttoken.progress import silent
from firsttoken.tokenizer import Tokenizer


def read(recipe, files=()):
    data = SearchData(files)
    tokenizer = Tokenizer(tokenizer_folder(recipe))
    train, scored = data.read(recipe, tokenizer, silent)
    return train, scored, data.said, tokenizer


def pieces(windows, tokenizer):
    return [tokenizer.decode([int(token) for token in row if token]) for row in windows.tokens]


def sources(windows):
    return set(windows.source)


def test_training_documents_are_set_aside_and_not_trained_on(make_recipe, texts):
    recipe = make_recipe()
    train, scored, said, tokenizer = read(recipe)
    assert len(sources(scored)) == 1 and len(sources(train)) == 2 and not sources(scored) & sources(train)
    assert len(scored) == 8 and "8 windows of 1 training documents" in said
    final = (texts / "held_out.md").read_text(encoding="utf-8")
    [document] = [(texts / name).read_text(encoding="utf-8") for name in sources(scored)]
    found = pieces(scored, tokenizer)
    assert sum(piece.strip()[4:-8] in document for piece in found) >= 6  # the decoder agrees
    assert not any(piece.strip()[4:-8] in final for piece in found)


def test_what_shares_words_with_the_held_out_text_is_not_scored_on(make_recipe, texts, tmp_path):
    """The document that is taken without this holds a sentence of the held-out text, and then is trained on instead."""
    [first] = sources(read(make_recipe())[1])
    for path in texts.glob("part*.txt"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "held_out.md").write_text((tmp_path / first).read_text(encoding="utf-8")[500:1500], encoding="utf-8")
    recipe = make_recipe({"data.train": [{"files": [str(tmp_path / "part*.txt")]}], "data.held_out": [str(tmp_path / "held_out.md")]})
    train, scored, _, _ = read(recipe)
    assert first not in sources(scored) and first in sources(train)


def test_files_that_are_held_back_leave_the_training_data_whole(make_recipe, tmp_path):
    names = [f"piece{n}.txt" for n in range(40)]
    back = [name for name in names if held_back(name, 20)]
    assert 3 < len(back) < 20
    text = held_out_text()
    for number, name in enumerate(names):
        (tmp_path / name).write_text(text[number * 700 : number * 700 + 700], encoding="utf-8")
    (tmp_path / "held_out.md").write_text(text[40_000:], encoding="utf-8")
    changes = {
        "data.train": [{"files": [str(tmp_path / "piece*.txt")]}],
        "data.held_out": [str(tmp_path / "held_out.md")],
        "data.hold_back_percent": 20,
    }
    recipe = make_recipe(changes)
    train, scored, said, tokenizer = read(recipe)
    assert np.array_equal(train.tokens, training_windows(recipe, tokenizer).tokens)
    assert sources(scored) <= set(back) and "hold_back_percent keeps out" in said


def test_given_files_are_scored_on(make_recipe, texts, tmp_path):
    (tmp_path / "mine.txt").write_text(held_out_text()[30_000:33_000], encoding="utf-8")
    train, scored, _, tokenizer = read(make_recipe(), (str(tmp_path / "mine.txt"),))
    assert sources(scored) == {"mine.txt"} and np.array_equal(train.tokens, training_windows(make_recipe(), tokenizer).tokens)
    (tmp_path / "copy.txt").write_text("x " + (texts / "held_out.md").read_text(encoding="utf-8")[100:900], encoding="utf-8")
    for file, message in (
        (texts / "held_out.md", "held_out.md is the recipe's held-out text too"),
        (texts / "part0.txt", "part0.txt is training data too"),
        (tmp_path / "copy.txt", "copy.txt shares 13 words in a row with the recipe's held-out text"),
    ):
        with pytest.raises(FirstTokenError, match=message):
            read(make_recipe(), (str(file),))


def test_one_document_cannot_be_divided(make_recipe, texts):
    with pytest.raises(
        FirstTokenError, match=r"the training data is 1 documents, of which none can be set aside.*held_out = .*in \[search\]"
    ):
        read(make_recipe({"data.train": [{"files": [str(texts / "part0.txt")]}]}))


def test_documents_are_kept_apart_where_the_recipe_keeps_them_apart(make_recipe):
    train, scored, *_ = read(make_recipe({"data.attend_across_documents": False}))
    assert train.positions is not None and scored.positions is not None
