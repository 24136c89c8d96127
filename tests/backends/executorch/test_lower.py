"""The written .pte: what it computes in every plan, at every length, and that the lean lowering changes no byte of it."""

import numpy as np
import pytest
import torch
from executorch_fixtures import BOUNDS, CACHE, Lowerings, relative_error
from lowering_jobs import with_precisions

from firsttoken.backends.executorch import lower as lowering
from firsttoken.backends.executorch import partition
from firsttoken.backends.executorch.modules import QuantizedEmbedding, QuantizedLinear
from firsttoken.backends.executorch.partition import run_time_sizes
from firsttoken.checkpoint import Checkpoint
from firsttoken.errors import FirstTokenError
from firsttoken.quant.plan import plan_names


@pytest.mark.parametrize(
    "plan",
    [
        "fp16-attention",
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in (*plan_names(), "mixed")
            if n not in ("fp16-attention", "int4-gptq", "int4-npu", "as-stored")
        ),
    ],
)
def test_every_plan_computes_what_the_checkpoint_computes(plan, lowerings):
    runner = lowerings.open(plan)
    got = [runner.prefill(lowerings.tokens[:24]).copy()]
    got += [runner.decode(token).copy() for token in lowerings.tokens[24:CACHE]]
    got, expected = np.stack(got), lowerings.expected[23:CACHE]
    assert relative_error(got, expected) < BOUNDS[plan]
    assert abs(got.std() / expected.std() - 1) < max(0.002, BOUNDS[plan] / 3)  # weight-only kernels would be wrong by 2000
    runner.close()


@pytest.mark.slow
def test_every_prompt_length(lowerings):
    """In one call each, up to the whole cache: other hosts cut no prompt."""
    runner = lowerings.open("fp32")
    runner.prefill_chunk = CACHE
    for length in range(1, CACHE + 1):
        runner.reset()
        assert np.abs(runner.prefill(lowerings.tokens[:length]) - lowerings.expected[length - 1]).max() < 1e-4, length
    runner.close()


def test_manifest_describes_the_method(lowerings):
    _, manifest, _ = lowerings.lower("fp16-attention")
    [forward] = manifest.cpu.methods
    assert forward.name == "forward"
    assert [(t.name, t.shape, t.dtype) for t in forward.inputs] == [
        ("tokens", [1, "sequence"], "int64"), ("cache_position", ["sequence"], "int64"),
    ]  # fmt: skip
    assert [(t.name, t.shape) for t in forward.outputs] == [("logits", [1, 1, 131])]
    for plan, dtypes in (("fp16-attention", ["float16"] * 2), ("int8", ["float32"] * 2), ("mixed", ["float16", "float32"])):
        states = lowerings.lower(plan)[1].cpu.states
        assert [state.dtype for state in states] == dtypes
        assert {(state.held_by, state.length) for state in states} == {("artifact", CACHE)}


@pytest.mark.slow
@pytest.mark.parametrize("cache_length, prefill_chunk", [(2, 1), (3, 2), (12, 11)])
def test_short_caches_and_chunks(cache_length, prefill_chunk, lowerings):
    runner = lowerings.open("fp32", cache_length=cache_length, prefill_chunk=prefill_chunk)
    assert np.abs(runner.prefill(lowerings.tokens[: cache_length - 1]) - lowerings.expected[cache_length - 2]).max() < 1e-4
    assert np.abs(runner.decode(lowerings.tokens[cache_length - 1]) - lowerings.expected[cache_length - 1]).max() < 1e-4
    runner.close()


@pytest.mark.slow
@pytest.mark.parametrize("case, plan", [("qwen3-bias", "fp16-attention"), ("llama-biases", "int8")])
def test_families_with_norms_and_biases(case, plan, tmp_path):
    """q/k norm and biases of every linear layer, in another precision than FP32."""
    made = Lowerings(tmp_path, tmp_path / "checkpoint", case)
    runner = made.open(plan)
    got = np.stack([runner.prefill(made.tokens[:9]).copy(), *(runner.decode(token).copy() for token in made.tokens[9:CACHE])])
    assert relative_error(got, made.expected[8:CACHE]) < BOUNDS[plan]
    runner.close()


