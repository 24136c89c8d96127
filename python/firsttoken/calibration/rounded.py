"""A checkpoint some of whose weights are integers already: with their scales, so that every backend rounds them to themselves.

The integers lie in a folder, one pair of ``.npy`` files a layer, read block by block through a memory map.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from firsttoken.checkpoint import Checkpoint
from firsttoken.checkpoint_over import CheckpointOver
from firsttoken.file_hash import hash_file
from firsttoken.lattice import Lattice
from firsttoken.weight_source import Source


class IntegerFiles:
    """The integers int8 ``[rows, columns]`` and scales float32 ``[rows, groups]`` of layers, by name, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._whole: dict[str, bool] = {}  # what was looked at

    def has(self, layer: str) -> bool:
        """Whether both files of the layer are there as they were written; damaged ones count as none, and are made anew."""
        if layer not in self._whole:
            try:
                self._whole[layer] = self._check(layer).read_text() == self._sums(layer)
            except (OSError, UnicodeDecodeError):
                return False
        return self._whole[layer]

    def write(self, layer: str, integers: np.ndarray, scales: np.ndarray) -> None:
        """Writes both files, each whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path, values in zip(self._paths(layer), (integers, scales), strict=True):
            unfinished = path.with_suffix(f".unfinished{os.getpid()}")  # of its own: two exports may want the same
            with unfinished.open("wb") as stream:
                np.save(stream, values, allow_pickle=False)
            unfinished.replace(path)
        self._check(layer).write_text(self._sums(layer))
        self._whole[layer] = True

    def _sums(self, layer: str) -> str:
        """The SHA-256 of both files."""
        return "".join(f"{hash_file(path)}\n" for path in self._paths(layer))

    def _check(self, layer: str) -> Path:
        return self.folder / f"{layer}.sha256"

    def read(self, layer: str) -> tuple[np.ndarray, np.ndarray]:
        """Maps both into memory; pages are read as they are used."""
        integers, scales = (np.load(path, mmap_mode="r", allow_pickle=False) for path in self._paths(layer))
        return integers, scales

    def _paths(self, layer: str) -> tuple[Path, Path]:
        return self.folder / f"{layer}.integers.npy", self.folder / f"{layer}.scales.npy"


class RoundedCheckpoint(CheckpointOver):
    """``base`` with the integers of ``files`` in the place of some weights; ``layers`` gives their layers' names."""

    def __init__(self, base: Checkpoint, files: IntegerFiles, layers: Mapping[Source, str]) -> None:
        super().__init__(base)
        self._integers = {source: files.read(layer) for source, layer in layers.items()}

    def rows(self, source: str | Source, start: int = 0, stop: int | None = None) -> np.ndarray:
        found = self._integers.get(source) if isinstance(source, Source) else None
        if found is None:
            return self.base.rows(source, start, stop)
        integers, scales = (np.asarray(values[start:stop]) for values in found)
        grouped = integers.reshape(len(integers), scales.shape[1], -1).astype(np.float32)
        return (grouped * scales[:, :, None]).reshape(integers.shape)

    def scales(self, source: Source, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        found = self._integers.get(source)
        return self.base.scales(source, start, stop) if found is None else np.asarray(found[1][start:stop])

    def lattice(self, source: Source) -> Lattice | None:
        return None if source in self._integers else self.base.lattice(source)
