"""The tensors of a GGUF file: which of a decoder's weights each holds, in what precision, and their rows as llama.cpp wants them.

llama.cpp computes factors and rotations itself, so it gets the rows that the checkpoint stores, without what the decoder's tree folds into them,
but for a 1 that norms are stored less.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from firsttoken.backends.gguf.families import Written
from firsttoken.backends.gguf.storage import BLOCK, TYPES, stored_rows
from firsttoken.checkpoint import Checkpoint
from firsttoken.checkpoint_over import CheckpointOver
from firsttoken.decoder.parts import Decoder, Embedding, Linear, Norm
from firsttoken.decoder.walk import leaves
from firsttoken.gguf_file.architectures import ROPE_FREQUENCIES
from firsttoken.weight_source import Source

TOP = {"embedding": "token_embd", "norm": "output_norm", "head": "output"}
ROLES = {
    "attention_norm": "attn_norm", "attention.q": "attn_q", "attention.k": "attn_k", "attention.v": "attn_v", "attention.output": "attn_output",
    "attention.q_norm": "attn_q_norm", "attention.k_norm": "attn_k_norm", "attention_output_norm": "post_attention_norm", "mlp_norm": "ffn_norm",
    "mlp.gate": "ffn_gate", "mlp.up": "ffn_up", "mlp.down": "ffn_down", "mlp_output_norm": "post_ffw_norm",
}  # fmt: skip
FUSED = {"attn_q": "attn_qkv", "attn_k": "attn_qkv", "attn_v": "attn_qkv", "ffn_gate": "ffn_up"}
TURNED = ("attn_q", "attn_k")
BLOCK_VALUES = 1 << 21  # float32 values of rows in memory at once


@dataclass(frozen=True)
class Weight:
    """What a tensor takes of one part of the tree: the layer's name, its weight or bias, its shape, and heads whose halves are put between each other."""

    layer: str
    source: Source
    rows: int
    columns: int | None
    heads: int | None = None


@dataclass
class Tensor:
    """A tensor of the file: its name, the precision that it is stored in, and what it holds, one below the other."""

    name: str
    precision: str
    weights: list[Weight]

    @property
    def shape(self) -> tuple[int, ...]:
        rows = sum(weight.rows for weight in self.weights)
        columns = self.weights[0].columns
        return (rows,) if columns is None else (rows, columns)

    @property
    def kind(self) -> str:
        return TYPES[self.precision]

    @property
    def layers(self) -> list[str]:
        return [weight.layer for weight in self.weights]


def file_name(part: str, written: Written) -> str:
    """The tensor, without its ending, that holds a part of this name in the tree."""
    if part in TOP:
        return TOP[part]
    _, number, role = part.split(".", 2)
    name = ROLES[role]
    return f"blk.{number}.{FUSED.get(name, name) if written.fused else name}"


def tensors(decoder: Decoder, precisions: Mapping[str, str], written: Written) -> list[Tensor]:
    """Every tensor of the file but the rotation's, in the order of computation. A tied head of the embedding's precision is not stored again."""
    found: dict[str, Tensor] = {}
    for part, leaf in leaves(decoder):
        if part == "head" and decoder.tied_head and precisions["head"] == precisions["embedding"]:
            continue
        for ending, weight in _weights(part, leaf, decoder, written):
            name = f"{file_name(part, written)}.{ending}"
            matrix = isinstance(leaf, Embedding | Linear) and ending == "weight"
            found.setdefault(name, Tensor(name, precisions[part] if matrix else "fp32", [])).weights.append(weight)
    return list(found.values())


def _weights(part: str, leaf: object, decoder: Decoder, written: Written) -> Iterator[tuple[str, Weight]]:
    heads = None
    if written.interleaved and isinstance(leaf, Linear) and part.endswith((".attention.q", ".attention.k")):
        attention = decoder.layers[int(part.split(".")[1])].attention
        assert attention is not None, "a layer with q has attention"
        heads = attention.core.heads if part.endswith("q") else attention.core.kv_heads
    if isinstance(leaf, Embedding | Linear):
        yield "weight", Weight(part, leaf.weight, leaf.rows, leaf.columns, heads)
        if isinstance(leaf, Linear) and leaf.bias is not None:
            yield "bias", Weight(part, leaf.bias, leaf.rows, None, heads)
    elif isinstance(leaf, Norm) and leaf.weight is not None:
        yield "weight", Weight(part, leaf.weight, leaf.size, None)


def interleave(count: int) -> np.ndarray:
    """Where the rows of a head of ``count`` come from, so that what stood in its halves stands side by side."""
    return np.arange(count).reshape(2, -1).T.reshape(-1)


def stored(checkpoint: Checkpoint, tensor: Tensor) -> Iterator[np.ndarray]:
    """The tensor's bytes uint8, block of rows by block of rows. Raises `FirstTokenError` for weights that are damaged or do not fit their type."""
    for weight in tensor.weights:
        size = None if weight.heads is None else weight.rows // weight.heads
        step = max(1, BLOCK_VALUES // (weight.columns or 1))
        if size is not None:
            step = -(-step // size) * size  # whole heads
        for start in range(0, weight.rows, step):
            stop = min(start + step, weight.rows)
            rows, scales = own_rows(checkpoint, weight.source, start, stop)
            if size is not None:
                order = (np.arange(0, stop - start, size)[:, None] + interleave(size)).reshape(-1)
                rows, scales = rows[order], None if scales is None else scales[order]
            if weight.columns is None:
                yield np.ascontiguousarray(rows.reshape(-1), np.float32).view(np.uint8)
            else:
                yield stored_rows(rows, tensor.precision, scales, weight.layer).reshape(-1)


def own_rows(checkpoint: Checkpoint, source: Source, start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows as the checkpoint stores them, without the factor that the tree takes them by, and their scales where they are integers times them.

    A checkpoint that stands before another knows its weights by their whole source, so there the factor is divided off again.
    """
    added = np.float32(source.add / source.scale)
    if isinstance(checkpoint, CheckpointOver):
        factor, scales = np.float32(source.scale), checkpoint.scales(source, start, stop)
        rows = (
            (checkpoint.rows(source, start, stop) - np.float32(source.add)) / factor
            if factor != 1 or source.add
            else checkpoint.rows(source, start, stop)
        )
        scales = None if scales is None else scales / factor
    else:
        plain = replace(source, add=0.0, scale=1.0)
        rows, scales = checkpoint.rows(plain, start, stop), checkpoint.scales(plain, start, stop)
    return (rows + added if added else rows), scales


def bytes_of(tensor: Tensor) -> int:
    """How many bytes the file has for a tensor, without the padding behind it."""
    rows, columns = (tensor.shape[0], 1) if len(tensor.shape) == 1 else tensor.shape
    sizes = {"fp32": (1, 4), "fp16": (1, 2), "int8": (BLOCK, 34), "int4": (BLOCK, 18)}
    values, size = sizes[tensor.precision]
    return rows * columns // values * size


__all__ = ["ROPE_FREQUENCIES", "Tensor", "Weight", "bytes_of", "file_name", "own_rows", "stored", "tensors"]
