"""Cached answers: the rest's mass at every temperature, size, resuming, and what is refused."""

import json

import numpy as np
import pytest
import torch

from firsttoken.distill import cache as caching
from firsttoken.distill.losses.divergence import DIVERGENCES
from firsttoken.distill.models import load_decoder
from firsttoken.distill.teachers import CachedTeacher, LiveTeacher
from firsttoken.distill.windows import Encoded, pack
from firsttoken.errors import FirstTokenError

K = 24


@pytest.fixture(scope="module")
def teacher():
    from firsttoken.demo import checkpoint_path

    return load_decoder(checkpoint_path()).requires_grad_(False)


@pytest.fixture(scope="module")
def windows():
    from firsttoken.demo import checkpoint_path, held_out_text
    from firsttoken.tokenizer import Tokenizer

    tokens = Tokenizer(checkpoint_path()).encode(held_out_text()[:4000])
    return pack([Encoded(tokens, [True] * len(tokens), "text", "x")], 64, 0)


def make(folder, teacher, windows, **changes):
    options = {"vocabulary": 4096, "k": K, "temperatures": (1.0, 5.0), "identity": {"teacher": "abc"}, "batch": 4} | changes
    return caching.write_cache(folder, teacher, windows, **options)


@pytest.fixture(scope="module")
def cached(tmp_path_factory, teacher, windows):
    return caching.open_cache(make(tmp_path_factory.mktemp("cache") / "c", teacher, windows), windows)


def full_logits(teacher, windows):
    with torch.no_grad():
        return teacher(input_ids=torch.from_numpy(windows.tokens).long()).logits


@pytest.mark.parametrize("temperature", [1.0, 1.3, 2.0, 3.7, 5.0])
def test_the_mass_of_the_rest_is_that_of_the_full_logits(cached, teacher, windows, temperature):
    """On a trained model, at temperatures on and between the nodes: within 2e-4 nats of the sum over all other tokens."""
    logits = full_logits(teacher, windows).double()
    tokens, kept, rest = cached.read(np.arange(len(windows)))
    logits = logits - logits.max(-1, keepdim=True).values
    exact = (logits / temperature).scatter(-1, torch.from_numpy(tokens), -torch.inf).logsumexp(-1)
    got = cached.log_rest(torch.from_numpy(rest), temperature).double()
    assert (got - exact).abs().max() < 2e-4
    np.testing.assert_allclose(kept, logits.gather(-1, torch.from_numpy(tokens)), rtol=1e-3, atol=1e-6)


def test_a_cached_teacher_says_what_the_live_one_says(cached, teacher, windows):
    """With all tokens but one known the grouped divergence is the full one, so the two teachers must agree."""
    tokens = torch.from_numpy(windows.tokens[:2]).long()
    counted = torch.ones(2, 63, dtype=torch.bool)
    counted[0, 5:9] = False
    index = torch.tensor([0, 1])
    live, kept = LiveTeacher("live", teacher), CachedTeacher("cached", cached)
    seen_live, seen_kept = live.look(tokens, counted, index, False, False), kept.look(tokens, counted, index, False, False)
    student = seen_live.hidden @ teacher.lm_head.weight.t() + 0.3 * torch.randn(
        int(counted.sum()), 4096, generator=torch.Generator().manual_seed(0)
    )
    loss, of = DIVERGENCES["forward_kl"]
    where = slice(3, 50)
    full = live.divergence(loss, of, seen_live, where, student[where], 2.0, {})
    grouped = kept.divergence(loss, of, seen_kept, where, student[where], 2.0, {})
    assert (grouped <= full + 1e-3).all() and grouped.sum() > 0.2 * full.sum()
    same = kept.divergence(loss, of, seen_kept, where, (seen_live.hidden @ teacher.lm_head.weight.t())[where], 2.0, {})
    assert same.abs().max() < 1e-4


def test_the_size_is_what_is_stated(cached, windows):
    positions = windows.tokens.size
    stored = sum(array.nbytes for array in cached.arrays.values())
    assert stored == positions * caching.bytes_per_position(K, 4096) == positions * (K * 4 + 36)
    assert caching.bytes_per_position(64, 151_936) == 64 * 6 + 36


def test_an_interrupted_cache_goes_on_and_ends_the_same(tmp_path, teacher, windows, cached):
    class Stop(Exception):
        pass

    def stop(stage, done, total, unit):
        if done >= 8:
            raise Stop

    folder = tmp_path / "c"
    with pytest.raises(Stop):
        make(folder, teacher, windows, report=stop)
    with pytest.raises(FirstTokenError, match="unfinished, 8 of"):
        caching.open_cache(folder, windows)
    seen = []
    make(folder, teacher, windows, report=lambda stage, done, total, unit: seen.append(done))
    assert seen[0] == 12
    again = caching.open_cache(folder, windows)
    for name, array in cached.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)


def test_what_does_not_fit_is_refused(tmp_path, teacher, windows, cached):
    with pytest.raises(FirstTokenError, match="was made with k 24, now it is 8"):
        make(cached.folder, teacher, windows, k=8)
    with pytest.raises(FirstTokenError, match="made for other training data"):
        caching.open_cache(cached.folder, windows.first(3))
    with pytest.raises(FirstTokenError, match="made for temperatures 1 to 5, asked for 7"):
        cached.log_rest(torch.zeros(caching.NODES), 7.0)
    with pytest.raises(FirstTokenError, match="expected 1 to 4095"):
        make(tmp_path / "d", teacher, windows, k=4096)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    with pytest.raises(FirstTokenError, match="not empty"):
        make(tmp_path / "full", teacher, windows)
    with pytest.raises(FirstTokenError, match="distill cache"):
        caching.open_cache(tmp_path, windows)


def test_a_damaged_cache_is_refused(tmp_path, teacher, windows):
    folder = make(tmp_path / "c", teacher, windows.first(4))
    (folder / "rest.npy").write_bytes((folder / "rest.npy").read_bytes()[:200])
    with pytest.raises(FirstTokenError, match="rest.npy: cannot be read"):
        caching.open_cache(folder, windows.first(4))
    facts = json.loads((folder / "cache.json").read_text())
    (folder / "cache.json").write_text(json.dumps(facts | {"format": 2}))
    with pytest.raises(FirstTokenError, match="format 2"):
        caching.open_cache(folder, windows.first(4))
