"""What LiteRT's compiler wrote: which graphs it gave to the NPU, what it left, and the QNN contexts inside.

An offloaded part of a graph is one custom operator ``DISPATCH_OP``, whose options say where in the file its context
binary lies. Everything else in a graph runs on the CPU.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from firsttoken.errors import FirstTokenError

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema

DISPATCH = b"DISPATCH_OP"
COPY_BYTES = 8 << 20


@dataclass(frozen=True)
class Context:
    """One offloaded part: its graph's name in the context binary at ``offset`` of ``size`` bytes, and its tensors.

    ``inputs`` and ``outputs`` are ``(name in the signature, name in the context, shape, type)``; the first is None for a
    tensor that stays inside the signature.
    """

    file: Path
    graph: str
    offset: int
    size: int
    inputs: tuple[tuple[str | None, str, tuple[int, ...], str], ...]
    outputs: tuple[tuple[str | None, str, tuple[int, ...], str], ...]

    def copy_to(self, path: Path) -> None:
        """Writes the bare context binary to ``path``."""
        with open(self.file, "rb") as source, open(path, "wb") as target:
            source.seek(self.offset)
            left = self.size
            while left and (block := source.read(min(COPY_BYTES, left))):
                target.write(block)
                left -= len(block)
        if left:
            raise FirstTokenError(f"{self.file}: truncated, {left} bytes of graph {self.graph!r} are missing; export again")


@dataclass(frozen=True)
class LeftBehind:
    """An operator that stayed on the CPU: its kind, and the layer it belongs to."""

    method: str
    kind: str
    layer: str


@dataclass(frozen=True)
class CompiledGraph:
    """One signature of the compiled file. ``left`` are the operators outside the NPU."""

    name: str
    contexts: tuple[Context, ...]
    left: tuple[LeftBehind, ...]


def read_compiled(path: Path) -> list[CompiledGraph]:
    """Reads a compiled file's structure; the contexts themselves stay on the disk. Raises `FirstTokenError` for a file that is not one."""
    from ai_edge_litert import schema_py_generated as schema

    from firsttoken.backends.tflite.audit import read_header

    try:
        model, _ = read_header(path)
    except (OSError, ValueError, IndexError, TypeError) as error:
        raise FirstTokenError(f"{path}: cannot be read as a compiled .tflite ({error}); export again") from None
    kinds = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    return [_read_graph(path, model, signature, kinds) for signature in model.signatureDefs or []]


def _read_graph(path: Path, model: "schema.ModelT", signature: "schema.SignatureDefT", kinds: dict[int, str]) -> CompiledGraph:
    graph, name = model.subgraphs[signature.subgraphIndex], signature.signatureKey.decode()
    outer = {entry.tensorIndex: entry.name.decode() for entry in [*signature.inputs, *signature.outputs]}
    contexts, left = [], []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        if code.customCode == DISPATCH:
            contexts.append(_read_context(path, graph, operator, outer))
        else:
            tensor = graph.tensors[operator.outputs[0]].name.decode()
            left.append(LeftBehind(name, kinds.get(code.builtinCode, str(code.builtinCode)), tensor.rsplit("/", 1)[0]))
    return CompiledGraph(name, tuple(contexts), tuple(left))


def _read_context(path: Path, graph: "schema.SubGraphT", operator: "schema.OperatorT", outer: dict[int, str]) -> Context:
    from flatbuffers import flexbuffers

    options = flexbuffers.Loads(bytes(operator.customOptions))
    try:
        offset, size, name = options["bytecode_offset"], options["bytecode_size"], options["name"]
    except (KeyError, TypeError):
        raise FirstTokenError(f"{path}: a dispatched part does not say where its context lies; export again") from None
    if not 0 < offset < offset + size <= path.stat().st_size:
        raise FirstTokenError(f"{path}: the context of {name!r} lies outside the file; it is truncated, export again")

    def described(index: int) -> tuple[str | None, str, tuple[int, ...], str]:
        tensor = graph.tensors[index]
        return (
            outer.get(index),
            re.sub(r"\W", "_", tensor.name.decode(), flags=re.ASCII),
            tuple(map(int, tensor.shape)),
            _type_name(tensor.type),
        )

    return Context(path, name, offset, size, tuple(map(described, operator.inputs)), tuple(map(described, operator.outputs)))


def _type_name(code: int) -> str:
    from ai_edge_litert import schema_py_generated as schema

    names = {schema.TensorType.FLOAT32: "float32", schema.TensorType.FLOAT16: "float16", schema.TensorType.INT32: "int32",
             schema.TensorType.INT16: "int16", schema.TensorType.INT8: "int8"}  # fmt: skip
    return names.get(code, f"type {code}")
