"""Padded heads of one tokenizer work together; different tokenizers are refused with the reason."""

import json
import shutil

import pytest

from firsttoken.demo import checkpoint_path
from firsttoken.distill.losses.vocabulary import shared_vocabulary
from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer


@pytest.fixture
def changed(tmp_path):
    """Returns a function that copies the demo's tokenizer, changed."""

    def make(change):
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(checkpoint_path() / name, tmp_path / name)
        path = tmp_path / "tokenizer.json"
        values = json.loads(path.read_text(encoding="utf-8"))
        change(values)
        path.write_text(json.dumps(values), encoding="utf-8")
        return Tokenizer(tmp_path)

    return make


def test_differently_padded_heads_share_the_tokenizers_rows():
    ours = Tokenizer(checkpoint_path())
    assert shared_vocabulary(ours, Tokenizer(checkpoint_path()), 4096, 4224) == 4096


def test_a_head_smaller_than_the_tokenizer_is_refused():
    ours = Tokenizer(checkpoint_path())
    with pytest.raises(FirstTokenError, match="the teacher's vocabulary head has 4000 rows, but its tokenizer has 4096 tokens"):
        shared_vocabulary(ours, ours, 4096, 4000)


def test_swapped_tokens_are_named(changed):
    def swap(values):
        vocabulary = values["model"]["vocab"]
        a, b = list(vocabulary)[300:302]
        vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]

    with pytest.raises(FirstTokenError, match="different tokenizers: .* is token \\d+ in the student's and token \\d+ in the teacher's"):
        shared_vocabulary(Tokenizer(checkpoint_path()), changed(swap), 4096, 4096)


def test_a_token_that_one_side_lacks_is_named(changed):
    def drop(values):
        values["added_tokens"].pop()

    with pytest.raises(FirstTokenError, match="absent in the teacher's"):
        shared_vocabulary(Tokenizer(checkpoint_path()), changed(drop), 4096, 4096)


def test_equal_vocabularies_that_cut_text_differently_are_refused(changed):
    def fewer_merges(values):
        del values["model"]["merges"][50:]

    with pytest.raises(FirstTokenError, match="cut the same text differently"):
        shared_vocabulary(Tokenizer(checkpoint_path()), changed(fewer_merges), 4096, 4096)
