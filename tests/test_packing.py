"""Weights are packed for CPUs that are not here by an emulated one, and what cannot be is refused before any work."""

import numpy as np
import pytest

from firsttoken.arm.cores import CORES
from firsttoken.arm.emulator import RUNTIMES
from firsttoken.arm.folder import FOLDER_VARIABLE
from firsttoken.arm.runner import ArmRunner
from firsttoken.backends.isa import host_isa
from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.file_hash import hash_file
from firsttoken.packing import need_equal
from firsttoken.pipeline import export
from firsttoken.run.open import open_runner


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"pack_for": ["dotprot"]}, "--pack-for dotprot: unknown, or a CPU that is not here .did you mean 'dotprod'"),
        ({"pack_for": ["x86-none"]}, "expected one of armv8, dotprod, i8mm, sme, .*host"),
        ({"packed_only": True}, "none are asked for; give --pack-for as well"),
        (
            {"pack_for": ["host"], "targets": ["executorch-xnnpack"]},
            "takes no packed weights; leave out --pack-for, or give -t tflite-xnnpack",
        ),
        ({"pack_for": ["host"], "targets": ["tflite-gpu"], "packed_only": True}, "its other artifacts take weights from the CPU's"),
        ({"pack_for": ["host"], "plan": "int4", "packed_only": True}, "take a plan like int4-mlp"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(tmp_path, how, told):
    with pytest.raises(FirstTokenError, match=told):
        export(checkpoint_path(), tmp_path / "out", prove=False, **how)
    assert not (tmp_path / "out").exists()


def test_without_the_emulator_the_command_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(FirstTokenError, match="emulated ARM is not set up .* run: .*setup_arm"):
        export(checkpoint_path(), tmp_path / "out", prove=False, pack_for=["dotprod"])


def test_logits_that_differ_in_a_bit_are_told():
    row = np.ones(4, np.float32)
    need_equal([row], [row.copy()], "here")
    with pytest.raises(FirstTokenError, match="here: logits differ by up to 1.19209e-07"):
        need_equal([row], [np.nextafter(row, np.float32(2))], "here")


@pytest.mark.slow
def test_packed_for_an_arm_cpu(emulated_arm, tmp_path):
    """On the core it computes what the whole artifact does there; another core, and this machine, refuse it by name."""
    [whole] = export(checkpoint_path(), tmp_path / "whole", "int8", prove=False)
    [bundle] = export(checkpoint_path(), tmp_path / "only", "int8", prove=False, pack_for=["dotprod"], packed_only=True)
    [packed] = read_manifest(bundle).packed.files
    before, rows = hash_file(bundle / packed.file), []
    for folder in (whole, bundle):
        runner = ArmRunner(folder, CORES["cortex-a76"], RUNTIMES["litert"])
        rows.append(np.stack([runner.prefill(np.arange(5) * 9).copy(), runner.decode(3).copy()]))
        runner.close()
    assert np.array_equal(*rows) and np.isfinite(rows[0]).all() and packed.isa == "dotprod"
    with pytest.raises(FirstTokenError, match="none can be used on cortex-a53: they are for dotprod, and this CPU is armv8"):
        ArmRunner(bundle, CORES["cortex-a53"], RUNTIMES["litert"])
    with pytest.raises(FirstTokenError, match=f"they are for dotprod, and this CPU is {host_isa()}"):
        open_runner(bundle, 1)
    assert hash_file(bundle / packed.file) == before
