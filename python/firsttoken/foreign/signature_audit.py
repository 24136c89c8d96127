"""What a stock .tflite stores and what XNNPACK takes of it, asked of the file and of the delegate, whatever its layers are called."""

import copy
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from firsttoken.backends.tflite.audit import reachable
from firsttoken.backends.tflite.row_scales import pack, share
from firsttoken.backends.tflite.section import Section
from firsttoken.backends.tflite.verify import refuse, text, type_names
from firsttoken.foreign.signatures import DAMAGED, Offer, read_offer
from firsttoken.foreign.structure import ON_INTEGERS, Graph, Matrix, Structure
from firsttoken.quiet import quiet_runtime
from firsttoken.safe_text import visible

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema

STORED = {"FLOAT32": "fp32", "FLOAT16": "fp16", "INT8": "int8", "INT4": "int4", "INT2": "int2", "UINT8": "uint8", "INT16": "int16"}
CACHES = {"float32": "fp32", "float16": "fp16", "int8": "int8"}
ROOM = 1 << 20  # bytes that a header may grow by when it is written again


def look_into(artifact: Section) -> Structure:
    """Reads the constants of all graphs and asks the delegate about each signature. Raises `FirstTokenError` for a damaged file."""
    offer, model, size = read_offer(artifact)
    try:
        return look(artifact, offer, model, size)
    except DAMAGED as error:
        refuse(artifact, f"its flatbuffer is damaged ({type(error).__name__})")


def look(artifact: Section, offer: Offer, model: "schema.ModelT", size: int) -> Structure:
    from ai_edge_litert import schema_py_generated as schema

    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    codes = [kinds.get(code.builtinCode, str(code.builtinCode)) for code in model.operatorCodes]
    matrices, others = constants(model, codes)
    entries = {text(entry.signatureKey): entry for entry in model.signatureDefs}
    graphs = [ask(artifact, model, size, entries[name], codes) for name in offer.signatures]
    return Structure(matrices, others, graphs, cache_of(offer))


def cache_of(offer: Offer) -> str:
    return "/".join(sorted({CACHES[state.dtype] for state in offer.states}))


def constants(model: "schema.ModelT", codes: list[str]) -> tuple[list[Matrix], dict[str, tuple[int, int]]]:
    """The matrices and the other constants, each buffer once; whole numbers that are shapes and places are no weights."""
    users: dict[int, set[str]] = defaultdict(set)
    tensors: dict[int, schema.TensorT] = {}
    for graph in model.subgraphs:
        for operator in graph.operators:
            for index in (int(n) for n in operator.inputs if n >= 0):
                tensor = graph.tensors[index]
                buffer = model.buffers[tensor.buffer]
                if buffer.offset > 1 or buffer.data is not None:
                    users[tensor.buffer].add(on_integers(codes[operator.opcodeIndex], graph.tensors[int(operator.inputs[0])]))
                    if tensor.buffer not in tensors or (scales_of(tensor) and not scales_of(tensors[tensor.buffer])):
                        tensors[tensor.buffer] = tensor  # of several over one buffer the one that says how to read it
    matrices: list[Matrix] = []
    others: dict[str, tuple[int, int]] = {}
    for number, tensor in tensors.items():
        kind = type_names()[tensor.type]
        if kind not in STORED:
            continue
        shape = tuple(int(n) for n in ([] if tensor.shape is None else tensor.shape))
        buffer = model.buffers[number]
        stored = buffer.size if buffer.offset > 1 else len(buffer.data)
        if len(shape) == 2 and min(shape) > 1:
            matrices.append(Matrix(shape, STORED[kind], stored, scales_of(tensor), frozenset(users[number]), is_shifted(tensor)))
        else:
            count, size = others.get(STORED[kind], (0, 0))
            others[STORED[kind]] = count + 1, size + stored
    return matrices, others


def on_integers(kind: str, given: "schema.TensorT") -> str:
    """An operator's kind, marked where it is a product whose input comes as integers, with scales that the file says."""
    return f"{kind}{ON_INTEGERS}" if kind == "FULLY_CONNECTED" and type_names()[given.type] in ("INT8", "INT16") else kind


