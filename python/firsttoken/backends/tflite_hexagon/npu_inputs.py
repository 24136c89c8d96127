"""What the host feeds to an NPU graph: embedding rows, cos and sin in FP32, masks. The app's Kotlin does the same.

Graphs have fixed shapes, so a call with fewer tokens than its graph takes is padded; the padding lies behind the real
tokens, where the causal mask hides it, and its cache rows are not kept.
"""

from pathlib import Path

import numpy as np

from firsttoken.backends.host_inputs import of_window, rotation_inputs
from firsttoken.backends.ring import ring_mask
from firsttoken.bundle.manifest import HostTable, Manifest
from firsttoken.errors import FirstTokenError


class HostFeed:
    """Feeds for the graphs of a bundle's NPU artifact, with the embedding table read row by row from ``folder``'s CPU artifact."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        artifact, self.npu = manifest.need_npu()
        self.table = EmbeddingTable(folder, self.npu.embedding)
        self.rotations = [np.array(rotation.inverse_frequencies, np.float32) for rotation in manifest.rotations]
        # rows of the cache by window; None: of layers that see all
        self.rings = {state.window: manifest.cache_length if state.window is None else state.length for state in artifact.states}

    def call(self, tokens: np.ndarray, position: int, length: int) -> dict[str, np.ndarray]:
        """Returns the inputs, other than the cache, of a graph of ``length`` tokens for int32 ``tokens [n]``, n <= length,
        the first of them at ``position``: ``embedding [length, hidden]``, ``cos``/``sin [length, 1, head_dim]`` of every rotation,
        ``last [1]``, ``cache_mask [1, cache rows]`` and, of layers with a window, ``cache_mask_WINDOW [length, ring rows]``."""
        rows = np.zeros((length, self.npu.embedding.columns), np.float32)
        rows[: len(tokens)] = self.table.rows(tokens)
        positions = np.arange(position, position + length)
        fed = {"embedding": rows, "last": np.array([len(tokens) - 1], np.int32)}
        for number, inverse_frequencies in enumerate(self.rotations):
            fed |= zip(rotation_inputs(number), turned(positions, inverse_frequencies), strict=True)
        for window, ring in self.rings.items():
            if window is None:
                fed["cache_mask"] = np.where(np.arange(ring) < position, np.float32(0), np.float32(self.npu.masked))[None]
            else:
                fed[of_window("cache_mask", window)] = ring_mask(window, ring, ring, positions, position)
        return fed


def turned(positions: np.ndarray, inverse_frequencies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of the angles in FP32, each ``[positions, 1, head_dim]``; both halves alike, sin's first one negated,
    so that the graph's rotate-half is a plain swap of halves (RoPE, arXiv 2104.09864).

    The angle is FP32, as in the model; its cos and sin are taken in FP64 and rounded, which every platform does alike."""
    angles = (positions.astype(np.float32)[:, None] * inverse_frequencies).astype(np.float64)
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    return np.concatenate([cos, cos], 1)[:, None], np.concatenate([-sin, sin], 1)[:, None]


class EmbeddingTable:
    """Rows of the embedding where the CPU artifact stores it, as float32. Raises `FirstTokenError` if they lie outside the file."""

    def __init__(self, folder: Path, table: HostTable) -> None:
        self.path = folder / table.file
        dtype = np.dtype(table.dtype)
        ends = table.offset + table.rows * table.columns * dtype.itemsize
        if table.scales_offset is not None:
            ends = max(ends, table.scales_offset + 4 * table.rows)
        if not self.path.is_file() or self.path.stat().st_size < ends:
            raise FirstTokenError(f"{self.path}: does not hold the embedding that the manifest describes; export again")
        self.values = np.memmap(self.path, dtype, "r", table.offset, (table.rows, table.columns))
        self.scales = None if table.scales_offset is None else np.memmap(self.path, np.float32, "r", table.scales_offset, (table.rows,))

    def rows(self, tokens: np.ndarray) -> np.ndarray:
        """Returns float32 ``[tokens, hidden]``."""
        rows = self.values[tokens].astype(np.float32)
        return rows if self.scales is None else rows * self.scales[tokens][:, None]
