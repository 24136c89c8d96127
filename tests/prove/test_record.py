"""Recording a proof on ARM in a finished bundle's manifest."""

import json
import shutil
import threading

import jsonschema
import pytest

from firsttoken.bundle.figures import Figures
from firsttoken.bundle.manifest import MANIFEST_FILE, ArmProof, json_schema, read_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.prove.record import record


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
