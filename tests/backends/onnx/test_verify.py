"""Files that do not hang together are refused before onnxruntime sees them."""

import onnx
import pytest
from lowering_jobs import lowered_artifact

from firsttoken.backends.onnx.session import Session
from firsttoken.backends.onnx.verify import verify
from firsttoken.errors import FirstTokenError


@pytest.fixture
def lowered(tmp_path, tied_checkpoint):
    _, _, artifact = lowered_artifact(tied_checkpoint, tmp_path, "int4", "onnx-cpu", cache_length=64)
    return tmp_path / "model.onnx", artifact


def constant(model, name):
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def elsewhere(model, key, value):
    for entry in constant(model, "layers.0.mlp.up").external_data:
        if entry.key == key:
            entry.value = value


def attribute(model, layer, name, value):
    node = next(node for node in model.graph.node if node.name == layer)
    next(each for each in node.attribute if each.name == name).i = value


def add_node(model, *given, **more):
    model.graph.node.append(onnx.helper.make_node(*given, **more))


DAMAGES = {
    "a way out of the folder": (lambda m: elsewhere(m, "location", "../../etc/passwd"), "lies in '../../etc/passwd'; expected 'model.onnx.data'"),
    "beyond the file": (lambda m: elsewhere(m, "offset", str(1 << 40)), "of a file of"),
    "a negative place": (lambda m: elsewhere(m, "offset", "-4096"), "of a file of"),
    "another length": (lambda m: elsewhere(m, "length", "64"), "long by its shape"),
    "a number that is none": (lambda m: elsewhere(m, "offset", "x"), "damaged"),
    "a larger shape": (lambda m: constant(m, "layers.0.mlp.up").dims.__setitem__(0, 1 << 20), "long by its shape"),
    "more columns than there are": (lambda m: attribute(m, "layers.0.mlp.up", "K", 4096), "which its attributes do not fit"),
    "blocks of 0": (lambda m: attribute(m, "layers.0.mlp.up", "block_size", 0), "bits in blocks of 0"),
    "a foreign operator": (lambda m: add_node(m, "EPContext", [], ["z"], domain="com.microsoft"), "'EPContext' of domain 'com.microsoft' is no operator of ours"),
    "a foreign domain": (lambda m: add_node(m, "Add", ["logits", "logits"], ["z"], domain="evil"), "is no operator of ours"),
    "a graph inside": (lambda m: add_node(m, "If", ["logits"], ["z"]), "is no operator of ours"),
    "what is not made": (lambda m: add_node(m, "Identity", ["nothing"], ["z"]), "takes 'nothing', which is not made before"),
    "made twice": (lambda m: add_node(m, "Identity", ["logits"], ["logits"]), "'logits' is made twice"),
    "another input": (lambda m: m.graph.input.pop(), "its inputs are not the manifest's"),
    "a constant twice": (lambda m: m.graph.initializer.append(constant(m, "norm")), "two constants have one name"),
    "a function": (lambda m: m.functions.add(name="f"), "it has functions"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_does_not_hang_together_is_one_line(lowered, damage):
    path, artifact = lowered
    verify(path, artifact.methods)
    change, said = DAMAGES[damage]
    model = onnx.load(str(path), load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FirstTokenError) as caught:
        verify(path, artifact.methods)
    assert said in str(caught.value) and "\n" not in str(caught.value) and "export it again" in str(caught.value)


def test_no_file_at_all(lowered):
    path, artifact = lowered
    path.with_name("model.onnx.data").unlink()
    with pytest.raises(FirstTokenError, match=r"the file of its weights, model.onnx.data, is missing"):
        verify(path, artifact.methods)
    path.write_bytes(b"\x08\x99 no protobuf")
    with pytest.raises(FirstTokenError, match="not an .onnx file|damaged"):
        verify(path, artifact.methods)


def test_what_onnxruntime_says_is_one_line(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(FirstTokenError, match=r"onnxruntime .* does not load it \(.*\); export it again") as caught:
        Session(tmp_path / "model.onnx", 1)
    assert "\n" not in str(caught.value)


def test_other_weights_than_it_was_written_with(lowered):
    """The graph's own hash is that of both files: a manifest that leaves the weights out, or names others, says nothing."""
    path, artifact = lowered
    beside = path.with_name("model.onnx.data")
    data = bytearray(beside.read_bytes())
    data[4096:8192] = bytes(4096)
    beside.write_bytes(data)
    with pytest.raises(FirstTokenError, match="model.onnx.data is not the file of weights that it was written with"):
        verify(path, artifact.methods)
