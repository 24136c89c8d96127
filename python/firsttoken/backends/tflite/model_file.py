"""A .tflite file under construction: buffers, operator codes, subgraphs, and weights that are streamed in last.

The flatbuffer header is packed once with placeholders to learn its length, the weights are written to their places
behind it, and the header is packed again with the real scales: memory follows the header, not the weights.
Schema: https://github.com/google-ai-edge/LiteRT (schema.fbs); buffers beyond the flatbuffer carry offset and size.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from firsttoken.backends.tflite.row_scales import pack
from firsttoken.progress import Report, silent

ALIGNMENT = 64  # XNNPACK reads weights in place; a cache line is always enough
Chunks = Callable[[], Iterator[np.ndarray]]  # yields the buffer's bytes in order


@dataclass
class StreamedBuffer:
    """A buffer behind the flatbuffer, filled by ``chunks`` when the file is written."""

    name: str
    index: int
    size: int
    chunks: Chunks


@dataclass
class ModelFile:
    """Collects what the subgraphs share: buffers, operator codes and signatures."""

    description: str
    model: schema.ModelT = field(default_factory=schema.ModelT)
    streamed: list[StreamedBuffer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model.version = 3
        self.model.description = self.description.encode()
        self.model.buffers = [schema.BufferT()]  # buffer 0 is empty by convention
        self.model.operatorCodes, self.model.subgraphs, self.model.signatureDefs = [], [], []
        self._codes: dict[tuple[int, int], int] = {}
        self._constants: dict[bytes, int] = {}

    def constant(self, array: np.ndarray) -> int:
        """Returns the index of a buffer inside the flatbuffer that holds ``array``; equal bytes are stored once."""
        raw = array.tobytes()
        if raw not in self._constants:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(raw, np.uint8)
            self._constants[raw] = self._append(buffer)
        return self._constants[raw]

    def stream(self, name: str, size: int, chunks: Chunks) -> int:
        """Returns the index of a buffer of ``size`` bytes that `write` fills from ``chunks``."""
        buffer = schema.BufferT()
        buffer.offset = buffer.size = 1  # not zero, so that both fields take part in the placeholder header
        index = self._append(buffer)
        self.streamed.append(StreamedBuffer(name, index, size, chunks))
        return index

    def _append(self, buffer: schema.BufferT) -> int:
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def operator_code(self, builtin: int, version: int) -> int:
        if (builtin, version) not in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
            self._codes[builtin, version] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        return self._codes[builtin, version]

    def add_subgraph(self, subgraph: schema.SubGraphT, signature: schema.SignatureDefT) -> None:
        signature.subgraphIndex = len(self.model.subgraphs)
        self.model.subgraphs.append(subgraph)
        self.model.signatureDefs.append(signature)

    def _header(self) -> bytes:
        return pack(self.model)

    def write(self, path: Path, report: Report = silent) -> None:
        """Writes the file. The order of ``streamed`` is the order in the file, so that reads stay sequential.

        Raises `OSError` for a full disk, and whatever a buffer's chunks raise (bad weights: `FirstTokenError`).
        """
        offset = aligned(len(self._header()))
        header_space = offset
        for stream in self.streamed:
            buffer = self.model.buffers[stream.index]
            buffer.offset, buffer.size = offset, stream.size
            offset = aligned(offset + stream.size)
        total, written = sum(stream.size for stream in self.streamed), 0
        with open(path, "wb") as file:
            for stream in self.streamed:
                file.seek(self.model.buffers[stream.index].offset)
                before = written
                for chunk in stream.chunks():
                    file.write(chunk.data)
                    written += chunk.nbytes
                    report("writing weights", written, total, "bytes")
                if written - before != stream.size:
                    raise AssertionError(f"{stream.name}: wrote {written - before} bytes where {stream.size} were planned")
            header = self._header()
            if len(header) > header_space:
                raise AssertionError(f"the header grew from {header_space} to {len(header)} bytes")
            file.seek(0)
            file.write(header)
            file.truncate(max(offset, header_space))
            file.flush()
            os.fsync(file.fileno())


def aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
