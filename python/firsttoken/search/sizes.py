"""Bytes that a layer adds to an artifact."""

import math

from firsttoken.backends.interface import Backend
from firsttoken.decoder.walk import Layer
from firsttoken.precisions import PRECISIONS
from firsttoken.search.candidates import Candidate


def layer_bytes(layer: Layer, candidate: Candidate, backend: Backend) -> float:
    """Weight and scales as the backend's files hold them; a core has none. Alignment and the graph are part of what is fixed."""
    if layer.shape is None:
        return 0.0
    rows, columns = layer.shape
    precision = PRECISIONS[candidate.precision]
    stored = math.prod(layer.shape) * precision.bits / 8
    if precision.scales is None:
        return stored
    groups = columns // candidate.group if isinstance(candidate.group, int) else 0
    return stored + rows * backend.row_scale_bytes + rows * groups * backend.group_scale_bytes
