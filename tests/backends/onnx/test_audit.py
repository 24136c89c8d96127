"""The audit says what the file has; what was planted in it is seen there or by the proof."""

import numpy as np
import onnx
import pytest
from lowering_jobs import lowered_artifact

from firsttoken.backends.onnx.lower import DATA_SHA256, data_file
from firsttoken.backends.onnx.model_file import place_of
from firsttoken.backends.registry import find_backend
from firsttoken.bundle.files import file_facts
from firsttoken.bundle.manifest import read_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export
from firsttoken.prove.gate import missed_structure
from firsttoken.prove.prove import prove


def rewritten(path, change):
    model = onnx.load(str(path), load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())


def node(model, name):
    return next(node for node in model.graph.node if node.name == name)


def set_attribute(model, layer, **values):
    held = node(model, layer)
    kept = [attribute for attribute in held.attribute if attribute.name not in values]
    del held.attribute[:]
    held.attribute.extend([*kept, *(onnx.helper.make_attribute(name, value) for name, value in values.items())])


def swap(model, one, other):
    """Each of two layers takes the other's weight."""
    node(model, one).input[1], node(model, other).input[1] = node(model, other).input[1], node(model, one).input[1]


@pytest.fixture
def lowered(tmp_path, untied_checkpoint):
    job, _, _ = lowered_artifact(untied_checkpoint, tmp_path, "int4", "onnx-cpu", cache_length=64)
    return job, tmp_path / "model.onnx"


def test_every_layer_is_what_was_asked(lowered):
    job, path = lowered
    backend = find_backend("onnx-cpu")
    rows = {row.layer: row for row in backend.audit(path, job.decoder, job.written)}
    assert not missed_structure(list(rows.values()), job.written, backend)
    assert (rows["layers.0.attention.q"].stored, rows["layers.0.attention.q"].computed) == ("int4/32", "int8")
    assert (rows["head"].stored, rows["embedding"].stored, rows["layers.1.attention.core"].stored) == ("int8", "int8", "fp32")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model: set_attribute(model, "layers.0.mlp.up", accuracy_level=1), "asked int4/32, computed in fp32"),
        (lambda model: swap(model, "layers.0.attention.k", "layers.0.attention.v"), "the file is not what the plan says"),
        (lambda model: setattr(node(model, "layers.1.mlp.down"), "name", "layers.0.mlp.down"), "the file is not what the plan says"),
        (lambda model: model.graph.node.remove(node(model, "layers.1.attention.core")), "no attention core for 'layers.1.attention.core'"),
    ],
)
def test_planted_structure_is_seen(lowered, change, said):
    job, path = lowered
    rewritten(path, change)
    backend = find_backend("onnx-cpu")
    with pytest.raises(FirstTokenError, match=said):
        if missed := missed_structure(backend.audit(path, job.decoder, job.written), job.written, backend):
            raise FirstTokenError("; ".join(missed))


def test_scales_that_are_no_rows_are_seen(lowered):
    """INT4 in groups of 32 is not taken for INT4 with one scale a row."""
    job, path = lowered
    asked = job.written | {"layers.0.mlp.up": "int4/row"}
    row = next(row for row in find_backend("onnx-cpu").audit(path, job.decoder, asked) if row.layer == "layers.0.mlp.up")
    assert row.stored == "int4/32"


def scale_an_eighth(bundle, layer, factor):
    """An eighth of a matrix is larger than it should be, and the manifest's hash is the new file's."""
    model = onnx.load(str(bundle / "model.onnx"), load_external_data=False)
    place = place_of(next(tensor for tensor in model.graph.initializer if tensor.name == f"{layer}.scales"))
    file = data_file(bundle / "model.onnx")
    scales = np.memmap(file, np.float32, "r+", int(place["offset"]), (int(place["length"]) // 4,))
    scales[: len(scales) // 8] *= factor
    scales.flush()
    manifest = read_manifest(bundle)
    manifest.files[file.name] = file_facts(file)
    onnx.helper.set_model_props(model, {DATA_SHA256: manifest.files[file.name].sha256})  # it names its weights
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
    manifest.files["model.onnx"] = file_facts(bundle / "model.onnx")
    manifest.write(bundle)


def test_planted_numbers_miss_the_proof(tiny_model, tmp_path):
    """The structure is right: a proof on the written file alone can tell."""
    [bundle] = export(tiny_model, tmp_path, "int8", ("onnx-cpu",), prove=False, cache_length=200)

    def not_built():
        return [miss for miss in prove(bundle, tiny_model)[0].misses if "not built as the plan says" in miss]

    assert not not_built()
    scale_an_eighth(bundle, "layers.1.mlp.down", 1.5)
    assert not_built()
