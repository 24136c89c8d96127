"""The next turn of a conversation runs only what is new: after `keep_prefix` both runtimes compute what they do from an empty cache."""

import numpy as np
import pytest

from firsttoken.run.open import open_runner

BOTH = ["tflite-xnnpack", pytest.param("executorch-xnnpack", marks=pytest.mark.slow)]


@pytest.fixture(params=BOTH)
def runner(request, demo_bundle):
    opened = open_runner(demo_bundle(request.param), threads=1)
    yield opened
    opened.close()


def cold(runner, tokens):
    """Logits after ``tokens`` and two decoded ones, from an empty cache."""
    runner.reset()
    return warm(runner, tokens)


def warm(runner, tokens):
    return [runner.prefill(tokens).copy(), runner.decode(7).copy(), runner.decode(8).copy()]


def assert_close(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        assert np.abs(one - other).max() < 0.02 * np.abs(other).max() and one.argmax() == other.argmax()


def test_a_turn_over_the_kept_prefix_computes_what_the_whole_does(runner):
    rng = np.random.default_rng(5)
    shared, first, second = (rng.integers(300, 4000, count).tolist() for count in (40, 6, 9))
    wanted = cold(runner, shared + second)
    cold(runner, shared + first)
    assert runner.keep_prefix(shared + second) == 40 == runner.position
    assert_close(warm(runner, second), wanted)
    whole = shared + second + [7, 8]
    assert runner.keep_prefix(whole) == len(whole) - 1, "all of it is there, but the logits of the last are wanted"
    runner.prefill(whole[-1:])
    assert runner.keep_prefix([1, 2, 3]) == 0 == runner.position
    assert_close(warm(runner, shared + second), wanted)


def test_a_reset_or_no_tokens_keep_nothing(runner):
    runner.prefill([5, 6, 7])
    runner.reset()
    assert runner.keep_prefix([5, 6, 7, 8]) == 0
    runner.prefill([5, 6, 7])
    assert runner.keep_prefix([]) == 0
