"""Whether an .onnx file hangs together, asked before onnxruntime loads it: it maps whatever file a constant names, and its kernels read
weights as long as their attributes say.

Only operators that a lowering writes are let through, without graphs or functions inside; constants lie in the one file beside the graph, within it
and as long as their shapes say; a layer's integers are as its operator reads them; inputs and outputs are those of the manifest.
"""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Never

from firsttoken.backends.onnx.graph import DTYPES, MICROSOFT
from firsttoken.backends.onnx.lower import DATA_SHA256, data_file, described
from firsttoken.backends.onnx.model_file import NUMPY, LoadedGraph, place_of, read_model, size_of
from firsttoken.backends.onnx.quantize import LARGEST_BLOCK, SMALLEST_BLOCK, blocks
from firsttoken.bundle.manifest import Method
from firsttoken.errors import FirstTokenError
from firsttoken.file_hash import hash_file, remember_hash, remembered_hash
from firsttoken.safe_text import visible

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

VERIFIED = "-verified-2"  # counts up with what is checked
OPERATORS = {
    "": {
        "Add", "And", "Cast", "Concat", "Cos", "Div", "Expand", "Gather", "GatherElements", "Gelu", "GreaterOrEqual", "Identity", "LayerNormalization",
        "Less", "MatMul", "Max", "Mul", "Pad", "RMSNormalization", "Range", "ReduceMean", "ReduceSum", "Relu", "Reshape", "ScatterElements", "Shape",
        "Sigmoid", "Sin", "Slice", "Softmax", "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "TopK", "Transpose", "Unsqueeze", "Where",
    },
    MICROSOFT: {
        "CausalConvWithState", "FusedMatMul", "GatherBlockQuantized", "GroupQueryAttention", "LinearAttention", "MatMulNBits", "QuickGelu", "RotaryEmbedding",
    },
}  # fmt: skip
PLAIN_ATTRIBUTES = {1, 2, 3, 6, 7, 8}  # of `AttributeProto.type`: numbers, texts and lists of them; no tensors, no graphs
LARGEST_DIMENSION = 1 << 31


def verify(path: Path, methods: Sequence[Method]) -> None:
    """Raises `FirstTokenError` for a graph that does not hang together or whose inputs and outputs are not ``methods``'. One that passed is remembered."""
    key = hashlib.sha256("".join(method.model_dump_json() for method in methods).encode()).hexdigest()
    files = path, data_file(path)
    if remembered_hash(*files, kind=VERIFIED) == key:
        return
    graph = LoadedGraph(path, read_model(path))
    try:
        check_graph(graph, methods)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, UnicodeDecodeError, RecursionError, AttributeError) as error:
        refuse(graph, f"it is damaged ({type(error).__name__})")
    remember_hash(*files, sha256=key, kind=VERIFIED)


def refuse(graph: LoadedGraph, why: str) -> Never:
    raise FirstTokenError(f"{graph.path}: {visible(why, 300)}; the file is damaged or not what the manifest says, export it again")


def check_graph(graph: LoadedGraph, methods: Sequence[Method]) -> None:
    held = graph.model.graph
    if graph.model.functions or held.sparse_initializer or held.quantization_annotation or graph.model.training_info:
        refuse(graph, "it has functions, sparse constants or training parts, which no decoder of ours has")
    check_ends(graph, methods)
    size = size_of(data_file(graph.path))
    if size < 0:
        refuse(graph, f"the file of its weights, {data_file(graph.path).name}, is missing")
    if len(graph.constants) != len(held.initializer):
        refuse(graph, "two constants have one name")
    for tensor in held.initializer:
        check_constant(graph, tensor, size)
    check_nodes(graph)
    check_weights(graph, size)


def check_weights(graph: LoadedGraph, size: int) -> None:
    """The file of weights is the one that the graph was written with: a manifest may leave it out, or name another. One that is longer than its constants
    is not hashed: a hole has any length."""
    places = [place_of(tensor) for tensor in graph.model.graph.initializer if tensor.data_location == tensor.EXTERNAL]
    end = max((int(place["offset"]) + int(place["length"]) for place in places), default=0)
    beside = data_file(graph.path)
    wanted = {entry.key: entry.value for entry in graph.model.metadata_props}.get(DATA_SHA256)
    if size > end or (remembered_hash(beside) or hash_file(beside)) != wanted:
        refuse(graph, f"{beside.name} is not the file of weights that it was written with")


