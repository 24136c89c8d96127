"""Whether the runtime here would take a file of packed weights, asked of the runtime itself before anything is loaded with it.

XNNPACK writes into such a file what its kernels make of some numbers, and compares that when it opens one; another CPU's file it packs anew,
in place, or, where it may not write, it ends the process. So it is first given the file's table alone, in memory, with a graph that has no weights.
"""

import os
import struct
from importlib.metadata import version
from pathlib import Path

from firsttoken.backends.isa import host_key
from firsttoken.backends.tflite.litert import CompiledModel, ReadOnly
from firsttoken.file_hash import remember_hash, remembered_hash
from firsttoken.plain_file import open_plain

HEADER = 64  # bytes: the format's version, where its table lies and how long it is, a build's identifier
MOST_TABLE = 64 << 20


class Table(ReadOnly):
    """A file's header and table, in memory, which the runtime may change."""

    def __init__(self, path: Path, memory: int) -> None:
        super().__init__(path)
        object.__setattr__(self, "memory", memory)

    def open(self) -> int:
        return os.dup(self.memory)  # type: ignore[attr-defined]


def taken_here(packed: Path, package: str) -> bool:
    """Whether the runtime takes the kernels that ``packed`` was made for. False for what is no such file. Remembered for this CPU and version."""
    kind, asked = f"-kernels-{host_key()}", f"{package}-{version(package)}"
    if remembered_hash(packed, kind=kind) == asked:
        return True
    taken = ask(packed)
    if taken:
        remember_hash(packed, sha256=asked, kind=kind)
    return taken


def ask(packed: Path) -> bool:
    """Loads a graph without weights with the table of ``packed``: the runtime changes it where it does not fit."""
    with open_plain(packed) as file:
        header, size = file.read(HEADER), os.fstat(file.fileno()).st_size
        if len(header) < HEADER:
            return False
        start, length = struct.unpack_from("<QQ", header, 8)
        if length > MOST_TABLE or start + length != size:
            return False
        file.seek(start)
        table = file.read(length)
    memory, graph = os.memfd_create("packed"), os.memfd_create("graph")
    try:
        os.ftruncate(memory, size)  # the weights are holes
        os.pwrite(memory, header, 0)
        os.pwrite(memory, table, start)
        os.write(graph, graph_without_weights())
        CompiledModel(Path(f"/proc/self/fd/{graph}"), 1, Table(packed, memory)).close()
        return os.fstat(memory).st_size == size and os.pread(memory, HEADER, 0) == header
    finally:
        os.close(memory)
        os.close(graph)


def graph_without_weights() -> bytes:
    """A .tflite that doubles eight numbers."""
    from firsttoken.backends.tflite.graph import Graph, Type
    from firsttoken.backends.tflite.model_file import ModelFile
    from firsttoken.backends.tflite.row_scales import pack

    file = ModelFile("doubles")
    graph = Graph(file, "once")
    x = graph.input("x", [1, 8], Type.FLOAT32)
    graph.output("y", graph.add(x, x))
    graph.finish()
    return pack(file.model)
