"""What the host feeds to an NPU graph: embedding rows, cos and sin in FP32, masks. The app's Kotlin does the same.

Graphs have fixed shapes, so a call with fewer tokens than its graph takes is padded; the padding lies behind the real
tokens, where the causal mask hides it, and its cache rows are not kept.
"""

from pathlib import Path

import numpy as np

from firsttoken.bundle.manifest import HostTable, Manifest
from firsttoken.errors import FirstTokenError


class HostFeed:
    """Feeds for the graphs of a bundle's NPU artifact, with the embedding table read row by row from ``folder``'s CPU artifact.

    Raises `FirstTokenError` for a model whose layers do not all share one rotation, for which the graphs have no inputs.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        if len(manifest.rotations) != 1:
            raise FirstTokenError(f"bundle {folder}: has {len(manifest.rotations)} rotations; its NPU graphs take one, export again")
        self.npu, self.cache_length = manifest.need_npu()[1], manifest.cache_length
        self.table = EmbeddingTable(folder, self.npu.embedding)
        self.inverse_frequencies = np.array(manifest.rotations[0].inverse_frequencies, np.float32)

    def call(self, tokens: np.ndarray, position: int, length: int) -> dict[str, np.ndarray]:
        """Returns the inputs, other than the cache, of a graph of ``length`` tokens for int32 ``tokens [n]``, n <= length,
        the first of them at ``position``: ``embedding [length, hidden]``, ``cos``/``sin [length, 1, head_dim]``,
        ``last [1]`` and ``cache_mask [1, cache rows]``."""
        rows = np.zeros((length, self.npu.embedding.columns), np.float32)
        rows[: len(tokens)] = self.table.rows(tokens)
        cos, sin = self.rotation(np.arange(position, position + length))
        mask = np.full((1, self.cache_length), self.npu.masked, np.float32)
        mask[0, :position] = 0
        return {"embedding": rows, "cos": cos, "sin": sin, "last": np.array([len(tokens) - 1], np.int32), "cache_mask": mask}

    def rotation(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """cos and sin of the angles in FP32, each ``[positions, 1, head_dim]``; both halves alike, sin's first one negated,
        so that the graph's rotate-half is a plain swap of halves (RoPE, arXiv 2104.09864).

        The angle is FP32, as in the model; its cos and sin are taken in FP64 and rounded, which every platform does alike."""
        angles = (positions.astype(np.float32)[:, None] * self.inverse_frequencies).astype(np.float64)
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
