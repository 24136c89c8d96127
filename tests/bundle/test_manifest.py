"""The manifest: read back as written, as strict as its JSON Schema, and about every file of its bundle."""

import json
import shutil

import jsonschema
import pytest
from manifest_variants import demo_manifest, gpu_manifest, not_finite, npu_manifest, values_of, variants
from pydantic import ValidationError

from firsttoken import cli
from firsttoken.bundle.gpu_facts import GpuProof
from firsttoken.bundle.manifest import MANIFEST_FILE, SCHEMA_FILE, NpuProof, Proof, json_schema, parse_manifest, read_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.quant.plan import load_plan
from firsttoken.run.open import open_runner

SCHEMA = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))
# What a target says in two fields at once, or by a list of Snapdragons, is for the model alone to check.
BEYOND_THE_SCHEMA = {
    "target.cache_length = 7",
    "target.npu.soc = null",
    "target.npu.soc = \"text\"",
    "without target.npu.soc",
    "target.npu.prefill_lengths.0 = -1",
    "target.gpu.prefill_lengths.0 = -1",
}  # fmt: skip


def parsed(values: dict) -> bool:
    try:
        parse_manifest(json.dumps(values))
    except ValidationError:
        return False
    return True


@pytest.fixture
def bundle(demo_bundle, tmp_path):
    return shutil.copytree(demo_bundle("tflite-xnnpack"), tmp_path / "bundle")


def change(bundle, changes):
    """Rewrites a bundle's manifest after ``changes`` were made to its values."""
    values = json.loads((bundle / MANIFEST_FILE).read_text())
    changes(values)
    (bundle / MANIFEST_FILE).write_text(json.dumps(values))


def test_the_schema_file_is_the_models():
    assert SCHEMA_FILE.read_text() == json_schema(), "write it again: SCHEMA_FILE.write_text(json_schema())"


@pytest.mark.parametrize("target", ["tflite-xnnpack", pytest.param("executorch-xnnpack", marks=pytest.mark.slow)])
def test_a_bundle_keeps_the_schema_and_names_every_file(demo_bundle, target):
    folder = demo_bundle(target)
    SCHEMA.validate(json.loads((folder / MANIFEST_FILE).read_text()))
    manifest = read_manifest(folder)
    assert {*manifest.files, MANIFEST_FILE} == {path.name for path in folder.iterdir()}
    assert all(facts.bytes == (folder / name).stat().st_size for name, facts in manifest.files.items())
    assert [state.layer for state in manifest.cpu.states] == list(range(manifest.checkpoint.layers)) == manifest.rotations[0].layers
    assert (
        manifest.npu_artifact is None and manifest.cpu.backend == target and manifest.cpu.needs.min_runtime == manifest.target.min_runtime
    )


@pytest.mark.parametrize("make", [demo_manifest, npu_manifest, gpu_manifest])
def test_read_back_as_written(make, tmp_path):
    manifest = make()
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == manifest
    beside = {npu_manifest: [NpuProof], gpu_manifest: [GpuProof]}.get(make, [])
    assert [type(artifact.proof) for artifact in manifest.artifacts] == [Proof, *beside]
    SCHEMA.validate(values_of(manifest))


def test_every_layers_state_has_its_own_dtype(tmp_path):
    """Where a plan mixes the precisions of attention cores, no layer's cache is described as another's."""
    from firsttoken.demo import checkpoint_path
    from firsttoken.pipeline import export

    rules = "".join(
        f'  {{ match = "{rule.match}", precision = "{rule.precision}" }},\n' for rule in load_plan("int8").rules if rule.match == "*"
    )
    gate = "gate = { mean_kld = 1, p99_kld = 9, same_top = 0.1, magnitude = 0.9 }"
    first = '  { match = "layers.1.attention.core", precision = "fp16" }, { match = "layers.*.attention.core", precision = "fp32" },\n'
    (tmp_path / "mixed.toml").write_text(f'summary = "a test\'s"\nrule = [\n{first}{rules}]\n{gate}\n')
    [folder] = export(checkpoint_path(), tmp_path / "out", tmp_path / "mixed.toml", prove=False)
    cpu = read_manifest(folder).cpu
    assert [state.dtype for state in cpu.states] == ["float16" if n == 1 else "float32" for n in range(len(cpu.states))]
    passed = {tensor.name: tensor.dtype for tensor in cpu.methods[-1].inputs}
    assert all(passed[f"{which}.{state.layer}"] == state.dtype for state in cpu.states for which in ("key", "value"))
    runner = open_runner(folder, threads=1)
    runner.prefill([1, 2, 3])
    assert [str(runner.cache[f"key.{state.layer}"].dtype) for state in cpu.states] == [state.dtype for state in cpu.states]
    runner.decode(4)
    runner.close()


@pytest.mark.slow
def test_the_model_and_the_schema_give_the_same_verdict():
    differing, seen = set(), {True: 0, False: 0}
    for name, values in variants():
        verdict = parsed(values)
        seen[verdict] += 1
        if verdict != SCHEMA.is_valid(values):
            differing.add(name)
            assert not verdict, name
    assert differing == BEYOND_THE_SCHEMA
    assert seen[True] > 100 and seen[False] > 1000, seen


def test_a_number_that_json_does_not_have_is_refused():
    names = [name for name, values in not_finite() if parsed(values)]
    assert names == []


@pytest.mark.parametrize("version", [1, 3, 99, "2", 2.5, None])
def test_another_version_is_one_line_that_says_what_to_do(bundle, version, capsys):
    change(bundle, lambda values: values.update(schema_version=version))
    with pytest.raises(FirstTokenError, match="this firsttoken reads 2; export the checkpoint again") as caught:
        read_manifest(bundle)
    assert f"schema_version {version!r}" in str(caught.value) and "\n" not in str(caught.value)
    assert cli.run(["generate", str(bundle), "--prompt", "x"]) != 0
    assert capsys.readouterr().err.count("\n") == 1


def test_a_changed_tokenizer_is_told_when_the_bundle_is_opened(bundle):
    open_runner(bundle, threads=1).close()
    path = bundle / "tokenizer.json"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(FirstTokenError, match=r"tokenizer.json: SHA-256 .*the file is damaged or was replaced"):
        open_runner(bundle, threads=1)


@pytest.mark.parametrize("name", ["../model.tflite", "a/b", "..", "", "two\nlines", MANIFEST_FILE])
def test_a_name_that_is_no_plain_file_name_is_refused(bundle, name):
    change(bundle, lambda values: values["files"].update({name: {"sha256": "0" * 64, "bytes": 1}}))
    with pytest.raises(FirstTokenError, match="is not a plain, printable name; export again") as caught:
        read_manifest(bundle)
    assert "\n" not in str(caught.value)


def test_a_file_without_its_hash_is_refused(bundle):
    change(bundle, lambda values: values["files"].pop("model.tflite"))
    with pytest.raises(FirstTokenError, match="names 'model.tflite', but not its hash"):
        read_manifest(bundle)


def test_a_file_of_weights_without_its_hash_is_refused(tmp_path):
    manifest = gpu_manifest()
    manifest.artifacts[1].gpu.weights = "other.tflite"
    manifest.write(tmp_path)
    with pytest.raises(FirstTokenError, match="the manifest names 'other.tflite', but not its hash under files"):
        read_manifest(tmp_path)
