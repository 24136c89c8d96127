"""A lowered module gives the module's numbers, in a file as small as was asked; what cannot be is refused by name."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from executorch_tiny_modules import NETWORKS, module_of, scores, tiny
from executorch_tiny_modules import tiny_files as tiny_files
from torch import nn

from firsttoken.backends.executorch import module_quantize
from firsttoken.backends.executorch.module_backend import ExecutorchModules
from firsttoken.errors import FirstTokenError

pytestmark = pytest.mark.slow

INT8 = {"linear": "int8", "conv": "int8", "embedding": "int8-weight", "lstm": "int8"}
STATIC = {"linear": "int8-static", "conv": "int8-static", "depthwise": "int8-static"}
MIXED = {"linear": "int4", "up": "fp16", "embedding": "fp16", "core": "fp16"}
# The largest error in parts of the outputs' root mean square, of networks with random weights, where every bit matters.
CASES = [
    *((name, {}, 1e-5) for name in ("images", "tokens")),
    *((name, INT8, 0.08) for name in NETWORKS),
    ("images", STATIC, 0.1),
    ("series", STATIC, 0.1),
    ("tokens", MIXED, 0.8),
]


def relative(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(abs(got - wanted).max() / np.sqrt((wanted**2).mean()))


@pytest.mark.parametrize("name, precisions, bound", CASES, ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else None)
def test_the_file_gives_the_modules_numbers(name, precisions, bound, tiny_files):
    module, values = tiny(name)
    wanted, got = scores(module, values), tiny_files.run(name, values, **precisions)
    error = relative(got, wanted)
    assert error < bound
    assert not precisions or error > 1e-5, "quantized numbers are not the float ones: something was left as it was"
    alone = np.concatenate([tiny_files.run(name, values[place : place + 1], **precisions) for place in range(3)])
    assert relative(alone, wanted[:3]) < bound, "the batch is free"


def test_a_transformer_is_one_or_two_partitions(tiny_files):
    for name, precisions in (("images", {}), ("tokens", {}), ("recurrent", INT8)):
        _, lowered, _ = tiny_files.lower(name, **precisions)
        parts = int(lowered.notes[0].split("XNNPACK computes it in ")[1].split(" ")[0])
        assert parts <= 2, lowered.notes


def test_int8_weights_take_a_quarter(tiny_files):
    module, _ = tiny("tokens")
    weights = sum(value.numel() for value in module.program.state_dict.values() if value.dim() == 2 and value.shape != (12, 32))
    saved = tiny_files.lower("tokens")[0].stat().st_size - tiny_files.lower("tokens", **INT8)[0].stat().st_size
    assert saved > 0.5 * 3 * weights  # of so small a file a good part are scales and names


def test_ranges_need_samples(tmp_path, tiny_files):
    job = replace(tiny_files.job("images", STATIC), samples={})
    with pytest.raises(FirstTokenError, match="int8-static needs the ranges of its inputs, and there are no samples"):
        ExecutorchModules().lower(job, tmp_path / "m.pte")


def test_what_stays_float_without_a_word_is_noticed(tmp_path, monkeypatch, tiny_files):
    """As torchao's quantize_ leaves every convolution."""
    monkeypatch.setattr(
        module_quantize, "convolution", lambda graph, node, layer, precision: CONVOLUTION(graph, node, layer, "fp32"), raising=True
    )
    with pytest.raises(FirstTokenError, match="first: asked int8, stored fp32"):
        ExecutorchModules().lower(tiny_files.job("series", {"conv": "int8"}), tmp_path / "m.pte")


CONVOLUTION = module_quantize.convolution


def test_weights_beyond_float16_are_refused():
    with pytest.raises(FirstTokenError, match="'up': its weights reach 1e\\+05, beyond float16's 65504"):
        module_quantize.make_linear(torch.full((2, 4), 1e5), None, "up", "fp16")
    with pytest.raises(FirstTokenError, match="'up': its rows have 5 weights, and int4 packs two in a byte"):
        module_quantize.make_linear(torch.ones(2, 5), None, "up", "int4")


def test_a_projected_lstm_is_refused(tmp_path, tiny_files):
    class Projected(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 8, proj_size=4, batch_first=True)

        def forward(self, x):
            return self.lstm(x)[0][:, -1]

    module = module_of(Projected(), (torch.randn(2, 4, 3),))
    from firsttoken.modules.layers import module_layers

    layers = module_layers(module.program)
    job = replace(tiny_files.job("recurrent", {}), module=module, layers=layers, precisions={layers[0].name: "fp32"})
    with pytest.raises(FirstTokenError, match="an LSTM with a projection"):
        ExecutorchModules().lower(job, tmp_path / "m.pte")


def test_a_batch_of_one_is_fixed(tmp_path, tiny_files):
    job = tiny_files.job("series", {})
    job = replace(job, module=replace(job.module, lengths={"batch": (1,)}))
    lowered = ExecutorchModules().lower(job, tmp_path / "m.pte")
    runner = ExecutorchModules().open(tmp_path / "m.pte", lowered.methods, 1)
    try:
        _, values = tiny("series")
        assert runner.most == [(1, 3, 20)]
        assert relative(runner.run({"x0": values[:3]})["scores"], scores(job.module, values[:3])) < 1e-5
    finally:
        runner.close()
