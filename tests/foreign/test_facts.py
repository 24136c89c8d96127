"""Lengths, vocabulary and begin token: what the file says, what the checkpoint says, what is asked; and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from firsttoken.checkpoint import Checkpoint
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.foreign.facts import Offered, Subject

PATH = Path("their.litertlm")
OFFERED = Offered(vocab_size=4096, cache_length=256, looked_for="LlmMetadata.max_num_tokens", runtime="litert", chunk=64, names_words=True)


def subject(offered: Offered = OFFERED, **asked) -> Subject:
    with Checkpoint(checkpoint_path()) as source:
        return Subject.of(PATH, offered, source, **asked)


def test_the_file_says_its_lengths_and_the_checkpoint_its_words():
    found = subject()
    assert (found.target.cache_length, found.target.prefill_chunk, found.checkpoint.vocab_size) == (256, 64, 4096)
    assert found.tokenizer.begin is None and found.chat is not None and found.begin_differs == ""
    assert found.notes == [
        "cache of 256 tokens (LlmMetadata.max_num_tokens), vocabulary of 4096 (its logits), begin token none (the checkpoint's; it names none)"
    ]


def test_what_is_asked_counts_where_the_file_leaves_it_open():
    assert subject(cache_length=100).target.cache_length == 100
    assert subject(replace(OFFERED, cache_length=None), cache_length=100).target.cache_length == 100
    assert subject(replace(OFFERED, fixed=True), cache_length=256).target.cache_length == 256
    assert subject(begin=7).tokenizer.begin == 7


def test_another_begin_token_is_used_and_told():
    found = subject(replace(OFFERED, begin="<|im_start|>"))
    assert found.tokenizer.begin == found.tokenizer.special["<|im_start|>"]
    assert found.begin_differs == f"begin token: the file begins texts with token {found.tokenizer.begin}, the checkpoint with none"
    assert subject(replace(OFFERED, begin=3)).tokenizer.begin == 3


@pytest.mark.parametrize(
    ("changes", "asked", "said"),
    [
        (
            {"vocab_size": 4000},
            {},
            "logits for a vocabulary of 4000, but checkpoint .* has 4096; give the checkpoint that it was made from",
        ),
        (
            {"cache_length": None},
            {},
            r"does not say how long its cache is \(looked for LlmMetadata.max_num_tokens\); give --cache-length TOKENS",
        ),
        ({"fixed": True}, {"cache_length": 100}, "has a cache of 256 tokens, not 100; leave out --cache-length"),
        ({"cache_length": 1 << 30}, {}, "its cache has 1073741824 tokens; expected 2 to 1048576"),
        ({"begin": "<absent>"}, {}, "begins texts with '<absent>', which is no token of the checkpoint; name one with --begin-token"),
        ({"begin": 5000}, {}, "begins texts with 5000"),
        ({}, {"begin": 4096}, "--begin-token is 4096; expected a token of the checkpoint, 0 to 4095"),
    ],
)
def test_what_does_not_fit_is_refused(changes, asked, said):
    with pytest.raises(FirstTokenError, match=said):
        subject(replace(OFFERED, **changes), **asked)
