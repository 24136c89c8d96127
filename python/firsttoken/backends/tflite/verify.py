"""Whether a .tflite file hangs together, asked before a runtime loads it: the runtime ends the process over many files that do not.

Every number that points somewhere (buffers, tensors, operators, signatures, scales) points to something that is there, constants are as long as
their shapes say, and the signatures are those of the manifest, so that the arrays a host makes fit.
"""

import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Never

from firsttoken.backends.tflite.audit import read_header
from firsttoken.backends.tflite.section import Section, section_of
from firsttoken.bundle.manifest import Method, Tensor
from firsttoken.errors import FirstTokenError
from firsttoken.file_hash import remember_hash, remembered_hash
from firsttoken.safe_text import visible

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema

VERIFIED = "-verified"
BYTES = {"FLOAT32": 4, "FLOAT16": 2, "INT32": 4, "INT64": 8, "INT16": 2, "INT8": 1, "UINT8": 1, "BOOL": 1, "INT4": 0.5}
NAMES = {"float32": "FLOAT32", "float16": "FLOAT16", "int32": "INT32", "int64": "INT64"}
LARGEST_DIMENSION = 1 << 31


def verify(artifact: Path | Section, methods: Sequence[Method]) -> None:
    """Raises `FirstTokenError` for a file that does not hang together, or whose signatures are not ``methods``. A file that passed is remembered."""
    path = artifact.path if isinstance(artifact, Section) else artifact
    if remembered_hash(path, kind=VERIFIED) == signature_of(methods):
        return
    try:
        model, _ = read_header(artifact)
        check_model(artifact, model, methods)
    except (struct.error, IndexError, TypeError, ValueError, AttributeError, OverflowError, UnicodeDecodeError, RecursionError) as error:
        refuse(artifact, f"its flatbuffer is damaged ({type(error).__name__})")
    remember_hash(path, sha256=signature_of(methods), kind=VERIFIED)


def signature_of(methods: Sequence[Method]) -> str:
    """What a file was verified against."""
    import hashlib

    return hashlib.sha256("".join(method.model_dump_json() for method in methods).encode()).hexdigest()


def refuse(artifact: Path | Section, why: str) -> Never:
    raise FirstTokenError(f"{artifact}: {why}; the file is damaged or not what the manifest says, export it again")


def check_model(artifact: Path | Section, model: "schema.ModelT", methods: Sequence[Method]) -> None:
    check_texts(artifact, model)
    check_elsewhere(artifact, model)
    size = section_of(artifact).size
    for number, buffer in enumerate(model.buffers or []):
        if buffer.offset > 1 and buffer.offset + buffer.size > size:
            refuse(artifact, f"buffer {number} ends at byte {buffer.offset + buffer.size} of a file of {size}")
    if not model.subgraphs or not model.operatorCodes or not model.signatureDefs:
        refuse(artifact, "it holds no graphs, operators or signatures")
    for number, graph in enumerate(model.subgraphs):
        check_graph(artifact, model, number, graph)
    found = {}
    for entry in model.signatureDefs:
        if not 0 <= entry.subgraphIndex < len(model.subgraphs):
            refuse(artifact, f"signature {text(entry.signatureKey)!r} is of graph {entry.subgraphIndex}, which is not there")
        found[text(entry.signatureKey)] = entry
    for method in methods:
        if method.name not in found:
            refuse(artifact, f"it has no signature {method.name!r}")
        check_signature(artifact, model, found[method.name], method)


def check_elsewhere(artifact: Path | Section, model: "schema.ModelT") -> None:
    """Weights in another file are in one of a plain name in the same folder, and lie inside it."""
    groups, external = model.externalBufferGroups or [], model.externalBuffers or []
    folder, sizes = section_of(artifact).path.parent, []
    for group in groups:
        name = text(group.name)
        other = folder / name
        if not name or Path(name).name != name or not other.is_file():
            refuse(artifact, f"it takes weights from the file {visible(name)!r}, which is not beside it")
        sizes.append(other.stat().st_size)
    if sorted(one.id for one in external) != list(range(1, len(external) + 1)):
        refuse(artifact, "its external buffers are not numbered from 1 on")
    for one in external:
        if not one.group < len(groups) or one.offset + one.length > sizes[one.group]:
            refuse(artifact, f"external buffer {one.id} ends at byte {one.offset + one.length} of group {one.group}, which is not there")


