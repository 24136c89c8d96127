"""What quantization-aware training computes with is what the exported file computes with."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from firsttoken.backends.registry import backend_of, resolve
from firsttoken.backends.tflite.quantize import quantize_int4, quantize_int8
from firsttoken.backends.tflite.rounding import TfliteRounding
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.distill import qat
from firsttoken.distill.models import head_inputs, load_decoder
from firsttoken.pipeline import export
from firsttoken.quant.plan import load_plan
from firsttoken.run.open import open_runner
from firsttoken.targets.target import load_target

TOKENS = np.array([1, 17, 250, 3, 99, 1024, 5, 64, 8, 2000, 31, 4])


def prepared(folder, plan_name, target_name):
    target, plan = load_target(target_name, 64), load_plan(plan_name)
    with Checkpoint(folder) as checkpoint:
        decoder = open_decoder(checkpoint)
    model = load_decoder(folder)
    return model, qat.prepare(model, plan_layers(decoder), resolve(plan, decoder, target), plan, backend_of(target))


def logits_of(model):
    with torch.no_grad():
        hidden = model.model(input_ids=torch.from_numpy(TOKENS)[None], use_cache=False).last_hidden_state[0]
        hidden, weight, bias = head_inputs(model, hidden)
        return torch.nn.functional.linear(hidden, weight, bias).numpy()


@pytest.mark.parametrize("target", ["tflite-xnnpack", "onnx-cpu", pytest.param("executorch-xnnpack", marks=pytest.mark.slow)])
@pytest.mark.parametrize("plan", ["int8", "int4", "rows"])
def test_the_rounded_model_computes_what_the_file_computes(tiny_model, tmp_path, plan, target):
    if plan == "rows":  # beside groups
        plan = tmp_path / "rows.toml"
        plan.write_text(
            re.sub(r'(match = "layers\.\*"\nprecision = "int4")', r'\1\ngroup = "row"', (Path("quant") / "int4.toml").read_text())
        )
        assert any(rule.group == "row" for rule in load_plan(plan).rules)
    model, rounded = prepared(tiny_model, plan, target)
    assert "head" in rounded and "embedding" in rounded and "layers.1.mlp.down" in rounded
    ours = logits_of(model)
    [bundle] = export(tiny_model, tmp_path, plan, (target,), prove=False, cache_length=64)
    runner = open_runner(bundle, 1)
    theirs = np.stack([(runner.prefill(TOKENS[:1]) if n == 0 else runner.decode(int(TOKENS[n]))).copy() for n in range(len(TOKENS))])
    runner.close()
    lost = np.abs(logits_of(load_decoder(tiny_model)) - theirs).mean()  # by quantization itself
    assert np.abs(ours - theirs).mean() < 1e-3 * lost


@pytest.mark.parametrize("precision,group", [("int8", 32), ("int4", 32), ("int4", 64), ("int4", 128)])
def test_tflite_rounding_is_the_exporters(precision, group):
    weight = torch.randn(24, 128, generator=torch.Generator().manual_seed(1)) * torch.logspace(-4, 2, 24)[:, None]
    weight[3] = 0
    ours = TfliteRounding(precision, group).rounded(weight).numpy()
    if precision == "int8":
        values, scales = quantize_int8(weight.numpy())
        theirs = values * scales[:, None]
    else:
        packed, scales = quantize_int4(weight.numpy(), group)
        values = np.stack([packed & 0x0F, packed >> 4], axis=-1).reshape(24, 128).astype(np.int8)
        values = np.where(values > 7, values - 16, values)
        theirs = (values.reshape(24, -1, group) * scales.astype(np.float32)[:, :, None]).reshape(24, 128)
    np.testing.assert_array_equal(ours, theirs.astype(np.float32))


def test_gradients_pass_through_to_every_weight_and_plain_layers_come_back(tiny_model):
    model, _rounded = prepared(tiny_model, "int4", "tflite-xnnpack")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hidden = model.model(input_ids=torch.from_numpy(TOKENS)[None], use_cache=False).last_hidden_state[0]
    hidden, weight, bias = head_inputs(model, hidden)
    torch.nn.functional.linear(hidden, weight, bias).square().mean().backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert without == []
    finished = qat.finish(model)
    assert {type(m) for m in finished.modules()} & {torch.nn.Linear, torch.nn.Embedding} and not any(
        "FakeQuantized" in type(m).__name__ for m in finished.modules()
    )
    after = finished.state_dict()
    assert set(after) == set(before) and all(torch.equal(after[name], before[name]) for name in before)


def test_a_plan_of_floats_rounds_nothing(tiny_model):
    assert prepared(tiny_model, "fp16", "tflite-xnnpack")[1] == []
