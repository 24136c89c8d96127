"""Bundles proven on the software GPU, and faults that no CPU shows. CI must run the slow ones."""

import json
import shutil
from pathlib import Path

import pytest

from firsttoken import cli
from firsttoken.backends.gpu import device, rules
from firsttoken.backends.gpu.ops import GpuOps
from firsttoken.backends.litertlm.ops import LmOps
from firsttoken.bundle.manifest import MANIFEST_FILE, read_manifest
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export
from firsttoken.prove import on_gpu
from firsttoken.prove.on_gpu import prove_on_gpu, software_limits
from firsttoken.prove.prove import prove

FEW, FEWER = (1900, 60), (130, 40)  # tokens and positions: enough for the whole cache, and for the bounds


@pytest.fixture
def demo_on_gpu(tmp_path):
    def make(plan: str) -> Path:
        [bundle] = export(checkpoint_path(), tmp_path, plan, ("litertlm-gpu",), prove=False)
        return bundle

    return make


@pytest.mark.slow
@pytest.mark.parametrize(("plan", "most", "share"), [("int8", FEW, 0.7), ("fp16-attention", FEWER, 1.0)])
def test_the_demo_keeps_its_plan_on_the_gpu_and_errs_less_than_on_the_cpu(software_gpu, demo_on_gpu, plan, most, share):
    bundle = demo_on_gpu(plan)
    before = json.loads((bundle / MANIFEST_FILE).read_text())
    result = prove_on_gpu(bundle, checkpoint_path(), most=most)
    assert result.gpu.passed and result.cpu.passed, result.misses
    assert result.gpu.all.tokens == result.cpu.all.tokens >= 30 and result.gpu.prefill.tokens >= 2
    assert result.gpu.all.mean_kld <= share * result.cpu.all.mean_kld
    assert result.gpu.twin.mean_kld < 1e-9, "weights rounded and nothing else, to float32's own rounding"
    if most is FEW:
        assert result.summary.last_position == 1279
    after = json.loads((bundle / MANIFEST_FILE).read_text())
    recorded = after.pop("proven_on_gpu")
    assert recorded["device"] == "WebGPU on a software device" and recorded["driver"] == device.device_version()
    assert recorded["all"]["mean_kld"] == result.gpu.all.mean_kld and recorded["cpu"]["mean_kld"] == result.cpu.all.mean_kld
    assert before.pop("proven_on_gpu") is None and after == before


@pytest.fixture(scope="module")
def tiny_on_gpu(tmp_path_factory, tiny_model):
    [bundle] = export(tiny_model, tmp_path_factory.mktemp("tiny"), "int8", ("litertlm-gpu",), prove=False, cache_length=120)
    return bundle


