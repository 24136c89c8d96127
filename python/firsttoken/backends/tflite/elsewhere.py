"""Weights of a .tflite that lie in another file beside it: LiteRT maps what the schema calls external buffers from there (2.3 and newer).

A group of them has the other file's name, looked for in the folder of the file that names it; each has the offset and length of its bytes.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from ai_edge_litert import schema_py_generated as schema

from firsttoken.backends.tflite.audit import read_header
from firsttoken.file_hash import READ_BYTES
from firsttoken.plain_file import open_plain
from firsttoken.progress import Report, silent

if TYPE_CHECKING:
    from firsttoken.backends.tflite.model_file import ModelFile

Key = tuple[int, bytes]  # size and SHA-256


def take_from(file: "ModelFile", other: Path, report: Report = silent) -> int:
    """Lets ``file``, which is not written yet, name the weights whose bytes ``other``, a .tflite, holds; returns how many bytes it does without.

    The bytes are compared by their SHA-256. Raises `FirstTokenError` for damaged weights or another file, `OSError` where it cannot be read.
    """
    held, model, total, done, saved = held_in(other), file.model, sum(stream.size for stream in file.streamed), 0, 0
    taken: list[schema.ExternalBufferT] = []
    external: dict[int, int] = {}
    for stream in list(file.streamed):
        digest = hashlib.sha256()
        for chunk in stream.chunks():
            digest.update(chunk.data)
            done += chunk.nbytes
            report("comparing weights", done, total, "bytes")
        offset = held.get((stream.size, digest.digest()))
        if offset is None:
            continue
        one = schema.ExternalBufferT()
        one.id, one.group, one.offset, one.length = len(taken) + 1, 0, offset, stream.size
        taken.append(one)
        model.buffers[stream.index].offset = model.buffers[stream.index].size = 0
        external[stream.index] = one.id
        file.streamed.remove(stream)
        saved += stream.size
    if not taken:
        return 0
    group = schema.ExternalBufferGroupT()
    group.name = other.name
    model.externalBufferGroups, model.externalBuffers = [group], taken
    for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors):
        if tensor.buffer in external:
            tensor.externalBuffer, tensor.buffer = external[tensor.buffer], 0
    return saved


def held_in(path: Path) -> dict[Key, int]:
    """The offsets of the weights that lie behind the header of a .tflite."""
    model, _ = read_header(path)
    found: dict[Key, int] = {}
    with open_plain(path) as file:
        for buffer in model.buffers:
            if buffer.offset > 1:
                file.seek(buffer.offset)
                digest, left = hashlib.sha256(), buffer.size
                while left and (block := file.read(min(left, READ_BYTES))):
                    digest.update(block)
                    left -= len(block)
                found[buffer.size, digest.digest()] = buffer.offset
    return found
