"""The same calls on the app's native runner and on Python's runner: their logits must be the same bytes."""

import json
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np

from android.natives.native_runner import NativeHarness
from firsttoken.run.open import open_runner

Step = tuple[str, list[int]]


def app_steps(
    harness: NativeHarness, bundle: Path, steps: list[Step], into: Path, threads: int = 1, **more
) -> tuple[list[dict], np.ndarray]:
    """Takes the app's engine through ``steps`` (Steps.kt); returns a line of each and all logits, a row a call."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    native = more.pop("native", None) or harness.native(into.parent / "packed")
    job = {"mode": "steps", "bundle": str(bundle.absolute()), "threads": threads, "steps": steps, "into": str(into), "native": native}
    harness.run(job, **more)
    said = [json.loads(line) for line in (into / "steps.jsonl").read_text(encoding="utf-8").splitlines()]
    return said, np.fromfile(into / "logits.bin", "<f4")


def python_steps(bundle: Path, steps: list[Step], threads: int = 1) -> tuple[list[int], np.ndarray]:
    """The same with Python's runner; returns what each `keep` kept, and all logits."""
    kept, rows = [], []
    with closing(open_runner(bundle, threads=threads)) as runner:
        for name, tokens in steps:
            if name == "prefill":
                rows.append(np.array(runner.prefill(tokens)))
            elif name == "decode":
                rows += [np.array(runner.decode(token)) for token in tokens]
            elif name == "keep":
                kept.append(runner.keep_prefix(tokens))
                rows.append(np.array(runner.prefill(tokens[kept[-1] :])))
            elif name == "reset":
                runner.reset()
    return kept, np.concatenate([row.reshape(-1) for row in rows])