def check_texts(artifact: Path | Section, model: "schema.ModelT") -> None:
    """No text goes on behind its end: Python's reader cuts one at the end of the file, LiteRT reads on and dies."""
    texts = [
        model.description,
        *(group.name for group in model.externalBufferGroups or []),
        *(code.customCode for code in model.operatorCodes or []),
        *(entry.name for entry in model.metadata or []),
    ]
    for graph in model.subgraphs or []:
        texts += [graph.name, *(tensor.name for tensor in graph.tensors or [])]
    for entry in model.signatureDefs or []:
        texts += [entry.signatureKey, *(one.name for one in (*(entry.inputs or []), *(entry.outputs or [])))]
    if any(b"\0" in each if isinstance(each, bytes) else "\0" in each for each in texts if each):
        refuse(artifact, "a name in it is longer than its text")


def text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


def check_graph(artifact: Path | Section, model: "schema.ModelT", number: int, graph: "schema.SubGraphT") -> None:
    """Tensors have their buffers and scales, operators their tensors, in an order in which each is there when it is needed."""
    tensors = graph.tensors
    count = len(tensors)
    for n, tensor in enumerate(tensors):
        check_tensor(artifact, model, graph, f"graph {number}, tensor {n}", tensor)
    produced = {n for n, tensor in enumerate(tensors) if has_data(model, tensor) or tensor.isVariable} | set(map(int, graph.inputs))
    for n, operator in enumerate(graph.operators):
        where = f"graph {number}, operator {n}"
        if not 0 <= operator.opcodeIndex < len(model.operatorCodes):
            refuse(artifact, f"{where} is of kind {operator.opcodeIndex}, which is not there")
        for tensor in map(int, operator.inputs if operator.inputs is not None else ()):
            if not -1 <= tensor < count or (tensor >= 0 and tensor not in produced):
                refuse(artifact, f"{where} reads tensor {tensor}, which is not there by then")
        if operator.outputs is None or not len(operator.outputs):
            refuse(artifact, f"{where} writes nothing")
        for tensor in map(int, operator.outputs):
            if not 0 <= tensor < count or tensor in produced:
                refuse(artifact, f"{where} writes tensor {tensor}, which is not there or written already")
            produced.add(tensor)
    for tensor in (*map(int, graph.inputs), *map(int, graph.outputs)):
        if not 0 <= tensor < count or tensor not in produced:
            refuse(artifact, f"graph {number}: input or output {tensor} is not there")


@lru_cache(1)
def type_names() -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}


def has_data(model: "schema.ModelT", tensor: "schema.TensorT") -> bool:
    if tensor.externalBuffer:
        return True
    if not 0 <= tensor.buffer < len(model.buffers):
        return False
    buffer = model.buffers[tensor.buffer]
    return buffer.offset > 1 or buffer.data is not None


def check_tensor(artifact: Path | Section, model: "schema.ModelT", graph: "schema.SubGraphT", where: str, tensor: "schema.TensorT") -> None:
    if not 0 <= tensor.buffer < len(model.buffers):
        refuse(artifact, f"{where} is in buffer {tensor.buffer}, which is not there")
    shape = [] if tensor.shape is None else [int(n) for n in tensor.shape]
    signature = [] if tensor.shapeSignature is None else [int(n) for n in tensor.shapeSignature]
    if any(not 0 <= n < LARGEST_DIMENSION for n in shape) or (signature and len(signature) != len(shape)):
        refuse(artifact, f"{where} has the shape {shape}")
    kind = type_names().get(tensor.type, str(tensor.type))
    if kind not in BYTES:
        refuse(artifact, f"{where} is of type {kind}")
    if has_data(model, tensor):
        stored = stored_bytes(artifact, model, where, tensor)
        if stored != math.ceil(math.prod(shape) * BYTES[kind]):
            refuse(artifact, f"{where} {shape} {kind} has {stored} bytes")
    check_scales(artifact, graph, where, tensor, shape)