def scales_of(tensor: "schema.TensorT") -> str:
    quantization = tensor.quantization
    if quantization is None:
        return ""
    if quantization.details is not None and hasattr(quantization.details, "blockSize"):
        return f"group of {quantization.details.blockSize}"
    count = 0 if quantization.scale is None else len(quantization.scale)
    return "" if not count else "row" if count > 1 and quantization.quantizedDimension == 0 else "tensor" if count == 1 else "column"


def is_shifted(tensor: "schema.TensorT") -> bool:
    points = None if tensor.quantization is None else tensor.quantization.zeroPoint
    return points is not None and bool((points != 0).any())


def ask(artifact: Section, model: "schema.ModelT", size: int, entry: "schema.SignatureDefT", codes: list[str]) -> Graph:
    """Loads one signature's graph in LiteRT's interpreter, from a sparse copy with holes for weights, and lists what the delegate left."""
    from ai_edge_litert.interpreter import Interpreter

    graph, name = model.subgraphs[entry.subgraphIndex], text(entry.signatureKey)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.tflite"
        write_hollow(artifact, model, size, entry, path)
        try:
            with quiet_runtime():
                interpreter = Interpreter(str(path), num_threads=1)
                interpreter.allocate_tensors()
            left = reachable(interpreter._get_ops_details(), [detail["index"] for detail in interpreter.get_output_details()])
        except (RuntimeError, ValueError) as error:
            return Graph(
                name,
                len(graph.operators),
                unknown=f"LiteRT's interpreter does not prepare it ({visible(' '.join(str(error).split())[:200])})",
            )
        del interpreter
    outside = Counter(codes[graph.operators[n].opcodeIndex] for n in left if n < len(graph.operators))
    return Graph(name, len(graph.operators), dict(outside.most_common()))


def write_hollow(artifact: Section, model: "schema.ModelT", size: int, entry: "schema.SignatureDefT", path: Path) -> None:
    """Writes the model with the signature's graph first, which is the one the interpreter tells of; weights behind the header are holes."""
    alone, only = copy.copy(model), copy.copy(entry)
    swap = {0: entry.subgraphIndex, entry.subgraphIndex: 0}
    alone.subgraphs = [renumbered(model.subgraphs[swap.get(n, n)], swap) for n in range(len(model.subgraphs))]
    only.subgraphIndex, alone.signatureDefs, alone.buffers = 0, [only], []
    for buffer in model.buffers:
        moved = copy.copy(buffer)
        moved.offset += ROOM if buffer.offset > 1 else 0
        alone.buffers.append(moved)
    share(alone)
    header = pack(alone)
    if len(header) > size + ROOM:
        refuse(artifact, f"its header grows from {size} to {len(header)} bytes where it is written again")
    with open(path, "wb") as file:
        file.write(header)
        file.truncate(max(len(header), artifact.size + ROOM))
        for graph in model.subgraphs:
            for tensor in graph.tensors:
                if scales_of(tensor).startswith("group"):  # the delegate refuses scales of zero
                    scales = model.buffers[graph.tensors[tensor.quantization.details.scales].buffer]
                    if scales.offset > 1:
                        file.seek(scales.offset + ROOM)
                        file.write(artifact.read(scales.offset, scales.size))


def renumbered(graph: "schema.SubGraphT", swap: dict[int, int]) -> "schema.SubGraphT":
    """The graph, with the graphs that its operators name (composites, conditions, loops) under their new numbers."""
    made = copy.copy(graph)
    made.operators = []
    for operator in graph.operators:
        changed = copy.copy(operator)
        for field in ("builtinOptions", "builtinOptions2"):
            options = getattr(operator, field)
            for name, value in (vars(options) if options is not None else {}).items():
                if name.lower().endswith("subgraphindex") and value in swap:
                    replaced = copy.copy(getattr(changed, field))
                    setattr(replaced, name, swap[value])
                    setattr(changed, field, replaced)
        made.operators.append(changed)
    return made
