"""Bundles proven on the software GPU, and faults that no CPU shows. CI must run the slow ones."""

import json
import shutil
from pathlib import Path

import pytest

from firsttoken import cli
from firsttoken.backends.gpu import device, rules
from firsttoken.backends.gpu.ops import GpuOps
from firsttoken.backends.litertlm.ops import LmOps
from firsttoken.bundle.gpu_facts import GpuProof
from firsttoken.bundle.manifest import MANIFEST_FILE, read_manifest
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError, GateError
from firsttoken.pipeline import export
from firsttoken.prove import on_gpu
from firsttoken.prove.on_gpu import prove_on_gpu, software_limits
from firsttoken.prove.prove import prove

LENGTH = 120
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
    assert after == before


@pytest.fixture(scope="module")
def tiny_on_gpu(tmp_path_factory, tiny_model):
    [bundle] = export(tiny_model, tmp_path_factory.mktemp("tiny"), "int8", ("litertlm-gpu",), prove=False, cache_length=LENGTH)
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
    [bundle] = export(tiny_model, tmp_path, plan, ("litertlm-gpu",), prove=False, cache_length=LENGTH)
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
        (["--on", "gpu"], "tflite-xnnpack has nothing for a GPU; export with a target like tflite-gpu"),
        (["--on", "arm", "--audit"], "leave out --on arm"),
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


@pytest.fixture(scope="module")
def beside(tmp_path_factory, tiny_model):
    """A bundle with an artifact for a GPU beside the CPU's, and what was said as it was exported and proven on both."""
    said: list[str] = []
    [bundle] = export(
        tiny_model, tmp_path_factory.mktemp("beside"), "fp32", ("tflite-gpu",), cache_length=LENGTH, witness=False, say=said.append
    )
    return bundle, said


def test_an_export_proves_the_artifact_for_the_gpu(software_gpu, beside):
    bundle, said = beside
    manifest = read_manifest(bundle)
    proof = manifest.gpu_artifact.proof
    assert isinstance(proof, GpuProof) and proof.passed and proof.device == device.DEVICE and manifest.proven_on_gpu is None
    assert proof.twin.mean_kld < 1e-9 and proof.all.tokens >= 16
    assert proof.methods == ["prefill_16", "prefill_64", "decode"]
    assert {row.computed for row in manifest.gpu_artifact.audit} == {"fp32"} and all(row.delegated for row in manifest.gpu_artifact.audit)
    assert any("proof on the software GPU: " in line and " of memory" in line for line in said)
    assert manifest.cpu.proof.passed


def test_a_proof_of_the_artifact_is_recorded_in_it_and_a_large_models_loads_two_graphs(
    software_gpu, beside, tiny_model, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(on_gpu, "LARGE", 0)
    bundle = Path(shutil.copytree(beside[0], tmp_path / "bundle"))
    assert cli.run(["prove", str(bundle), "--checkpoint", str(tiny_model), "--on", "gpu", "--audit", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["proven_on_gpu"]
    proof = read_manifest(bundle).gpu_artifact.proof
    assert proof.methods == said["methods"] == ["prefill_16", "decode"] and proof.all.tokens == 5 and proof.last_position == 27
    assert len(said["audit"]) == len(read_manifest(bundle).gpu_artifact.audit) > 10
    monkeypatch.setattr(rules, "wrong_in", lambda model: {0: {0: "planted"}})
    with pytest.raises(FirstTokenError, match="is not for the GPU: planted"):
        prove_on_gpu(bundle, tiny_model)


def test_a_fault_in_the_artifact_for_the_gpu_rejects_the_bundle(software_gpu, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(GpuOps, "operator_many", LmOps.operator_many)
    monkeypatch.setattr(rules, "check_model", lambda model, named: None)
    monkeypatch.setattr(GpuOps, "_cos_sin", LmOps._cos_sin)
    with pytest.raises(GateError, match="rejected by its proof.*on the software GPU: .*not built as the plan says"):
        export(tiny_model, tmp_path, "int8", ("tflite-gpu",), cache_length=LENGTH, witness=False)
    assert [path.name for path in tmp_path.iterdir()] == ["tflite-gpu.rejected"]
    proof = read_manifest(tmp_path / "tflite-gpu.rejected").gpu_artifact.proof
    assert not proof.passed and read_manifest(tmp_path / "tflite-gpu.rejected").cpu.proof.passed


def test_an_export_without_the_device_says_so(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv(device.FOLDER_VARIABLE, str(tmp_path / "nothing"))
    said: list[str] = []
    [bundle] = export(tiny_model, tmp_path / "out", "int8", ("tflite-gpu",), cache_length=LENGTH, witness=False, say=said.append)
    assert any("its GPU artifact, model.gpu.tflite, was not proven: the software GPU is not set up (run " in line for line in said)
    assert read_manifest(bundle).gpu_artifact.proof is None and read_manifest(bundle).cpu.proof.passed


def test_an_export_without_the_memory_says_so(software_gpu, beside, monkeypatch):
    from firsttoken.checkpoint import Checkpoint
    from firsttoken.decoder.walk import open_decoder

    monkeypatch.setattr(on_gpu, "available_memory", lambda: 1 << 28)
    with Checkpoint(checkpoint_path()) as checkpoint:
        why = on_gpu.why_not("out/tflite-gpu", read_manifest(beside[0]), open_decoder(checkpoint))
    assert "needs about" in why and "of memory, 256.0 MiB are available" in why and "--on gpu" in why


def test_the_host_says_what_it_did_not_run(beside, tiny_model, capsys):
    assert cli.run(["prove", str(beside[0]), "--checkpoint", str(tiny_model), "--no-witness"]) == 0
    assert "its GPU artifact, model.gpu.tflite, was not run: --on gpu does" in " ".join("".join(capsys.readouterr()).split())