def stored_bytes(artifact: Path | Section, model: "schema.ModelT", where: str, tensor: "schema.TensorT") -> int:
    if tensor.externalBuffer:
        found = next((one for one in model.externalBuffers or [] if one.id == tensor.externalBuffer), None)
        if found is None or tensor.buffer:
            refuse(artifact, f"{where} is in external buffer {tensor.externalBuffer}, which is not there, or in another one too")
        return int(found.length)
    buffer = model.buffers[tensor.buffer]
    return buffer.size if buffer.offset > 1 else len(buffer.data)


def check_scales(artifact: Path | Section, graph: "schema.SubGraphT", where: str, tensor: "schema.TensorT", shape: list[int]) -> None:
    quantization = tensor.quantization
    if quantization is None:
        return
    scales = 0 if quantization.scale is None else len(quantization.scale)
    zeros = 0 if quantization.zeroPoint is None else len(quantization.zeroPoint)
    if scales > 1 and (not 0 <= quantization.quantizedDimension < len(shape) or shape[quantization.quantizedDimension] != scales):
        refuse(artifact, f"{where} {shape} has {scales} scales along dimension {quantization.quantizedDimension}")
    if zeros not in (0, scales):
        refuse(artifact, f"{where} has {scales} scales and {zeros} zero points")
    details = quantization.details
    if details is not None and hasattr(details, "blockSize"):
        other = details.scales
        if not 0 <= other < len(graph.tensors) or details.blockSize <= 0 or not shape or shape[-1] % details.blockSize:
            refuse(artifact, f"{where} {shape} has groups of {details.blockSize} with scales in tensor {other}")
        groups = [] if graph.tensors[other].shape is None else [int(n) for n in graph.tensors[other].shape]
        if math.prod(groups) != math.prod(shape) // details.blockSize:
            refuse(artifact, f"{where} {shape} has {math.prod(groups)} scales for groups of {details.blockSize}")


def check_signature(artifact: Path | Section, model: "schema.ModelT", entry: "schema.SignatureDefT", method: Method) -> None:
    """The manifest's inputs and outputs are the file's, each with its type and as many dimensions, and numbers where the file has them."""
    graph = model.subgraphs[entry.subgraphIndex]
    for which, maps, wanted in (("input", entry.inputs, method.inputs), ("output", entry.outputs, method.outputs)):
        found = {text(one.name): int(one.tensorIndex) for one in maps or []}
        if set(found) != {tensor.name for tensor in wanted}:
            odd = sorted(set(found) ^ {tensor.name for tensor in wanted})[0]
            refuse(artifact, f"signature {method.name!r} and the manifest differ in the {which} {odd!r}")
        for tensor in wanted:
            check_interface(artifact, graph, f"{which} {tensor.name!r} of {method.name!r}", found[tensor.name], tensor)


def check_interface(artifact: Path | Section, graph: "schema.SubGraphT", where: str, index: int, wanted: Tensor) -> None:
    from ai_edge_litert import schema_py_generated as schema

    if not 0 <= index < len(graph.tensors):
        refuse(artifact, f"{where} is tensor {index}, which is not there")
    tensor = graph.tensors[index]
    signature = tensor.shape if tensor.shapeSignature is None or not len(tensor.shapeSignature) else tensor.shapeSignature
    stored = [] if signature is None else [int(n) for n in signature]
    fits = len(stored) == len(wanted.shape) and all(
        (isinstance(asked, str) and has == -1) or asked == has for asked, has in zip(wanted.shape, stored, strict=True)
    )
    if not fits or tensor.type != getattr(schema.TensorType, NAMES[wanted.dtype]):
        refuse(artifact, f"{where} is {stored} in the file, but {wanted.shape} {wanted.dtype} in the manifest")