def check_ends(graph: LoadedGraph, methods: Sequence[Method]) -> None:
    """Inputs and outputs are those that arrays are bound to."""
    [method] = methods
    for kind, found, wanted in (("inputs", graph.model.graph.input, method.inputs), ("outputs", graph.model.graph.output, method.outputs)):
        if described(found) != wanted:
            refuse(graph, f"its {kind} are not the manifest's")


def check_constant(graph: LoadedGraph, tensor: "TensorProto", size: int) -> None:
    """A constant is as long as its shape says, here or in the file of weights."""
    if tensor.data_type not in NUMPY or any(not 0 <= n < LARGEST_DIMENSION for n in tensor.dims):
        refuse(graph, f"constant {tensor.name!r} has a type or shape that none of ours has")
    length = math.prod(tensor.dims) * NUMPY[tensor.data_type].itemsize
    if tensor.data_location != tensor.EXTERNAL:
        if len(tensor.raw_data) != length or tensor.external_data:
            refuse(graph, f"constant {tensor.name!r} has {len(tensor.raw_data)} bytes; {length} by its shape")
        return
    place = place_of(tensor)
    if set(place) != {"location", "offset", "length"} or place["location"] != data_file(graph.path).name:
        refuse(graph, f"constant {tensor.name!r} lies in {place.get('location')!r}; expected {data_file(graph.path).name!r}")
    begin, stated = int(place["offset"]), int(place["length"])
    if begin < 0 or stated != length or begin + length > size:
        refuse(graph, f"constant {tensor.name!r} is bytes {begin} to {begin + stated} of a file of {size}, and {length} long by its shape")


def check_nodes(graph: LoadedGraph) -> None:
    """Every value is made before it is used, by an operator of ours with plain attributes."""
    known = {"", *graph.constants, *(value.name for value in graph.model.graph.input)}
    for node in graph.model.graph.node:
        if node.op_type not in OPERATORS.get(node.domain, ()):
            refuse(graph, f"{node.op_type!r} of domain {node.domain!r} is no operator of ours")
        if any(attribute.type not in PLAIN_ATTRIBUTES for attribute in node.attribute):
            refuse(graph, f"{node.name!r} has attributes that none of ours has")
        if unknown := [name for name in node.input if name not in known]:
            refuse(graph, f"{node.name!r} takes {unknown[0]!r}, which is not made before")
        if again := [name for name in node.output if name in known]:
            refuse(graph, f"{again[0]!r} is made twice")
        known.update(node.output)
        if node.op_type in ("MatMulNBits", "GatherBlockQuantized"):
            check_integers(graph, node)
    if lost := [value.name for value in graph.model.graph.output if value.name not in known]:
        refuse(graph, f"output {lost[0]!r} is not made")


def check_integers(graph: LoadedGraph, node: "NodeProto") -> None:
    """Integers and scales are constants of the sizes that the operator's attributes say."""
    given = graph.attributes(node)
    bits, block = int(given.get("bits", 4)), int(given.get("block_size", 0))
    if bits not in (4, 8) or block & (block - 1) or not SMALLEST_BLOCK <= block <= LARGEST_BLOCK:
        refuse(graph, f"{node.name!r} has {bits} bits in blocks of {block}")
    multiplied = node.op_type == "MatMulNBits"
    values, scales = (graph.constants.get(node.input[place]) for place in ((1, 2) if multiplied else (0, 2)))
    if values is None or scales is None or (values.data_type, scales.data_type) != (DTYPES["uint8"], DTYPES["float32"]):
        refuse(graph, f"{node.name!r} has no constant integers and scales")
    rows = int(given["N"]) if multiplied else int(values.dims[0])
    count = blocks(int(given["K"]), block) if multiplied else int(values.dims[1]) * 8 // bits // block
    size = block * bits // 8
    if list(scales.dims) != [rows, count] or list(values.dims) != ([rows, count, size] if multiplied else [rows, count * size]):
        refuse(graph, f"{node.name!r} has integers {list(values.dims)} and scales {list(scales.dims)}, which its attributes do not fit")
