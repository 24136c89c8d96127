"""A whole .tflite in memory, as other tools give it: its constants, its operators, and writing it with its weights behind the header, aligned."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from firsttoken.backends.tflite.model_file import ModelFile, StreamedBuffer
from firsttoken.backends.tflite.row_scales import share
from firsttoken.backends.tflite.section import section_of
from firsttoken.errors import FirstTokenError
from firsttoken.plain_file import why

BEHIND = 1024  # bytes from which a buffer lies behind the header; shapes and axes, which audits need, stay inside
MOST = (1 << 31) - (64 << 20)  # bytes of one flatbuffer
DTYPES: dict[int, np.dtype[Any]] = {
    schema.TensorType.FLOAT32: np.dtype(np.float32),
    schema.TensorType.FLOAT16: np.dtype(np.float16),
    schema.TensorType.INT32: np.dtype(np.int32),
    schema.TensorType.INT64: np.dtype(np.int64),
    schema.TensorType.INT8: np.dtype(np.int8),
    schema.TensorType.BOOL: np.dtype(np.bool_),
}


@cache
def operator_names() -> dict[int, str]:
    """The names of the built-in operators by their codes."""
    return {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


@dataclass(frozen=True)
class Operator:
    """An operator and where it stands: number ``index`` of subgraph ``graph``."""

    kind: str
    graph: int
    index: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class GraphFile:
    """A model that was read, whose constants are all in memory."""

    def __init__(self, model: schema.ModelT) -> None:
        self.model = model

    @classmethod
    def parse(cls, raw: bytes | bytearray, where: object) -> "GraphFile":
        """Of a file's bytes. Raises `FirstTokenError` for those of no .tflite."""
        if bytes(raw[4:8]) != b"TFL3":
            raise FirstTokenError(f"{where}: not a .tflite file, it lacks the mark TFL3; expected one that a converter wrote")
        try:
            model = schema.ModelT.InitFromPackedBuf(raw, 0)
        except Exception as error:  # whatever flatbuffers raises for damaged offsets
            raise FirstTokenError(f"{where}: a damaged .tflite file ({type(error).__name__}); convert it again") from None
        for buffer in model.buffers:
            if buffer.offset > 1:
                if buffer.offset + buffer.size > len(raw):
                    raise FirstTokenError(f"{where}: a .tflite file that was cut off; convert it again")
                buffer.data = np.frombuffer(raw, np.uint8, buffer.size, buffer.offset)
                buffer.offset = buffer.size = 0
        return cls(model)

    @classmethod
    def read(cls, path: Path) -> "GraphFile":
        """Raises `FirstTokenError` for a file that cannot be read or is no .tflite."""
        try:
            section = section_of(path)
            return cls.parse(section.read(0, section.size), path)
        except OSError as error:
            raise FirstTokenError(f"{path}: cannot be read ({why(error)})") from None

    def operators(self, graph: int) -> Iterator[Operator]:
        """A subgraph's operators in order."""
        for index, one in enumerate(self.model.subgraphs[graph].operators or ()):
            kind = operator_names()[self.model.operatorCodes[one.opcodeIndex].builtinCode]
            yield Operator(kind, graph, index, ints(one.inputs), ints(one.outputs))

    def tensor(self, graph: int, index: int) -> schema.TensorT:
        return self.model.subgraphs[graph].tensors[index]

    def name(self, graph: int, index: int) -> str:
        return (self.tensor(graph, index).name or b"").decode("utf-8", "replace")

    def shape(self, graph: int, index: int) -> tuple[int, ...]:
        return ints(self.tensor(graph, index).shape)

    def raw(self, graph: int, index: int) -> np.ndarray | None:
        """The bytes of a constant; None for a tensor that is computed."""
        data = self.model.buffers[self.tensor(graph, index).buffer].data
        return None if data is None or len(data) == 0 else np.asarray(data, np.uint8)

    def constant(self, graph: int, index: int) -> np.ndarray | None:
        """A constant's values; None for a tensor that is computed, or of a type that numpy does not have."""
        raw, dtype = self.raw(graph, index), DTYPES.get(self.tensor(graph, index).type)
        return None if raw is None or dtype is None else raw.view(dtype).reshape(self.shape(graph, index))

    def signatures(self) -> dict[str, schema.SignatureDefT]:
        """Signatures by name."""
        return {one.signatureKey.decode(): one for one in self.model.signatureDefs or ()}

    def packed(self) -> bytes:
        """The file's bytes with everything inside. Raises `FirstTokenError` where that is more than a flatbuffer holds."""
        size = sum(len(buffer.data) for buffer in self.model.buffers if buffer.data is not None)
        if size > MOST:
            raise FirstTokenError(
                f"its weights are {size >> 20} MiB; a converted .tflite holds at most {MOST >> 20}: export a smaller module"
            )
        import flatbuffers

        builder = flatbuffers.Builder(size + (1 << 20))
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def write(self, path: Path) -> None:
        """Writes the file with its weights behind the header, at addresses that XNNPACK reads in place. Raises `OSError` for a full disk."""
        share(self.model)
        file = ModelFile("")
        file.model = self.model
        kept = list(self.model.buffers)
        try:
            for index, held in enumerate(kept):
                if held.data is not None and len(held.data) >= BEHIND:
                    self.model.buffers[index] = placeholder()
                    file.streamed.append(streamed(index, np.ascontiguousarray(held.data, np.uint8)))
            file.write(path)
        finally:
            self.model.buffers = kept


def placeholder() -> schema.BufferT:
    """A buffer whose bytes lie behind the header; not zero, so that its place takes room in it."""
    buffer = schema.BufferT()
    buffer.offset = buffer.size = 1
    return buffer


def streamed(index: int, data: np.ndarray) -> StreamedBuffer:
    return StreamedBuffer(f"buffer {index}", index, data.nbytes, lambda: iter([data]))


def ints(values: object) -> tuple[int, ...]:
    """A flatbuffer's vector, which may be absent, as numbers."""
    return () if values is None else tuple(int(value) for value in values)  # type: ignore[attr-defined]
