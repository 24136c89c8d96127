"""A checkpoint that stands before another and gives some of its weights otherwise."""

import numpy as np

from firsttoken.checkpoint import Checkpoint
from firsttoken.lattice import Lattice
from firsttoken.progress import Report, silent
from firsttoken.weight_source import Source


class CheckpointOver(Checkpoint):
    """``base`` in everything; whoever changes weights says so by `rows`, and by `scales` and `lattice` where they are integers, or are none any more.

    What proofs compare with is the base's, so is the fingerprint, and closing it closes the base.
    """

    def __init__(self, base: Checkpoint) -> None:
        self.base = base
        self.folder, self.config, self.files, self.tensors = base.folder, base.config, base.files, base.tensors
        self.readable, self.note, self.remarks = base.readable, base.note, base.remarks
        self.embedding_factor = base.embedding_factor
        self._descriptors: dict[int, int] = {}

    @property
    def original(self) -> Checkpoint:
        return self.base.original

    @property
    def name(self) -> str:
        return self.base.name

    def rows(self, source: str | Source, start: int = 0, stop: int | None = None) -> np.ndarray:
        return self.base.rows(source, start, stop)

    def scales(self, source: Source, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        return self.base.scales(source, start, stop)

    def lattice(self, source: Source) -> Lattice | None:
        return self.base.lattice(source)

    def stored_scales(self, source: Source, start: int = 0, stop: int | None = None) -> np.ndarray:
        return self.base.stored_scales(source, start, stop)

    def fingerprint(self, report: Report = silent) -> str:
        return self.base.fingerprint(report)

    @property
    def weight_bytes(self) -> int:
        return self.base.weight_bytes

    def close(self) -> None:
        self.base.close()
