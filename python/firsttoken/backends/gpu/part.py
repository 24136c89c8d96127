"""Some of a file's graphs in a .tflite by themselves, with the weights left where they are: the accelerator holds them once for each graph that it loads."""

from collections.abc import Collection
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from firsttoken.backends.litertlm.ops import DECODE, PREFILL
from firsttoken.backends.tflite.audit import read_header
from firsttoken.backends.tflite.row_scales import pack, share
from firsttoken.backends.tflite.section import Section
from firsttoken.backends.tflite.verify import text
from firsttoken.bundle.manifest import Artifact

__all__ = ["DECODE", "prefill_lengths", "signatures_of", "take_graphs"]


def prefill_lengths(artifact: Artifact) -> list[int]:
    """The tokens of its prefill graphs, ascending."""
    names = [method.name for method in artifact.methods if method.name != DECODE]
    return sorted(int(name.removeprefix(f"{PREFILL}_")) for name in names)


def signatures_of(file: Section) -> list[str]:
    """The names of a file's signatures, in its order. Raises `FirstTokenError` for one that is no .tflite."""
    return [text(entry.signatureKey) for entry in read_header(file)[0].signatureDefs]


def take_graphs(file: Section, names: Collection[str], path: Path) -> None:
    """Writes the graphs of these signatures to ``path``; their weights are mapped from ``file``, or from where it has them itself."""
    model, _ = read_header(file)
    share(model)
    kept = [entry for entry in model.signatureDefs if text(entry.signatureKey) in names]
    model.subgraphs = [model.subgraphs[entry.subgraphIndex] for entry in kept]
    for index, entry in enumerate(kept):
        entry.subgraphIndex = index
    model.signatureDefs = kept
    groups, external = list(model.externalBufferGroups or []), list(model.externalBuffers or [])
    for group in groups:
        group.name = str((file.path.parent / text(group.name)).resolve())
    own = schema.ExternalBufferGroupT()
    own.name = str(file.path.resolve())
    numbers: dict[int, int] = {}
    for index, buffer in enumerate(model.buffers):
        if buffer.offset > 1:
            one = schema.ExternalBufferT()
            one.id, one.group, one.offset, one.length = len(external) + 1, len(groups), file.start + buffer.offset, buffer.size
            external.append(one)
            numbers[index] = one.id
            buffer.offset = buffer.size = 0
    for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors):
        if tensor.buffer in numbers:
            tensor.externalBuffer, tensor.buffer = numbers[tensor.buffer], 0
    model.externalBufferGroups, model.externalBuffers = [*groups, own], external
    path.write_bytes(pack(model))
