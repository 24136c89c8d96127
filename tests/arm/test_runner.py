"""A bundle on an emulated core behaves like any runner, and its ends are clean."""

import os
import shutil
import signal

import numpy as np
import pytest

from firsttoken.arm.cores import CORES
from firsttoken.arm.emulator import RUNTIMES, runtime_version, runtimes_of
from firsttoken.arm.folder import FOLDER_VARIABLE
from firsttoken.arm.runner import ArmRunner
from firsttoken.backends.tflite.backend import Tflite
from firsttoken.bundle.manifest import read_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.run.open import open_runner
from firsttoken.targets.target import load_target

A76 = CORES["cortex-a76"]
CASES = [("tflite-xnnpack", "litert"), ("tflite-compat", "tflite-2.16"), ("executorch-xnnpack", "executorch")]


def closeness(logits, expected) -> float:
    return float(np.sqrt(np.mean((logits - expected) ** 2)) / expected.std())


def test_which_runtimes_a_bundle_has_to_be_right_on():
    names = {
        target: [runtime.key for runtime in runtimes_of(load_target(target).cpu_backend)]
        for target in ("tflite-xnnpack", "tflite-compat", "executorch-xnnpack")
    }
    assert names == {"tflite-xnnpack": ["litert"], "tflite-compat": ["litert", "tflite-2.16"], "executorch-xnnpack": ["executorch"]}


def test_without_the_machine_the_error_has_the_command(monkeypatch, tmp_path, demo_bundle):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(FirstTokenError, match="emulated ARM is not set up .* run: .*setup_arm"):
        ArmRunner(demo_bundle("tflite-xnnpack"), A76, RUNTIMES["litert"])


@pytest.mark.slow
@pytest.mark.parametrize(("target", "runtime"), CASES)
def test_prefill_decode_and_reset_are_the_hosts(emulated_arm, demo_bundle, target, runtime):
    """Far from bit-equal (a flipped rounding of one activation is as large as this), near enough to tell any real fault."""
    bundle = demo_bundle(target)
    tokens = np.random.default_rng(3).integers(0, 4000, 40)
    host, arm = open_runner(bundle), ArmRunner(bundle, A76, RUNTIMES[runtime])
    try:
        for piece in (tokens[:20], tokens[20:25]):
            assert closeness(arm.prefill(piece), host.prefill(piece)) < 0.1
        for token in tokens[25:28]:
            assert closeness(arm.decode(int(token)), host.decode(int(token))) < 0.1
        assert arm.position == host.position == 28
        first = arm.decode(7).copy()
        arm.reset()
        host.reset()
        assert closeness(arm.prefill(tokens[30:33]), host.prefill(tokens[30:33])) < 0.1
        arm.reset()
        arm.prefill(tokens[:20]), arm.prefill(tokens[20:25])
        for token in tokens[25:28]:
            arm.decode(int(token))
        assert np.array_equal(arm.decode(7), first), "the same again after a reset, bit by bit"
        with pytest.raises(FirstTokenError, match="outside the model's vocabulary"):
            arm.decode(10**6)
    finally:
        host.close()
        arm.close()
    assert not os.path.exists(f"/proc/{arm.process_id}")


@pytest.mark.slow
@pytest.mark.parametrize(("target", "runtime"), CASES)
def test_an_artifact_that_the_runtime_refuses_is_one_error(emulated_arm, demo_bundle, tmp_path, target, runtime, monkeypatch):
    bundle = shutil.copytree(demo_bundle(target), tmp_path / "bundle")
    manifest = read_manifest(bundle)
    artifact = bundle / manifest.cpu.file
    damaged = bytearray(artifact.read_bytes())
    damaged[:4096] = bytes(4096)
    artifact.write_bytes(damaged)
    with pytest.raises(FirstTokenError, match="SHA-256"):
        ArmRunner(bundle, A76, RUNTIMES[runtime])
    from firsttoken.bundle.files import file_facts

    manifest.files[artifact.name] = file_facts(artifact)
    manifest.write(bundle)
    if runtime != "executorch":
        with pytest.raises(FirstTokenError, match="model.tflite: not a .tflite file"):
            ArmRunner(bundle, A76, RUNTIMES[runtime])
        monkeypatch.setattr(Tflite, "verify", lambda *_: None)
    with pytest.raises(FirstTokenError, match=r"on emulated cortex-a76: ") as caught:
        ArmRunner(bundle, A76, RUNTIMES[runtime])
    assert "Traceback" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
def test_an_emulator_that_is_killed_is_one_error(emulated_arm, demo_bundle):
    runner = ArmRunner(demo_bundle("executorch-xnnpack"), A76, RUNTIMES["executorch"])
    os.kill(runner.process_id, signal.SIGKILL)
    with pytest.raises(FirstTokenError, match="on emulated cortex-a76: ExecuTorch was ended by SIGKILL"):
        runner.prefill([1, 2, 3])
    runner.close()


@pytest.mark.slow
def test_the_machine_has_the_hosts_versions(emulated_arm):
    from importlib.metadata import version

    assert runtime_version(RUNTIMES["litert"]) == version("ai-edge-litert")
    assert runtime_version(RUNTIMES["executorch"]) == version("executorch")
    assert runtime_version(RUNTIMES["tflite-2.16"]) == "2.16.1"
