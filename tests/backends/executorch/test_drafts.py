"""Checking drafts in a .pte: the last few rows of logits out of the one method, the bits of decoding, and no trace of a wrong draft."""

import numpy as np
import pytest
from lowering_jobs import lowered_artifact
from tflite_fixtures import random_qwen2

from firsttoken.backends.executorch.runner import ExecutorchRunner
from firsttoken.backends.registry import find_backend
from firsttoken.prove.drafts import prove_drafts

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return random_qwen2(tmp_path_factory.mktemp("drafts") / "checkpoint", tied=True)


@pytest.mark.parametrize("plan", ["int8", "fp16-attention"])
def test_every_row_is_decodings_to_the_bit(checkpoint, tmp_path, plan):
    job, manifest, artifact = lowered_artifact(
        checkpoint, tmp_path, plan, "executorch-xnnpack", cache_length=300, prefill_chunk=64, draft_tokens=5
    )
    assert artifact.methods[0].outputs[0].shape == [1, "rows", 320]
    rows = find_backend("executorch-xnnpack").audit(tmp_path / "model.pte", job.decoder, job.written)
    assert all(row.delegated for row in rows if row.layer != "embedding")
    runner = ExecutorchRunner(tmp_path / "model.pte", manifest, threads=1)
    try:
        assert runner.draft_tokens == 5
        random = np.random.default_rng(1)
        for start in (1, 60, 124, 126, 253, 294):
            before, after = (random.integers(0, 320, count).tolist() for count in (start, 6))
            runner.reset()
            logits = runner.prefill(before).copy()
            rows = runner.check(after).copy()
            runner.accept(3)
            following = runner.decode(after[3]).copy()
            runner.reset()
            assert np.array_equal(logits, runner.prefill(before))
            decoded = [runner.decode(token).copy() for token in after]
            assert np.array_equal(rows, decoded) and np.array_equal(following, decoded[3])
        proof = prove_drafts(runner, np.arange(40), 320)
        assert proof.equal_bits and proof.same_top == 1 and proof.positions == 5 * 12
    finally:
        runner.close()
