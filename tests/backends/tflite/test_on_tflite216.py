"""The compatible form on the oldest runtime it promises, TensorFlow Lite 2.16.1 (set up by scripts/setup_tflite216)."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tflite_fixtures import BOUNDS, relative_error

OLD = Path(__file__).parents[3] / ".work" / "tflite-2.16"
needs_old_runtime = pytest.mark.skipif(
    not (OLD / "ready").exists(), reason="TensorFlow Lite 2.16.1 is not set up: run scripts/setup_tflite216"
)


@needs_old_runtime
@pytest.mark.slow
@pytest.mark.parametrize("plan", ["fp32", "fp16", "int8", "fp16-attention", "fp16-attention-core"])
def test_old_runtime_computes_the_checkpoint(tied_checkpoint, lowered_runner, tokens, reference_logits, tmp_path, plan):
    path = lowered_runner(tied_checkpoint, plan, "tflite-compat", cache_length=200).path
    np.save(tmp_path / "tokens.npy", tokens)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(OLD), "PYTHONPATH": str(OLD)}
    command = [
        sys.executable,
        str(Path(__file__).with_name("walk_on_tflite216.py")),
        str(path),
        str(tmp_path / "tokens.npy"),
        str(tmp_path / "o.npz"),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    logits = np.load(tmp_path / "o.npz")
    assert sorted(map(int, logits.files)) == [49, 50, 90]
    for position in logits.files:
        assert relative_error(logits[position].ravel(), reference_logits[int(position)]) < BOUNDS[plan], position
