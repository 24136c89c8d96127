"""Checking drafts in a .tflite: the bits of decoding, row by row, and a cache in which a wrong draft leaves nothing."""

import numpy as np
import pytest
from families_on_disk import random_model, save
from tflite_fixtures import open_lowered, random_qwen2

from firsttoken.backends.registry import backend_of, find_backend
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.errors import FirstTokenError
from firsttoken.prove.drafts import prove_drafts
from firsttoken.targets.target import load_target

LENGTHS = {"cache_length": 300, "prefill_chunk": 64, "draft_tokens": 5}


def same_as_decoding(runner, vocabulary, start):
    """Checks the runner's rows, cache and next logits against decoding the same tokens."""
    random = np.random.default_rng(start)
    before, after = (random.integers(0, vocabulary, count).tolist() for count in (start, 6))
    runner.reset()
    runner.prefill(before)
    rows = runner.check(after).copy()
    runner.accept(1)
    runner.accept(2)
    following = runner.decode(after[3]).copy()
    held = runner.held_arrays()
    runner.reset()
    runner.prefill(before)
    decoded = [runner.decode(token).copy() for token in after[:4]]
    expected = runner.held_arrays()
    for name, state in runner.states.items():  # of a ring the rows that the draft took are forgotten: no token sees what they held
        forgotten = (held[name] == 0) & (state.window is not None)
        assert np.array_equal(held[name], np.where(forgotten, 0, expected[name])), name
    decoded += [runner.decode(token).copy() for token in after[4:]]
    assert np.array_equal(rows, decoded) and np.array_equal(following, decoded[3])


@pytest.mark.parametrize("plan", ["fp32", "fp16", "int8", "fp16-attention", "int4"])
@pytest.mark.parametrize("target", ["tflite-xnnpack", "tflite-compat"])
def test_every_row_is_decodings_to_the_bit(tied_checkpoint, lowered_runner, plan, target):
    if (plan, target) == ("int4", "tflite-compat"):
        pytest.skip("this target has no int4")
    runner = lowered_runner(tied_checkpoint, plan, target, **LENGTHS)
    assert runner.draft_tokens == 5
    for start in (1, 40, 253, 294):
        same_as_decoding(runner, 320, start)
    proof = prove_drafts(runner, np.arange(50), 320)
    assert proof.equal_bits and proof.worst_kld == 0 and proof.positions == 5 * 12


@pytest.mark.parametrize("case", ["gemma2", "mistral-window", "gemma4", "cohere2"])
def test_rings_caps_and_shared_caches(tmp_path, case):
    """Also behind the window, where a ring uses rows again."""
    checkpoint = save(random_model(case), tmp_path / "checkpoint")
    runner = open_lowered(
        checkpoint, tmp_path / "model.tflite", "fp32", "tflite-xnnpack", cache_length=120, prefill_chunk=64, draft_tokens=5
    )
    try:
        for start in (3, 30, 86, 88, 100):
            same_as_decoding(runner, runner.vocab_size, start)
    finally:
        runner.close()


def test_weights_are_stored_once(tmp_path):
    checkpoint = random_qwen2(tmp_path / "checkpoint", tied=False, hidden=256, mlp=1024)
    sizes = []
    for draft in (None, 7):
        open_lowered(
            checkpoint, tmp_path / f"{draft}.tflite", "int8", "tflite-xnnpack", cache_length=64, prefill_chunk=32, draft_tokens=draft
        ).close()
        sizes.append((tmp_path / f"{draft}.tflite").stat().st_size)
    assert sizes[0] < sizes[1] < sizes[0] + 100_000, sizes


def test_too_many_and_what_cannot_be_taken_back(tied_checkpoint, lowered_runner, tmp_path):
    runner = lowered_runner(tied_checkpoint, "fp32", **LENGTHS)
    runner.prefill([1, 2])
    with pytest.raises(FirstTokenError, match="6 drafted tokens; this artifact checks 5"):
        runner.check([1] * 7)
    with pytest.raises(FirstTokenError, match="do not fit the cache"):
        runner.prefill([1] * 296)
        runner.check([1] * 6)
    target = load_target("tflite-xnnpack", cache_length=64, draft_tokens=5)
    convolutions = "drafts cannot be checked with short convolutions, which lfm2 has .*leave out --draft-tokens"
    with Checkpoint(save(random_model("lfm2"), tmp_path / "lfm2")) as source, pytest.raises(FirstTokenError, match=convolutions):
        find_backend("tflite-xnnpack").check_model(open_decoder(source), target)
    for name in ("tflite-hexagon-sm8650", "litertlm-cpu", "tflite-gpu", "tflite-interpreter"):
        target = load_target(name, draft_tokens=5)
        with Checkpoint(tied_checkpoint) as source, pytest.raises(FirstTokenError, match="has no method that checks drafts"):
            backend_of(target).check_model(open_decoder(source), target)
    with pytest.raises(FirstTokenError, match="draft_tokens"):
        load_target("tflite-xnnpack", draft_tokens=32)


def test_without_drafts_nothing_changes(tied_checkpoint, lowered_runner):
    runner = lowered_runner(tied_checkpoint, "fp32", cache_length=300, prefill_chunk=64)
    assert runner.draft_tokens == 0 and set(runner.methods) == {"first", "extend", "decode"}
    assert "draft_tokens" not in load_target("tflite-xnnpack").model_dump()
    assert prove_drafts(runner, np.arange(9), 320) is None