@pytest.mark.slow
def test_lean_lowering_writes_the_same_file(lowerings, tmp_path, monkeypatch):
    """Stock partitioner and preprocessing, against ours, on a plan with every precision beside every other one.

    What stock refuses of run-time sizes is allowed on both sides, and its question whether a tensor's channels come last, which
    it cannot answer for them, is answered: none of a decoder's do.
    """
    from executorch.backends.xnnpack._passes.channels_last_tagged_reshape_pass import ChannelsLastTaggedReshapePass
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    monkeypatch.setattr(partition, "LARGE", 1 << 10)  # frees here, too, what it frees of larger weights
    lean = lowerings.lower("mixed", tmp_path / "lean.pte")[0].read_bytes()
    monkeypatch.setattr(ChannelsLastTaggedReshapePass, "_is_nhwc_tensor", staticmethod(lambda tensor: False))
    monkeypatch.setattr(lowering, "DecoderPartitioner", XnnpackPartitioner)
    monkeypatch.setattr(lowering, "lean_preprocessing", run_time_sizes)
    stock, _, _ = lowerings.lower("mixed", tmp_path / "stock.pte")
    assert stock.read_bytes() == lean


@pytest.mark.parametrize("precision, bits, group", [("int8", torch.int8, 96), ("int4", torch.int4, 32)])
def test_quantized_modules_equal_torchao(precision, bits, group):
    """The layer that torchao's own configuration makes computes the same, bit for bit."""
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, IntxUnpackedToInt8Tensor, quantize_
    from torchao.quantization.granularity import PerAxis, PerGroup

    torch.manual_seed(0)
    linear = torch.nn.Linear(96, 40).requires_grad_(False)
    weight = IntxUnpackedToInt8Tensor.from_hp(linear.weight, (1, group), bits)
    ours = QuantizedLinear(weight.qdata, weight.scale, linear.bias, precision)
    granularity = PerAxis(0) if precision == "int8" else PerGroup(group)
    config = Int8DynamicActivationIntxWeightConfig(weight_dtype=bits, weight_granularity=granularity, weight_scale_dtype=torch.float32)
    theirs = torch.nn.Sequential(linear)
    quantize_(theirs, config)
    x = torch.randn(1, 7, 96)
    assert torch.allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    embedding = QuantizedEmbedding(weight.qdata, weight.scale, precision)
    assert torch.equal(embedding(torch.tensor([[3, 0, 39]])), weight.dequantize()[[3, 0, 39]][None])


def test_a_weight_that_float16_cannot_hold_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    model_folder = tmp_path / "checkpoint"
    made = Lowerings(tmp_path, model_folder)

    tensors = load_file(model_folder / "model.safetensors")
    tensors["model.layers.1.self_attn.k_proj.weight"][3, 5] = 70000.0
    save_file(tensors, model_folder / "model.safetensors")
    made.source = Checkpoint(model_folder)
    with pytest.raises(FirstTokenError, match=r"layers\.1\.attention\.k.*weight.*65504"):
        made.lower("fp16-attention")


@pytest.mark.slow
def test_a_layer_outside_the_delegate_is_refused(lowerings, tmp_path, monkeypatch):
    from executorch.backends.xnnpack.partition.config.gemm_configs import LinearConfig

    plain = LinearConfig.check_constraints

    def refuse_one(self, node, ep):
        return "layers_1_mlp_gate" not in str(node.args[1]) and plain(self, node, ep)

    monkeypatch.setattr(LinearConfig, "check_constraints", refuse_one)
    with pytest.raises(FirstTokenError, match="refused the model"):
        lowerings.lower("fp16", tmp_path / "model.pte")
    assert not (tmp_path / "model.pte").exists()


@pytest.mark.slow
def test_a_layer_in_another_precision_is_refused(lowerings, tmp_path, monkeypatch):
    plain = lowering.build_module

    def forget_one(job, *rest):
        return plain(with_precisions(job, layers__1__mlp__up="fp32"), *rest)

    monkeypatch.setattr(lowering, "build_module", forget_one)
    with pytest.raises(FirstTokenError, match=r"layers\.1\.mlp\.up.*int8.*but is fp32"):
        lowerings.lower("int8", tmp_path / "model.pte")
