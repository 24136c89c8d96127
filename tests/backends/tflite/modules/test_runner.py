"""Running a module's .tflite: batches in pieces, lengths that the file has, inputs by name."""

import numpy as np
import pytest
import torch

from firsttoken.backends.tflite.modules.backend import TfliteModules
from firsttoken.errors import FirstTokenError

pytestmark = pytest.mark.slow


@pytest.fixture
def runner(text, tmp_path):
    lowered = text.lower(text.plan(), tmp_path / "model.tflite")
    opened = TfliteModules().open(tmp_path / "model.tflite", lowered.methods, 1)
    yield opened
    opened.close()


@pytest.mark.parametrize("batch", [1, 3, 7])
@pytest.mark.parametrize("length", [6, 10])
def test_any_batch_and_each_length(batch, length, text, runner):
    (tokens,) = text.inputs(batch, length=length)
    wanted = text.module.run(torch.from_numpy(tokens))
    got = runner.run({"tokens": tokens})
    assert {name: value.shape for name, value in got.items()} == {"topic": (batch, 4), "tone": (batch, 3)}
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value.numpy(), atol=2e-5)
        assert got[name].dtype == np.float32


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"tokens": np.ones((1, 7), np.int64)}, r"no graph for batch 1, length 7; the file has batch 1, length 6; batch 1, length 10; "),
        ({"words": np.ones((1, 6), np.int64)}, r"input 'tokens' is missing; expected tokens"),
        ({"tokens": np.ones(6, np.int64)}, r"input 'tokens' has shape \[6\]; expected \['batch', 'length'\]"),
        ({"tokens": np.full((1, 6), 1 << 40)}, r"input 'tokens' has values up to 1099511627776; the file takes int32"),
        ({"tokens": np.full((1, 6), 0.5)}, r"input 'tokens' has fractions; the file takes int32"),
        ({"tokens": np.ones((0, 6), np.int64)}, r"no graph for batch 0"),
    ],
)
def test_inputs_that_do_not_fit(inputs, said, runner):
    with pytest.raises(FirstTokenError, match=said):
        runner.run(inputs)


def test_a_file_of_other_methods(conv, text, tmp_path):
    lowered = text.lower(text.plan(), tmp_path / "text.tflite")
    conv.lower(conv.plan(), tmp_path / "conv.tflite")
    with pytest.raises(FirstTokenError, match=r"conv.tflite: has no signature 'run_batch1_length6', only run_batch1"):
        TfliteModules().open(tmp_path / "conv.tflite", lowered.methods)
