"""What cannot be converted says what to do; the stock messages are those that PyTorch and litert-torch really give."""

from dataclasses import replace

import pytest
import torch
from tflite_tiny_modules import ConvNet, encoder, with_statistics
from torch import nn

from firsttoken.backends.tflite.modules import conversion_errors
from firsttoken.backends.tflite.modules.conversion import convert, example_of, size_combinations
from firsttoken.backends.tflite.modules.conversion_errors import recurrent_steps, translated
from firsttoken.errors import FirstTokenError
from firsttoken.modules.module import Module, ModuleInput, ModuleOutput


def module(network: nn.Module, example: torch.Tensor, shape, lengths=None, dynamic_shapes=None) -> Module:
    program = torch.export.export(network.eval(), (example,), dynamic_shapes=dynamic_shapes)
    return Module("mine", program, (ModuleInput("x", "float32", shape),), (ModuleOutput("y", ("batch", 4)),), (example,), "", lengths or {})


def test_sizes_and_examples():
    found = encoder((6, 10))
    assert size_combinations(found) == [{"batch": batch, "length": length} for batch in (1, 3) for length in (6, 10)]
    (tokens,) = example_of(found, {"batch": 3, "length": 6})
    assert tokens.shape == (3, 6) and torch.equal(tokens[2], tokens[0]) and torch.equal(tokens, found.example[0][[0, 1, 0], :6])
    with pytest.raises(
        FirstTokenError,
        match=r"encoder: dimension 'length' has no sizes, and a .tflite has fixed ones; give some, as in lengths = {length: \[16",
    ):
        size_combinations(replace(found, lengths={}))


def test_a_batch_that_was_traced_as_a_constant():
    found = module(with_statistics(ConvNet()), torch.randn(1, 3, 12, 12), ("batch", 3, 12, 12), {"batch": (4,)})
    with pytest.raises(
        FirstTokenError,
        match=r"mine: the program was traced for other sizes than those asked \(batch 4\).*export it again with a batch of 2",
    ):
        convert(found)


class Sorted(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x @ x.transpose(1, 2)).real


def test_an_operation_without_a_conversion():
    found = module(Sorted(), torch.randn(2, 4, 4), (2, 4, 4))
    with pytest.raises(FirstTokenError, match=r"mine: litert-torch has no conversion of .*eig"):
        convert(found)


@pytest.mark.parametrize(
    "said",
    [
        "float32[-9223372036854775808,8]",
        "reshape new_sizes must all be positive, got (-9223372036854775808, 30).",
        "Only non-negative indices are allowed when broadcasting static shapes, but got shape (…)",
        "Expected a static ShapedType",
        "Shapes must be 1D sequences of concrete values of integer type, got (JitTracer(int32[]),)",
    ],
)
def test_open_dimensions(said):
    found = translated(TypeError(said), encoder(), [{"batch": 1}])
    assert "a .tflite has fixed ones; name it in the module's inputs and give its sizes" in str(found)


def test_steps_that_are_unrolled(lstm, text, monkeypatch):
    assert recurrent_steps(lstm.module, {"batch": 1}) == 4
    assert recurrent_steps(text.module, {"batch": 1, "length": 6}) == 0
    monkeypatch.setattr(conversion_errors, "MOST_STEPS", 3)
    with pytest.raises(FirstTokenError, match=r"series: a recurrent layer over 4 steps would be unrolled .* export a module of one step"):
        convert(lstm.module)
