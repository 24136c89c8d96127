#!/usr/bin/env python3
"""What it costs that every expert is computed: a small random model with experts against dense ones, as .tflite in INT8, on one thread.

The dense MLPs are as wide as the chosen experts together, which is what a runtime that computes those alone would multiply, and as all of
them, which is what is multiplied here. Milliseconds a token of decode and for a prompt: the least and the median of the turns.

    .venv/bin/python scripts/benchmarks/experts.py --experts 8 --chosen 2 --size 512
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2] / "tests" / name) for name in ("decoder", "")]
from families_on_disk import random_model, save  # noqa: E402
from lowering_jobs import lowering_job  # noqa: E402

from firsttoken.backends.registry import find_backend  # noqa: E402
from firsttoken.backends.runner import Runner  # noqa: E402
from firsttoken.bundle.manifest import CheckpointIdentity, Manifest  # noqa: E402
from firsttoken.checkpoint import Checkpoint  # noqa: E402

SHAPE = {
    "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 4096,
    "max_position_embeddings": 1024,
}  # fmt: skip
PROMPT, STEPS = 128, 40


def opened(case: str, folder: Path, **sizes: int) -> Runner:
    """The runner of a written file of a random model."""
    backend = find_backend("tflite-xnnpack")
    with Checkpoint(save(random_model(case, **SHAPE, **sizes), folder / "checkpoint")) as checkpoint:
        job = lowering_job(checkpoint, "int8", "tflite-xnnpack", cache_length=512)
        [artifact] = backend.lower(job, folder / backend.artifact_file).artifacts
    identity = CheckpointIdentity.model_construct(vocab_size=job.decoder.vocab_size)
    manifest = Manifest.model_construct(plan=job.plan, target=job.target, checkpoint=identity, artifacts=[artifact])
    return backend.open_runner(folder, manifest, artifact, threads=1, kept=False)


def turn(runner: Runner, tokens: list[int]) -> tuple[float, float]:
    """Seconds for a prompt, and for a token of decode, from position 0."""
    runner.reset()
    started = time.perf_counter()
    runner.prefill(tokens[:PROMPT])
    prefilled, steps = time.perf_counter() - started, []
    for token in tokens[PROMPT:]:
        started = time.perf_counter()
        runner.decode(token)
        steps.append(time.perf_counter() - started)
    return prefilled, median(steps)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("experts", 8), ("chosen", 2), ("size", 512), ("turns", 10)):
        options.add_argument(f"--{name}", type=int, default=default)
    given = options.parse_args()
    sparse = {"num_experts": given.experts, "num_experts_per_tok": given.chosen, "moe_intermediate_size": given.size}
    tokens = np.random.default_rng(0).integers(0, SHAPE["vocab_size"], PROMPT + STEPS).tolist()
    with tempfile.TemporaryDirectory() as scratch:
        runners = {
            f"{given.experts} experts of {given.size}": opened("qwen3_moe", Path(scratch, "a"), decoder_sparse_step=1, **sparse),
            f"dense, {given.chosen * given.size} wide": opened("qwen3", Path(scratch, "b"), intermediate_size=given.chosen * given.size),
            f"dense, {given.experts * given.size} wide": opened("qwen3", Path(scratch, "c"), intermediate_size=given.experts * given.size),
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runners}
        for _ in range(given.turns):  # in turns, so that what else the machine does befalls all alike
            for name, runner in runners.items():
                taken[name].append(turn(runner, tokens))
    for name, turns in taken.items():
        prompt, step = ([1000 * one[n] for one in turns] for n in (0, 1))
        print(
            f"{name:22} {min(step):6.2f} ms a token (median {median(step):.2f}), {min(prompt):6.1f} ms for {PROMPT} (median {median(prompt):.1f})"
        )


if __name__ == "__main__":
    main()
