"""Ranges of activations from samples: their ends, without outliers, or where the error is least; in memory that does not grow."""

import numpy as np
import pytest
import torch
from executorch_tiny_modules import tiny

from firsttoken.backends.executorch.module_graph import open_graph
from firsttoken.backends.executorch.module_ranges import BINS, Values, batches, nearest, values_of
from firsttoken.errors import FirstTokenError


def seen(values: torch.Tensor) -> Values:
    found = Values()
    for part in values.chunk(5):
        found.widen(part)
    for part in values.chunk(5):
        found.count(part)
    assert found.counts is not None and len(found.counts) == BINS and found.counts.sum() == len(values)
    return found


def test_each_method_on_values_with_an_outlier():
    torch.manual_seed(0)
    values = torch.cat((torch.randn(100_000), torch.tensor([90.0])))
    found = seen(values)
    whole, inside, least = (found.rounding(method) for method in ("min-max", "percentile", "mse"))
    assert whole.scale == pytest.approx((90 - float(values.min())) / 255)
    assert whole.scale > 5 * inside.scale
    error = {
        name: float(((nearest(values.numpy(), one) - values.numpy()) ** 2).mean())
        for name, one in (("w", whole), ("i", inside), ("l", least))
    }
    assert error["l"] <= error["w"] and error["i"] != error["w"]


def test_zero_is_one_of_the_numbers():
    found = Values()
    found.widen(torch.tensor([3.0, 7.0]))
    one = found.rounding("min-max")
    assert nearest(np.zeros(1), one)[0] == 0 and one.zero_point == -128


def test_the_last_batch_is_filled():
    sizes = [tuple(part.shape for part in given) for given in batches([np.zeros((5, 3), np.float32)], 2)]
    assert sizes == [((2, 3),)] * 3


def test_ranges_of_a_graph_are_those_of_its_tensors():
    module, values = tiny("images")
    graph = open_graph(module.program)
    stem = next(node for node in graph.graph.nodes if str(node.target).startswith("aten.conv2d"))
    found = values_of(graph, [stem.args[0], stem], [values], 8, counted=False)
    assert (found[stem.args[0]].low, found[stem.args[0]].high) == pytest.approx((values.min(), values.max()))
    assert found[stem].high > 0 > found[stem].low
    with pytest.raises(FirstTokenError, match="infinite or no number"):
        values_of(graph, [stem], [np.full_like(values, np.inf)], 8, counted=False)
