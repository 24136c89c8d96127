"""The next turn of a conversation runs only what is new: after `keep_prefix` both runtimes compute what they do from an empty cache."""

import numpy as np
import pytest

from firsttoken.conversation import chat, write_conversation
from firsttoken.demo import checkpoint_path
from firsttoken.run.open import open_runner
from firsttoken.tokenizer import Tokenizer

BOTH = ["tflite-xnnpack", "onnx-cpu", pytest.param("executorch-xnnpack", marks=pytest.mark.slow)]


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


def divergence(logits, others):
    """KL divergence in nats."""
    one, other = (
        values - values.max() - np.log(np.exp(values - values.max()).sum()) for values in (logits.astype(float), others.astype(float))
    )
    return float((np.exp(one) * (one - other)).sum())


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


def test_the_second_question_of_a_chat_runs_only_what_is_new(runner):
    manifest, tokenizer = runner.manifest, Tokenizer(checkpoint_path())

    def tokens(asked, answered):
        return tokenizer.encode(write_conversation(manifest.chat.conversation, chat("Answer briefly.", asked, answered)), begin=False)

    first = tokens(["What does close do?"], [])
    runner.reset()
    said, token = [], int(runner.prefill(first).argmax())
    while token not in manifest.tokenizer.end and len(said) < 12:
        said.append(token)
        token = int(runner.decode(token).argmax())
    second = tokens(["What does close do?", "And open?"], [tokenizer.decode(said)])
    kept = runner.keep_prefix(second)
    assert kept == len(first) + len(said) < len(second), "the question, and the answer as it was decoded"
    logits = runner.prefill(second[kept:]).copy()
    runner.reset()
    # rows that were decoded and rows that were prefilled come from other kernels: as near as the proof asks of both (mean KLD of the plan's gate)
    assert divergence(runner.prefill(second), logits) < 0.02
