"""Bundles with an artifact for a Snapdragon's NPU, against a real adbd: both artifacts are pushed, and measurements say which ran."""

import hashlib
from pathlib import Path

import pytest
from flow import SHORT, counts, measured, profile, with_npu

from firsttoken.device.staging import local_bundle

pytestmark = pytest.mark.slow


@pytest.fixture
def npu_bundle(two_bundles, tmp_path) -> Path:
    """For the SM8650 that the emulated phone has."""
    return with_npu(two_bundles[0], tmp_path / "npu")


def test_both_artifacts_are_pushed_and_the_npus_runs(phone, npu_bundle, capsys):
    assert profile(npu_bundle, *SHORT) == 0
    bundle = local_bundle(npu_bundle)
    place = phone.staging / "bundles" / bundle.key
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in place.iterdir()} == {
        file.name: file.sha256 for file in bundle.files
    }
    assert (place / "model.npu.tflite").read_bytes() == b"compiled for an NPU"
    [result] = measured().results
    assert (result.artifact.kind, result.artifact.soc, result.artifact.fallback) == ("npu", "SM8650", None)
    manifest = bundle.manifest
    assert result.artifact.sha256 == manifest.facts(manifest.npu_artifact).sha256
    assert result.bundle.artifact_sha256 == manifest.facts(manifest.cpu).sha256
    out = capsys.readouterr().out
    assert "npu (NPU)" in out and "not on the NPU" not in out


def test_another_snapdragon_runs_the_cpus_and_the_measurement_says_why(phone, two_bundles, tmp_path, capsys):
    assert profile(with_npu(two_bundles[0], tmp_path / "npu", soc="SM8550"), *SHORT) == 0
    [result] = measured().results
    assert (result.artifact.kind, result.artifact.fallback) == ("cpu", "it is compiled for SM8550, and this phone has SM8650-AC")
    assert result.artifact.sha256 == result.bundle.artifact_sha256 and result.proof == result.bundle.proof
    assert "ran on the CPU, not on the NPU: it is compiled for SM8550" in " ".join(capsys.readouterr().out.split())


def test_both_are_measured_side_by_side(phone, npu_bundle, two_bundles, capsys):
    assert profile(npu_bundle, two_bundles[1], *SHORT, "--artifact", "both") == 0
    measurement = measured()
    assert [(result.bundle.name, result.processor) for result in measurement.results] == [
        ("npu", "NPU"),
        ("npu", "CPU"),
        (two_bundles[1].name, ""),
    ]
    assert counts(measurement) == [{(32, "warm-up"): 1, (32, "warm"): 2}] * 3
    assert all(result.artifact is None or result.artifact.fallback is None for result in measurement.results)
    assert len(list((phone.staging / "bundles").iterdir())) == 2, "one copy of the bundle serves both"
    out = capsys.readouterr().out
    assert "npu (NPU)" in out and "npu (CPU)" in out


def test_what_cannot_be_asked_for_is_refused_before_anything_is_pushed(phone, two_bundles, tmp_path, capsys):
    assert profile(two_bundles[0], *SHORT, "--artifact", "npu") != 0
    assert "has no NPU artifact; leave out --artifact" in capsys.readouterr().err
    damaged = with_npu(two_bundles[0], tmp_path / "damaged")
    (damaged / "model.npu.tflite").write_bytes(b"compiled for an NPX")
    assert profile(damaged, *SHORT) != 0
    assert "model.npu.tflite" in capsys.readouterr().err
    assert not (phone.staging / "bundles").exists()
