"""Every family's .tflite computes what transformers computes: biases, norms, rope kinds, head sizes."""

import numpy as np
import pytest
import torch
from families_on_disk import CASES, random_model, save
from tflite_fixtures import relative_error


@pytest.mark.parametrize("target", ["tflite-xnnpack", "tflite-compat"])
@pytest.mark.parametrize("case", CASES)
def test_family(case, target, tmp_path, lowered_runner):
    model = random_model(case)
    folder = save(model, tmp_path / "checkpoint")
    tokens = np.random.default_rng(3).integers(0, 131, 100).tolist()
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits[0].numpy()
    runner = lowered_runner(folder, "fp32", target, cache_length=128)
    assert np.abs(runner.prefill(tokens[:40]) - expected[39]).max() < 1e-4
    assert np.abs(runner.decode(tokens[40]) - expected[40]).max() < 1e-4
    assert np.abs(runner.prefill(tokens[41:99]) - expected[98]).max() < 1e-4
    assert np.abs(runner.decode(tokens[99]) - expected[99]).max() < 1e-4
    if target == "tflite-xnnpack":
        half = lowered_runner(folder, "fp16-attention", target, cache_length=128)
        assert relative_error(half.prefill(tokens[:40]), expected[39]) < 0.1
