"""Every family's .pte computes what transformers computes: a prompt of 150 tokens in two calls, and 20 steps of decode."""

import numpy as np
import pytest
import torch
from families_on_disk import ONE_OF_EACH, random_model, save
from lowering_jobs import lowering_job

from firsttoken.backends.executorch import partition
from firsttoken.backends.registry import find_backend
from firsttoken.bundle.manifest import CheckpointIdentity, Manifest
from firsttoken.checkpoint import Checkpoint

BOUND, PROMPT = 1e-4, 150


@pytest.mark.slow
@pytest.mark.parametrize("case", ONE_OF_EACH)
def test_family(case, tmp_path):
    model = random_model(case)
    folder = save(model, tmp_path / "checkpoint")
    backend = find_backend("executorch-xnnpack")
    with Checkpoint(folder) as checkpoint:
        job = lowering_job(checkpoint, "fp32", "executorch-xnnpack", cache_length=192)
        [artifact] = backend.lower(job, tmp_path / backend.artifact_file).artifacts
    identity = CheckpointIdentity.model_construct(vocab_size=job.decoder.vocab_size)
    manifest = Manifest.model_construct(plan=job.plan, target=job.target, checkpoint=identity, artifacts=[artifact])
    runner = backend.open_runner(tmp_path, manifest, artifact, threads=1, kept=False)
    tokens = np.random.default_rng(3).integers(0, 131, PROMPT + 20).tolist()
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits[0].numpy()
    runner.prefill(tokens[:70])
    assert np.abs(runner.prefill(tokens[70:PROMPT]) - expected[PROMPT - 1]).max() < BOUND
    for position in range(PROMPT, PROMPT + 20):
        assert np.abs(runner.decode(tokens[position]) - expected[position]).max() < BOUND
    runner.close()


@pytest.mark.slow
def test_constants_that_all_layers_read_stay(tmp_path, monkeypatch):
    """What is freed of a model of real size: a layer's own weights, not the rotation matrix, which is large where heads are."""
    folder, backend, written = save(random_model("gemma3"), tmp_path / "checkpoint"), find_backend("executorch-xnnpack"), []
    for large in (partition.LARGE, 1 << 10):
        monkeypatch.setattr(partition, "LARGE", large)
        with Checkpoint(folder) as checkpoint:
            backend.lower(lowering_job(checkpoint, "int8", "executorch-xnnpack", cache_length=192), tmp_path / backend.artifact_file)
        written.append((tmp_path / backend.artifact_file).read_bytes())
    assert written[0] == written[1]
