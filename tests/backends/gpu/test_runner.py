"""A bundle on the software GPU behaves like any runner, and its ends are clean."""

import os
import shutil
import signal

import numpy as np
import pytest

from firsttoken.backends.gpu.device import FOLDER_VARIABLE
from firsttoken.backends.gpu.runner import GpuRunner
from firsttoken.backends.registry import find_backend
from firsttoken.bundle.manifest import read_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.run.open import open_runner

CLOSE = 1e-5  # relative error of logits in FP32


def on_gpu(bundle):
    manifest = read_manifest(bundle)
    return find_backend(manifest.cpu.backend).on_gpu().open_runner(bundle, manifest, manifest.cpu)


def off(logits, expected) -> float:
    return float(np.sqrt(np.mean((logits - expected) ** 2)) / expected.std())


def test_prefill_decode_and_reset_are_the_cpus_to_the_caches_end(software_gpu, gpu_bundle):
    bundle = gpu_bundle()
    tokens = np.random.default_rng(3).integers(0, 4000, 120)
    host, gpu = open_runner(bundle, 1), on_gpu(bundle)
    try:
        for start, stop in ((0, 1), (1, 3), (3, 90), (90, 117)):
            assert off(gpu.prefill(tokens[start:stop]), host.prefill(tokens[start:stop])) < CLOSE, (start, stop)
        for token in tokens[117:]:
            assert off(gpu.decode(int(token)), host.decode(int(token))) < CLOSE
        assert gpu.position == host.position == 120
        with pytest.raises(FirstTokenError, match="do not fit the cache"):
            gpu.decode(7)
        gpu.reset()
        host.reset()
        assert off(gpu.prefill(tokens[40:45]), host.prefill(tokens[40:45])) < CLOSE, "rows of before are not seen"
        assert gpu.keep_prefix(tokens[40:45]) == 0, "nothing can be taken back there but all"
        host.reset()
        assert off(gpu.decode(9), host.decode(9)) < CLOSE
        with pytest.raises(FirstTokenError, match="outside the model's vocabulary"):
            gpu.decode(10**6)
    finally:
        host.close()
        gpu.close()
    assert not os.path.exists(f"/proc/{gpu.process_id}")


def test_some_graphs_of_a_container_give_the_same_numbers(software_gpu, gpu_bundle):
    """Their weights are mapped from the middle of the .litertlm."""
    bundle = gpu_bundle("int8")
    manifest = read_manifest(bundle)
    few = [method for method in manifest.cpu.methods if method.name in ("prefill_16", "decode")]
    assert 0 < len(few) < len(manifest.cpu.methods)
    found = []
    for methods in (manifest.cpu.methods, few):
        runner = GpuRunner(bundle, manifest, manifest.cpu.model_copy(update={"methods": methods}))
        found.append([runner.prefill(np.arange(50, 90)), runner.decode(7)])
        runner.close()
    assert all(off(ours, theirs) < CLOSE for ours, theirs in zip(*found, strict=True))


def test_a_process_that_is_killed_is_one_error(software_gpu, gpu_bundle):
    runner = on_gpu(gpu_bundle())
    os.kill(runner.process_id, signal.SIGKILL)
    with pytest.raises(FirstTokenError, match=r"model.litertlm on the software GPU: the system ended the process that ran it \(SIGKILL\)"):
        runner.prefill([1, 2, 3])
    runner.close()


def test_a_file_that_the_accelerator_does_not_take_whole_is_refused(software_gpu, gpu_bundle, tmp_path, demo_bundle):
    """The CPU's fixed graphs, in which the query heads of a group broadcast and halves are split."""
    bundle = shutil.copytree(gpu_bundle(), tmp_path / "bundle")
    shutil.copy(demo_bundle("litertlm-cpu-fixed") / "model.litertlm", bundle / "model.litertlm")
    said = r"model.litertlm on the software GPU: .*(refused it|did not take every operator).*; export it again with a target litertlm-gpu"
    with pytest.raises(FirstTokenError, match=said) as told:
        on_gpu(bundle)
    assert "\n" not in str(told.value) and "Traceback" not in str(told.value)


def test_without_the_device_the_error_has_the_command(monkeypatch, tmp_path, gpu_bundle):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(FirstTokenError, match="the software GPU is not set up .* run: .*setup_gpu"):
        on_gpu(gpu_bundle())


def test_other_backends_have_nothing_for_a_gpu():
    with pytest.raises(FirstTokenError, match="litertlm-cpu has nothing for a GPU; export with a target like tflite-gpu"):
        find_backend("litertlm-cpu").on_gpu()
