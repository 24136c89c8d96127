"""Ranges of activations from samples: against what PyTorch gives, in bounded memory, and wide enough for biases."""

import numpy as np
import pytest
import torch

from firsttoken.backends.tflite.modules import ranges
from firsttoken.backends.tflite.modules.backend import TfliteModules
from firsttoken.backends.tflite.modules.matching import match
from firsttoken.backends.tflite.modules.quantization import name_operators
from firsttoken.backends.tflite.modules.ranges import calibrated
from firsttoken.errors import FirstTokenError
from firsttoken.range_histogram import Histogram

STATIC = {"linear": "int8-static", "conv": "int8-static", "depthwise": "int8-static"}


def measured(conv, precisions, method="min-max", change=None):
    file = conv.file()
    found = match(file, conv.layers, dict(conv.module.program.state_dict), precisions)
    names = name_operators(file, found)
    if change is not None:
        change(file, found)
    spans, _ = calibrated(file, conv.sizes, conv.job(precisions, method), found)
    return {name: (float(low.min()), float(high.max())) for name, (low, high) in spans.items()}, file, found, names


def test_the_ends_are_those_of_the_module(conv):
    spans, _, _, _ = measured(conv, conv.plan(linear="int8-static"))
    gives = conv.module.run(torch.from_numpy(conv.inputs(16)[0]))["output"].numpy()
    np.testing.assert_allclose(spans["run_batch1/head/0"], (gives.min(), gives.max()), rtol=1e-4)


def test_pieces_give_the_same(conv, monkeypatch):
    whole, *_ = measured(conv, conv.plan(**STATIC))
    monkeypatch.setattr(ranges, "AT_ONCE", 1)  # a tensor at a time
    assert measured(conv, conv.plan(**STATIC))[0] == whole


def test_each_layer_has_its_method(conv, monkeypatch):
    asked, range_of = {}, Histogram.range

    def recorded(self, method, kind):
        asked[self.low, self.high] = (method, kind)
        return range_of(self, method, kind)

    monkeypatch.setattr(Histogram, "range", recorded)
    precisions = conv.plan(**STATIC)
    job = conv.job(precisions, "min-max")
    job.range_methods["head"] = "percentile"
    file = conv.file()
    found = match(file, conv.layers, dict(conv.module.program.state_dict), precisions)
    names = dict(zip((one.layer for one in found), name_operators(file, found), strict=True))
    spans, _ = calibrated(file, conv.sizes, job, found)
    ends = {layer: tuple(float(end.reshape(-1)[0]) for end in spans[name]) for layer, name in names.items()}
    methods = {layer: next(method for seen, (method, _) in asked.items() if np.allclose(seen, span)) for layer, span in ends.items()}
    assert methods == dict.fromkeys(names, "min-max") | {"head": "percentile"}
    assert {kind for _, kind in asked.values()} == {"int8"}


@pytest.mark.parametrize("method", ["min-max", "percentile", "mse"])
def test_every_method_gives_a_right_file(method, conv, tmp_path):
    precisions = conv.plan(**STATIC)
    lowered = conv.lower(precisions, tmp_path / "model.tflite", method)
    rows = TfliteModules().audit(tmp_path / "model.tflite", lowered, conv.layers, precisions)
    assert all(len(row.scales) == 2 for row in rows)
    assert conv.error(lowered, tmp_path / "model.tflite") < 0.4


def test_a_channel_that_was_switched_off_keeps_its_bias(conv, tmp_path):
    """Its weights are 0 and its bias is not: in steps of the row's scale that bias needs more than 32 bits."""

    def switch_off(file, found):
        one = next(one for one in found if one.layer == "point")
        weight = file.tensor(0, one.weighted.weight)
        values = np.array(file.constant(0, one.weighted.weight))
        values[3] = 0
        file.model.buffers[weight.buffer].data = values.view(np.uint8).reshape(-1)

    spans, file, found, _ = measured(conv, conv.plan(**STATIC), change=switch_off)
    one = next(one for one in found if one.layer == "point")
    _, high = ranges.weight_range(file, one, {name: (np.array([[low]]), np.array([[high]])) for name, (low, high) in spans.items()})
    low, top = spans[file.name(0, one.weighted.operator.inputs[0])]
    bias = file.constant(0, one.weighted.operator.inputs[2])[3]
    assert abs(bias) / (high.reshape(-1)[3] / 127 * (max(top, 0) - min(low, 0)) / 255) < 2**31 - 1


def test_samples_that_do_not_do(conv):
    job = conv.job(conv.plan(**STATIC))
    file, found = conv.file(), match(conv.file(), conv.layers, dict(conv.module.program.state_dict), conv.plan())
    for samples, said in (
        ({}, r"stem.0: int8-static needs ranges, which are taken of samples; give some"),
        ({"image": np.zeros((4, 3, 9, 9), np.float32)}, r"samples of image \[4, 3, 9, 9\] fit no graph of the file"),
        ({"image": np.full((1, 3, 12, 12), np.nan, np.float32)}, r"a sample gives values that are no numbers"),
    ):
        wrong = type(job)(job.module, job.layers, job.precisions, samples, job.range_methods)
        with pytest.raises(FirstTokenError, match=said):
            calibrated(file, conv.sizes, wrong, found)
