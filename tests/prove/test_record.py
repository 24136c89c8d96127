"""Recording a proof on ARM in a finished bundle's manifest."""

import json
import shutil
import threading

import jsonschema
import pytest
from manifest_variants import gpu_manifest

from firsttoken.bundle.figures import Figures
from firsttoken.bundle.gpu_facts import GpuProof
from firsttoken.bundle.manifest import MANIFEST_FILE, ArmProof, AuditRow, json_schema, read_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.prove.record import record, record_on_gpu


def proof(core: str = "cortex-a76", runtime: str = "LiteRT", windows: int = 3) -> ArmProof:
    figures = Figures(
        tokens=5, mean_kld=1e-7, p99_kld=0.1, p999_kld=0.2, same_top=0.9, perplexity=2.5, reference_perplexity=2.4, perplexity_change=0.04, magnitude_ratio=1.0
    )  # fmt: skip
    return ArmProof(
        core=core, runtime=runtime, runtime_version="2.3.0", text="a text – mit Umlauten: ä", text_sha256="0" * 64, windows=windows,
        arm=figures, host=figures, arm_against_host=figures, kernels=["sdot", "fmla.8h"],
    )  # fmt: skip


@pytest.fixture
def bundle(demo_bundle, tmp_path):
    return shutil.copytree(demo_bundle("tflite-xnnpack"), tmp_path / "bundle")


def put(bundle, entry: ArmProof | None, core: str = "cortex-a76", runtime: str = "LiteRT"):
    manifest = read_manifest(bundle)
    record(bundle, manifest.facts(manifest.cpu).sha256, core, runtime, entry)


def test_a_proof_is_added_and_nothing_else_changes(bundle):
    before = json.loads((bundle / MANIFEST_FILE).read_text())
    files = sorted(path.name for path in bundle.iterdir())
    put(bundle, proof())
    after = json.loads((bundle / MANIFEST_FILE).read_text())
    jsonschema.validate(after, json.loads(json_schema()))
    assert read_manifest(bundle).proven_on == [proof()]
    assert len(after.pop("proven_on")) == 1 and before.pop("proven_on") == []
    assert after == before and sorted(path.name for path in bundle.iterdir()) == files


def test_a_newer_one_replaces_that_of_the_same_core_and_runtime(bundle):
    for entry in (proof(), proof("cortex-a53"), proof(runtime="TensorFlow Lite"), proof(windows=9)):
        put(bundle, entry, entry.core, entry.runtime)
    found = [(entry.core, entry.runtime, entry.windows) for entry in read_manifest(bundle).proven_on]
    assert found == [("cortex-a53", "LiteRT", 3), ("cortex-a76", "TensorFlow Lite", 3), ("cortex-a76", "LiteRT", 9)]


def test_a_failed_proof_removes_what_is_no_longer_true(bundle):
    put(bundle, proof())
    put(bundle, proof("cortex-a53"), "cortex-a53")
    put(bundle, None)
    assert [entry.core for entry in read_manifest(bundle).proven_on] == ["cortex-a53"]
    text = (bundle / MANIFEST_FILE).read_text()
    put(bundle, None)
    assert (bundle / MANIFEST_FILE).read_text() == text


def test_a_manifest_from_before_this_field_is_valid_and_gets_it(bundle):
    path = bundle / MANIFEST_FILE
    values = json.loads(path.read_text())
    del values["proven_on"]
    path.write_text(json.dumps(values))
    jsonschema.validate(values, json.loads(json_schema()))
    assert read_manifest(bundle).proven_on == []
    put(bundle, proof())
    assert read_manifest(bundle).proven_on == [proof()]


def test_another_artifact_by_now_gets_nothing(bundle):
    text = (bundle / MANIFEST_FILE).read_text()
    with pytest.raises(FirstTokenError, match="exported again during the proof"):
        record(bundle, "f" * 64, "cortex-a76", "LiteRT", proof())
    assert (bundle / MANIFEST_FILE).read_text() == text
    shutil.rmtree(bundle)
    with pytest.raises(FirstTokenError, match="cannot be opened"):
        record(bundle, "f" * 64, "cortex-a76", "LiteRT", proof())


def test_proofs_that_end_at_the_same_time_are_all_recorded(bundle):
    cores = [f"core-{n}" for n in range(8)]
    threads = [threading.Thread(target=put, args=(bundle, proof(core), core)) for core in cores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.core for entry in read_manifest(bundle).proven_on) == cores


def on_gpu(windows: int = 3) -> GpuProof:
    figures = proof().arm
    return GpuProof(
        device="WebGPU on a software device", driver="chromium-common 1", runtime_version="2.3.0", text="t", text_sha256="0" * 64, windows=windows,
        last_position=1279, compile_seconds=1.5, prefill=figures, decode=figures, all=figures, cpu=figures, gpu_against_cpu=figures,
    )  # fmt: skip


def test_a_proof_on_a_gpu_is_put_replaced_and_removed(bundle):
    text, manifest = (bundle / MANIFEST_FILE).read_text(), read_manifest(bundle)
    for windows in (3, 5):
        record_on_gpu(bundle, manifest, manifest.cpu, on_gpu(windows), [])
        jsonschema.validate(json.loads((bundle / MANIFEST_FILE).read_text()), json.loads(json_schema()))
        assert read_manifest(bundle).proven_on_gpu == on_gpu(windows)
    record_on_gpu(bundle, manifest, manifest.cpu, None, [])
    assert json.loads((bundle / MANIFEST_FILE).read_text()) == json.loads(text), "readers of other bundles need not know the field"


def test_a_proof_of_an_artifact_for_a_gpu_is_that_artifacts(bundle):
    gpu_manifest().write(bundle)
    manifest = read_manifest(bundle)
    rows = [AuditRow(layer="head", asked="int8", stored="int8", computed="fp32", delegated=True)] * 2
    record_on_gpu(bundle, manifest, manifest.gpu_artifact, on_gpu(5), rows)
    after = read_manifest(bundle)
    assert (after.gpu_artifact.proof, after.gpu_artifact.audit) == (on_gpu(5), rows) and after.proven_on_gpu == manifest.proven_on_gpu
    record_on_gpu(bundle, manifest, manifest.gpu_artifact, None, rows)
    assert (read_manifest(bundle).gpu_artifact.proof, read_manifest(bundle).gpu_artifact.audit) == (None, [])
    values = json.loads((bundle / MANIFEST_FILE).read_text())
    values["files"]["model.gpu.tflite"]["sha256"] = "ef" * 32
    (bundle / MANIFEST_FILE).write_text(json.dumps(values))
    with pytest.raises(FirstTokenError, match="was exported again during the proof"):
        record_on_gpu(bundle, manifest, manifest.gpu_artifact, on_gpu(5), rows)
