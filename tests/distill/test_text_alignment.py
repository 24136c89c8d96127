"""Two tokenizers on one text: aligned where TRL aligns them, at the same characters, and special tokens stand for each other."""

import json
from pathlib import Path

import pytest
from other_tokenizer import ENDS, write_tokenizer

from firsttoken.demo import checkpoint_path, held_out_text
from firsttoken.distill.text_alignment import TextAlignment, is_same_tokenizer, matched_tokens
from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer

TRL = json.loads((Path(__file__).parent / "losses/trl_reference.json").read_text())


@pytest.fixture(scope="module")
def alignment(tmp_path_factory):
    return TextAlignment(Tokenizer(checkpoint_path()), Tokenizer(write_tokenizer(tmp_path_factory.mktemp("other"))))


def pairs_of(alignment, tokens):
    theirs, places = alignment.align(tokens)
    return theirs, [[n, place] for n, place in enumerate(places) if place >= 0]


def test_the_places_are_those_of_trl(alignment):
    text = "".join(letter for letter in held_out_text() if letter.isascii())[:400]
    theirs, pairs = pairs_of(alignment, alignment.student.encode(text, begin=False))
    assert theirs == alignment.teacher.encode(text, begin=False)
    assert pairs == TRL["groups"] and len(pairs) > 100


@pytest.mark.parametrize("text", ["def f(self):\n    return self", "Käse ä→漢字 😀 self.the", "  \n\t  x", "ÄÖ"])
def test_both_have_read_the_same_characters(alignment, text):
    tokens = alignment.student.encode(text, begin=False)
    theirs, pairs = pairs_of(alignment, tokens)
    assert pairs[-1] == [len(tokens) - 1, len(theirs) - 1]
    for a, b in pairs:
        read = alignment.student.decode(tokens[: a + 1])
        assert read == alignment.teacher.decode(theirs[: b + 1]) and "\ufffd" not in read
    # and nowhere else do both end a token
    both = {alignment.student.decode(tokens[:n]) for n in range(1, len(tokens) + 1)} & {
        alignment.teacher.decode(theirs[:n]) for n in range(1, len(theirs) + 1)
    }
    assert len(pairs) == len({read for read in both if "\ufffd" not in read})


def test_end_tokens_stand_for_each_other_and_other_special_tokens_are_read_as_text(alignment):
    ours, end = alignment.student, alignment.student.end_tokens()[0]
    [stop] = alignment.teacher.end_tokens()
    others = [number for number in ours.special.values() if number not in ours.end_tokens()]
    tokens = [*ours.encode("self", begin=False), end, *others[:1], *ours.encode("in the", begin=False), end]
    theirs, pairs = pairs_of(alignment, tokens)
    assert theirs[pairs[0][1] + 1] == stop and theirs[-1] == stop
    assert [len(tokens) - 1, len(theirs) - 1] in pairs
    text = "".join(ours.decode([number], special=True) for number in others[:1])
    assert alignment.teacher.decode(theirs, special=True) == f"self{ENDS}{text}in the{ENDS}"


def test_a_window_that_begins_within_a_character(alignment):
    tokens = alignment.student.encode("漢字 the self", begin=False)[1:]
    theirs, pairs = pairs_of(alignment, tokens)
    assert pairs[-1] == [len(tokens) - 1, len(theirs) - 1]


def test_matched_tokens_are_spelt_alike(alignment):
    ours, theirs = matched_tokens(alignment.student, alignment.teacher)
    assert len(ours) > 200 and len(set(ours)) == len(ours)
    assert all(
        alignment.student.engine.id_to_token(a) == alignment.teacher.engine.id_to_token(b) for a, b in zip(ours, theirs, strict=True)
    )


def test_a_teacher_without_an_end_token_is_refused(alignment, tmp_path):
    folder = write_tokenizer(tmp_path / "silent")
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(FirstTokenError, match="names no token that ends a text.*set eos_token_id"):
        TextAlignment(alignment.student, Tokenizer(folder))
    assert is_same_tokenizer(alignment.student, Tokenizer(checkpoint_path())) and not is_same_tokenizer(
        alignment.student, alignment.teacher
    )
