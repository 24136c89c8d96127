"""Bytes that a layer adds to an artifact."""

import math

from firsttoken.backends.interface import Backend
from firsttoken.decoder.walk import Layer
from firsttoken.precisions import BLOCK, PRECISIONS
from firsttoken.search.candidates import Candidate


def layer_bytes(layer: Layer, candidate: Candidate, backend: Backend) -> float:
    """Weight and scales as the backend's files hold them; a core has none. Alignment and the graph are part of what is fixed."""
    if layer.shape is None:
        return 0.0
    rows, columns = layer.shape
    precision = PRECISIONS[candidate.precision]
    stored = math.prod(layer.shape) * precision.bits / 8 + (backend.outliers_bytes if candidate.outliers else 0)
    if precision.scales is None:
        return stored
    grid = backend.weight_grid
    if not isinstance(candidate.group, int) and (grid.blocks or grid.float_blocks):  # a scale for every block, where no groups are asked
        return stored + rows * -(-columns // BLOCK) * backend.group_scale_bytes
    if isinstance(candidate.group, int):
        return stored + rows * (columns // candidate.group) * backend.group_scale_bytes
    return stored + rows * backend.row_scale_bytes
