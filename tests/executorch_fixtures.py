"""Fixtures for tests that lower a small random decoder to .pte and run it. Each plan is lowered once a session."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from families_on_disk import random_model, save

CACHE, CHUNK = 48, 32
# Relative root-mean-square error of the logits that each plan may have on a random model, where every weight matters.
BOUNDS = {
    "fp32": 1e-5, "fp16": 5e-3, "int8": 0.08, "int8-apart": 0.08, "fp16-attention": 0.08, "fp16-attention-core": 0.08,
    "int4-mlp": 0.5, "int4": 0.8, "mixed": 0.9,
}  # fmt: skip
# Every precision beside every other one, in one layer each way.
MIXED = """
summary = "a test's"
group_size = 32
rule = [
  { match = "embedding", precision = "int4" },
  { match = "layers.0.attention.q", precision = "fp16" }, { match = "layers.0.attention.k", precision = "int8" },
  { match = "layers.0.attention.v", precision = "fp32" }, { match = "layers.0.attention.core", precision = "fp16" },
  { match = "layers.0.attention.output", precision = "int4", group = "row" }, { match = "layers.1.attention.q", precision = "int4", group = "row" },
  { match = "layers.0.mlp.gate", precision = "fp16" },
  { match = "layers.0.mlp.up", precision = "int8" }, { match = "layers.0.mlp.down", precision = "fp16" },
  { match = "layers.1.attention.k", precision = "fp16" }, { match = "layers.1.attention.output", precision = "fp16" },
  { match = "layers.1.attention.core", precision = "fp32" }, { match = "layers.1.mlp.gate", precision = "int4" },
  { match = "layers.1.mlp.up", precision = "fp16" }, { match = "head", precision = "fp16" }, { match = "*", precision = "int8" },
]
gate = { mean_kld = 1, p99_kld = 9, same_top = 0.1, magnitude = 0.9 }
"""


def relative_error(logits, expected) -> float:
    return float(np.sqrt(np.mean((logits - expected) ** 2)) / expected.std())


@dataclass
class Lowerings:
    """A tiny checkpoint, its FP32 logits for every position of ``tokens``, and its .pte files by plan."""

    folder: Path
    checkpoint: Path
    case: str = "qwen2"
    changes: dict = field(default_factory=dict)  # of the case's configuration
    alter: Callable[[torch.nn.Module], None] = lambda model: None  # its weights, before they are saved
    files: dict = field(default_factory=dict)

    def __post_init__(self):
        from firsttoken.checkpoint import Checkpoint
        from firsttoken.decoder.walk import open_decoder

        model = random_model(self.case, **self.changes)
        with torch.no_grad():
            self.alter(model)
        self.source = Checkpoint(save(model, self.checkpoint))
        self.config = open_decoder(self.source)
        self.tokens = np.random.default_rng(5).integers(0, self.config.vocab_size, CACHE).tolist()
        with torch.no_grad():
            self.expected = model(torch.tensor([self.tokens])).logits[0].numpy()

    def plan(self, name: str):
        from firsttoken.quant.plan import load_plan

        if name != "mixed":
            return load_plan(name)
        path = self.folder / "mixed.toml"
        path.write_text(MIXED)
        return load_plan(path)

    def lower(self, name: str, path: Path | None = None, cache_length: int = CACHE, prefill_chunk: int = CHUNK):
        """Returns ``(path, manifest, precisions as an audit writes them)``; without a path or other lengths, from what was lowered before."""
        from lowering_jobs import lowering_job

        from firsttoken.backends.executorch.lower import lower_decoder
        from firsttoken.bundle.manifest import CheckpointIdentity, Manifest

        key = name, cache_length, prefill_chunk
        if path is None and key in self.files:
            return self.files[key]
        job = lowering_job(self.source, self.plan(name), "executorch-xnnpack", cache_length=cache_length, prefill_chunk=prefill_chunk)
        written = path or self.folder / f"{name}-{cache_length}-{prefill_chunk}.pte"
        lowered = lower_decoder(job, written)
        manifest = Manifest.model_construct(
            plan=job.plan, target=job.target, checkpoint=CheckpointIdentity.model_construct(vocab_size=self.config.vocab_size),
            artifacts=lowered.artifacts,
        )  # fmt: skip
        result = written, manifest, job.written
        if path is None:
            self.files[key] = result
        return result

    def open(self, name: str, threads: int | None = None, **lengths):
        from firsttoken.backends.executorch.runner import ExecutorchRunner

        path, manifest, _ = self.lower(name, **lengths)
        return ExecutorchRunner(path, manifest, threads)


@pytest.fixture(scope="session")
def lowerings(tmp_path_factory) -> Lowerings:
    folder = tmp_path_factory.mktemp("executorch")
    return Lowerings(folder, folder / "checkpoint")
