"""The app keeps the cache in two sets of buffers that it swaps: on LiteRT's own accelerator that gives the CPU's logits."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from firsttoken.backends.gpu.device import device_environment
from firsttoken.backends.litertlm.runner import LitertlmRunner
from firsttoken.bundle.manifest import read_manifest
from firsttoken.declarations import declaration_folder
from firsttoken.pipeline import export

pytestmark = pytest.mark.slow

CLOSE = 1e-4  # of the logits' spread, largest error in FP32


def test_two_sets_of_buffers_that_are_swapped_hold_the_cache(software_gpu, tiny_model, tmp_path):
    target = tmp_path / "short.toml"  # a graph fewer is seconds less: the accelerator compiles each
    text = (declaration_folder("export") / "tflite-gpu.toml").read_text(encoding="utf-8")
    target.write_text(text.replace("prefill_lengths = [16, 64, 256]", "prefill_lengths = [16]"), encoding="utf-8")
    [bundle] = export(tiny_model, tmp_path / "out", "fp32", (target,), prove=False, cache_length=60)
    manifest = read_manifest(bundle)
    tokens = np.random.default_rng(4).integers(0, 4000, 50)
    calls = {f"call{n}": part for n, part in enumerate(np.split(tokens, (30, 31, 32, 45, 46)))}
    np.savez(tmp_path / "calls.npz", **calls)
    command = [
        sys.executable,
        str(Path(__file__).with_name("two_caches.py")),
        str(bundle),
        str(tmp_path / "calls.npz"),
        str(tmp_path / "got.npy"),
    ]
    done = subprocess.run(command, env=device_environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    got = np.load(tmp_path / "got.npy")
    artifact = manifest.gpu_artifact
    host = LitertlmRunner(manifest, bundle / artifact.file, artifact.methods, threads=1)
    try:
        wanted = np.stack([host.prefill(part).copy() for part in calls.values()])
    finally:
        host.close()
    assert [method.name for method in artifact.methods] == ["prefill_16", "decode"]
    assert np.abs(got - wanted).max() < CLOSE * wanted.std()
