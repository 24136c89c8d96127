"""A layer that meets the outliers of its input by themselves: two products with one weight, each input rounded to int8 with scales of its own."""

import numpy as np

from firsttoken.backends.tflite.graph import Dynamic, Graph, Op
from firsttoken.precisions import OUTLIER


def apart(graph: Graph, x: int, weight: int, bias: int) -> int:
    """``x @ weight^T + bias`` of float32 ``x [S, columns]``; one token's two parts go through the kernel together, which then reads the weight once."""
    inner, outer = split(graph, x)
    tokens, rows = graph.shapes[x][0], graph.shapes[weight][0]
    if isinstance(tokens, Dynamic) or tokens != 1:
        found = graph.add(graph.fully_connected(inner, weight, -1), graph.fully_connected(outer, weight, -1))
    else:
        both = graph.fully_connected(graph.concatenate([inner, outer], 0), weight, -1)
        found = graph.add(graph.slice(both, [0, 0], [tokens, rows]), graph.slice(both, [tokens, 0], [tokens, rows]))
    # Not in one of the products: XNNPACK packs a bias with its weight, and its cache gives the two nodes of one weight the same packed bytes.
    return found if bias == -1 else graph.add(found, bias)


def split(graph: Graph, x: int) -> tuple[int, int]:
    """What of ``x`` lies within `OUTLIER` times each token's root mean square, and what is left: zeros but for outliers."""
    if x in graph.split_inputs:
        return graph.split_inputs[x]
    root = graph.unary(Op.SQRT, graph.mean_last(graph.multiply(x, x)))
    low, high = (graph.multiply(root, graph.constant(np.full((1, 1), sign * OUTLIER))) for sign in (-1, 1))
    inner = graph.minimum(graph.maximum(x, low), high)
    graph.split_inputs[x] = inner, graph.subtract(x, inner)
    return graph.split_inputs[x]
