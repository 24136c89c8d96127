"""The measurement file: schema and models agree, what is foreign is refused by name, writing is whole or not at all."""

import json

import jsonschema
import pytest
from measurement_fixtures import values

from firsttoken.bundle.manifest import read_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.measure import measurement as module
from firsttoken.measure.measurement import Measurement, Run, Stages, identify_bundle, json_schema, parse_measurement, read_measurement


def test_the_schema_file_is_the_models():
    assert module.SCHEMA_FILE.read_text(encoding="utf-8") == json_schema(), "regenerate it: SCHEMA_FILE.write_text(json_schema())"


def test_schema_and_models_accept_the_same():
    jsonschema.validate(values(), json.loads(json_schema()))
    assert parse_measurement(values(), "x").results[0].runs[0].stages.first_token == 28


def test_stages_add_up_with_those_that_are_there():
    assert Stages(tokenize=1, prefill=2, sample=3, detokenize=4).first_token == 10
    assert Stages(load=100, tokenize=1, prefill=2, sample=3, detokenize=4, render=1000).first_token == 1110


def test_what_is_written_is_read_back(tmp_path):
    made = parse_measurement(values(), "x")
    made.write(tmp_path / "m.json")
    assert read_measurement(tmp_path / "m.json") == made
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.json"
    path.write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(FirstTokenError, match="No space left.*unchanged"):
        Measurement.model_validate(values()).write(path)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["m.json"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 2}, "schema version 2; this firsttoken reads up to 1, update it"),
        ({"schema_version": None}, "not a measurement"),
        ({"schema_version": True}, "not a measurement"),
        ({"results": []}, "at least one result"),
        ({"extra": 1}, "extra is not a known field"),
        ({"device": {}}, "device.kind is missing"),
    ],
)
def test_foreign_files_are_refused_in_one_line(change, said):
    with pytest.raises(FirstTokenError, match=said) as caught:
        parse_measurement(values(**change), "file.json")
    assert str(caught.value).startswith("file.json: ") and "\n" not in str(caught.value)


def test_a_manifest_is_no_measurement(demo_bundle):
    with pytest.raises(FirstTokenError, match="not a measurement"):
        read_measurement(demo_bundle("tflite-xnnpack") / "manifest.json")


@pytest.mark.parametrize(
    ("content", "said"), [(None, "missing; expected a file"), (b"\xff\xfe", "JSON"), (b"[1]", "expected a JSON object"), (b"{", "JSON")]
)
def test_unreadable_files(tmp_path, content, said):
    path = tmp_path / "m.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FirstTokenError, match=said):
        read_measurement(path)


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "m.json"
    with open(path, "wb") as stream:
        stream.truncate(module.LARGEST_FILE + 1)
    with pytest.raises(FirstTokenError, match="expected .* at most"):
        read_measurement(path)


def test_negative_times_are_refused():
    with pytest.raises(ValueError):
        Run.model_validate(values()["results"][0]["runs"][0] | {"stages": {"tokenize": -1, "prefill": 1, "sample": 1, "detokenize": 1}})


def test_a_bundles_identity_is_its_manifests(demo_bundle):
    manifest = read_manifest(demo_bundle("tflite-xnnpack"))
    identity = identify_bundle("name", manifest)
    assert identity.artifact_sha256 == manifest.facts(manifest.cpu).sha256 and identity.proof is None and identity.plan == "fp16-attention"
