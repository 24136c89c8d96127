"""Which positions a proof looks at."""

import numpy as np
import pytest
from lowering_jobs import with_config

from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.demo import checkpoint_path, held_out_text
from firsttoken.errors import FirstTokenError
from firsttoken.prove.windows import LOGIT_BYTES, choose_windows
from firsttoken.targets.target import load_target
from firsttoken.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def config():
    return open_decoder(Checkpoint(checkpoint_path()))


@pytest.fixture(scope="module")
def text():
    return np.array(Tokenizer(checkpoint_path()).encode(held_out_text()), np.int32)


def runs(windows):
    """(kind, start, stop) of every call."""
    return [(kind, start, stop) for window in windows for kind, start, stop, _ in window.steps()]


def test_the_demo_is_proven_on_many_lengths_and_to_the_caches_end(config, text):
    target = load_target("tflite-xnnpack")
    windows = choose_windows(text, None, config, target)
    calls = runs(windows)
    firsts = {stop for kind, _, stop in calls if kind == "first"}
    assert 1 in firsts and any(200 < n < 500 for n in firsts)
    assert any(n > target.prefill_chunk for n in firsts), "a prompt that goes in chunks"
    assert sum(kind == "extend" for kind, *_ in calls) >= 10
    assert max(stop for *_, stop in calls) == target.cache_length, "decoding to the last row of the cache"
    assert 500 <= len(calls) <= 1024


def test_the_same_every_time_and_windows_do_not_overlap(config, text):
    target = load_target("tflite-xnnpack")
    one, other = (choose_windows(np.arange(len(text)), None, config, target) for _ in range(2))
    assert all(np.array_equal(a.tokens, b.tokens) and a.prompts == b.prompts for a, b in zip(one, other, strict=True))
    assert [bool(window.walk) for window in one] == [True] + [False] * (len(one) - 1)
    seen = np.concatenate([window.tokens for window in one[1:]])
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(("cache", "chunk"), [(2, 1), (3, 2), (16, 4), (64, 63), (200, 10), (2048, 1024)])
@pytest.mark.parametrize("length", [16, 17, 50, 333, 5000])
@pytest.mark.parametrize("begin", [None, 7])
def test_any_text_and_any_cache(config, text, cache, chunk, length, begin):
    target = load_target("tflite-xnnpack", cache, chunk)
    windows = choose_windows(text[:length], begin, config, target)
    assert windows
    for window in windows:
        if begin is not None:
            assert window.tokens[0] == begin
        for kind, start, stop, restart in window.steps():
            assert 0 <= start < stop <= cache and stop < len(window.tokens)
            assert restart == (kind == "first")
        assert len(window.positions) == len(list(window.steps()))


def test_large_models_and_vocabularies_get_fewer_positions(config, text):
    target = load_target("tflite-xnnpack")
    shape = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "vocab_size": 151936}
    large = with_config(Checkpoint(checkpoint_path()), **shape)
    windows = choose_windows(text, None, large, target)
    calls = runs(windows)
    assert windows[0].walk and max(windows[0].positions) == target.cache_length - 1, "the whole cache, whatever the size"
    assert sum(len(window.tokens) for window in windows[1:]) <= 300
    assert 30 <= len(calls) <= LOGIT_BYTES // (4 * 151936)
    assert {kind for kind, *_ in calls} == {"first", "extend", "decode"}


@pytest.mark.parametrize(
    ("cache", "chunk", "step"), [(1280, 256, 256), (512, 100, 128), (4096, 128, 256), (100, 7, 1 << 20), (40000, 512, 256)]
)
def test_the_walk_decodes_on_both_sides_of_every_boundary(config, text, cache, chunk, step):
    walk = choose_windows(text, 3, config, load_target("tflite-xnnpack", cache, chunk), step=step)[0]
    decoded = {start for kind, start, _, _ in walk.steps() if kind == "decode"}
    boundaries = {*range(chunk, cache, chunk), *range(step, cache, step)}
    met = {boundary for boundary in boundaries if {boundary - 1, boundary} <= decoded}
    assert met == boundaries if len(boundaries) <= 40 else len(met) >= 40
    assert set(range(cache - 16, cache)) <= decoded and 0 in walk.positions


def test_a_text_that_proves_nothing_is_refused(config):
    with pytest.raises(FirstTokenError, match="at least 16"):
        choose_windows(np.arange(15), None, config, load_target("tflite-xnnpack"))


def test_a_smaller_budget_and_a_number_of_windows(config, text):
    target = load_target("tflite-xnnpack")
    few = choose_windows(text, None, config, target, most=(1900, 24))
    assert max(stop for *_, stop in runs(few)) == target.cache_length and 12 <= len(runs(few)) <= 24, "the cache's end even with few"
    few = choose_windows(text, None, config, target, most=(640, 256))
    assert sum(len(window.tokens) for window in few) <= 640 and len(runs(few)) <= 256
    assert {kind for kind, *_ in runs(few)} == {"first", "extend", "decode"}
    assert len(choose_windows(text, None, config, target, count=3)) == 3
    assert len(choose_windows(text, None, config, target, count=1)) == 1
    most = choose_windows(text, None, config, target, count=100_000)
    assert 10 < len(most) < 100_000, "as many as the text holds"