def test_the_command_line_proves_and_records(software_gpu, tiny_on_gpu, tiny_model, tmp_path, capsys):
    bundle = Path(shutil.copytree(tiny_on_gpu, tmp_path / "bundle"))
    assert cli.run(["prove", str(bundle), "--checkpoint", str(tiny_model), "--on", "gpu", "--windows", "2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["passed"] and said["proven_on_gpu"]["device"] == "WebGPU on a software device"
    assert read_manifest(bundle).proven_on_gpu.windows == 2 and read_manifest(bundle).proven_on == []


def planted(tiny_model, tmp_path, monkeypatch, plan, **methods) -> Path:
    """A bundle whose graphs have another form, with the checks that refuse it taken away."""
    monkeypatch.setattr(GpuOps, "operator_many", LmOps.operator_many)
    monkeypatch.setattr(rules, "check_model", lambda model, named: None)
    for method, other in methods.items():
        monkeypatch.setattr(GpuOps, method, other)
    [bundle] = export(tiny_model, tmp_path, plan, ("litertlm-gpu",), prove=False, cache_length=120)
    return bundle


@pytest.mark.slow
def test_a_product_that_broadcasts_is_right_on_the_cpu_and_caught_on_the_gpu(software_gpu, tiny_model, tmp_path, monkeypatch):
    bundle = planted(tiny_model, tmp_path, monkeypatch, "fp32", _heads_of=LmOps._heads_of, _weighted=LmOps._weighted)
    assert prove(bundle, tiny_model)[0].misses == ["layers.0.attention.core: not taken by the delegate (gpu)"], (
        "the CPU's numbers are right"
    )
    result = prove_on_gpu(bundle, tiny_model, windows=2)
    assert not result.gpu.passed and any("mean KL divergence" in miss for miss in result.misses)
    assert any("not taken by the delegate (gpu)" in miss for miss in result.misses), "and the audit names it"
    assert read_manifest(bundle).proven_on_gpu is None


@pytest.mark.slow
def test_integers_that_are_gathered_end_the_process_in_one_error(software_gpu, tiny_model, tmp_path, monkeypatch):
    bundle = planted(tiny_model, tmp_path, monkeypatch, "int8", embed=LmOps.embed)
    with pytest.raises(FirstTokenError, match=r"on the software GPU: a native library ended .* \(SIGSEGV\)") as told:
        prove_on_gpu(bundle, tiny_model, windows=1)
    assert "\n" not in str(told.value) and read_manifest(bundle).proven_on_gpu is None


@pytest.mark.slow
def test_halves_by_split_are_caught(software_gpu, tiny_model, tmp_path, monkeypatch):
    """Refused by the accelerator, or taken and wrong."""
    bundle = planted(tiny_model, tmp_path, monkeypatch, "fp32", split=LmOps.split)
    try:
        found = prove_on_gpu(bundle, tiny_model, windows=2).misses
    except FirstTokenError as error:
        found = [str(error)]
    assert any("mean KL divergence" in miss or "on the software GPU: loading" in miss for miss in found), found
    assert read_manifest(bundle).proven_on_gpu is None


def test_cosines_of_the_accelerator_are_caught_by_the_twin(software_gpu, tiny_model, tmp_path, monkeypatch):
    bundle = planted(tiny_model, tmp_path, monkeypatch, "fp32", _cos_sin=LmOps._cos_sin)
    result = prove_on_gpu(bundle, tiny_model, windows=2)
    assert any("not built as the plan says" in miss for miss in result.misses), result.gpu.twin


def test_larger_models_are_run_at_fewer_positions(tiny_model, monkeypatch):
    from firsttoken.checkpoint import Checkpoint
    from firsttoken.decoder.walk import open_decoder

    with Checkpoint(tiny_model) as checkpoint:
        decoder = open_decoder(checkpoint)
    assert software_limits(decoder) is None
    monkeypatch.setattr(on_gpu, "parameter_count", lambda _: 135 * 10**6)
    tokens, positions = software_limits(decoder)
    assert tokens == int(on_gpu.WEIGHT_TOKENS / 135e6) and 16 <= positions <= tokens


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--on", "gpu"], "tflite-xnnpack has nothing for a GPU; export with a target like litertlm-gpu"),
        (["--on", "gpu", "--audit"], "leave out --on gpu"),
        (["--on", "gpu", "--cpu", "cortex-a76"], "--cpu goes with --on arm"),
    ],
)
def test_the_command_line_says_what_is_wrong_in_one_line(demo_bundle, capsys, options, said):
    assert cli.run(["prove", str(demo_bundle("tflite-xnnpack")), "--checkpoint", str(checkpoint_path()), *options]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and said in lines[0]


def test_without_the_device_the_command_to_run_is_named(tiny_on_gpu, tiny_model, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(device.FOLDER_VARIABLE, str(tmp_path))
    assert cli.run(["prove", str(tiny_on_gpu), "--checkpoint", str(tiny_model), "--on", "gpu"]) == 2
    assert "the software GPU is not set up" in capsys.readouterr().err
