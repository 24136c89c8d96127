"""Bundles with an artifact for a GPU, alone or behind an NPU's, against a real adbd: all are pushed, and measurements say which ran."""

from pathlib import Path

import pytest
from flow import SHORT, measured, profile, with_gpu, with_npu

pytestmark = pytest.mark.slow


@pytest.fixture
def gpu_bundle(two_bundles, tmp_path) -> Path:
    return with_gpu(two_bundles[0], tmp_path / "gpu")


def test_the_gpus_runs_and_each_can_be_measured_by_itself(phone, gpu_bundle, capsys):
    assert profile(gpu_bundle, *SHORT) == 0
    [result] = measured().results
    assert (result.artifact.kind, result.artifact.fallback, result.ran_bytes) == ("gpu", None, len(b"graphs for a GPU"))
    assert profile(gpu_bundle, *SHORT, "--artifact", "both", "--force") == 0
    assert [result.title for result in measured().results] == ["gpu (GPU)", "gpu (CPU)"]
    assert "gpu (GPU)" in capsys.readouterr().out


def test_of_three_the_first_that_runs_is_told_with_the_reason(phone, two_bundles, tmp_path, capsys):
    three = with_gpu(with_npu(two_bundles[0], tmp_path / "npu", soc="SM8550"), tmp_path / "three")
    assert profile(three, *SHORT) == 0
    [result] = measured().results
    assert (result.artifact.kind, result.artifact.instead_of) == ("gpu", "npu")
    assert "ran on the GPU, not on the NPU: it is compiled for SM8550" in " ".join(capsys.readouterr().out.split())


def test_what_a_bundle_lacks_is_refused(phone, two_bundles, gpu_bundle, capsys):
    for bundle, kind, target in ((two_bundles[0], "gpu", "-t tflite-gpu"), (gpu_bundle, "npu", "-t tflite-hexagon-sm8650")):
        assert profile(bundle, *SHORT, "--artifact", kind) != 0
        said = " ".join(capsys.readouterr().err.split())
        assert f"has no {kind.upper()} artifact; leave out --artifact" in said and target in said
