"""Families with experts: configurations as published, what is refused, weights that are stacked of one tensor an expert."""

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from families_on_disk import CASES, configuration, random_model, save
from safetensors.torch import load_file, save_file

from firsttoken.backends.registry import backend_of
from firsttoken.checkpoint import Checkpoint
from firsttoken.checkpoint_sources.open import open_checkpoint
from firsttoken.decoder.families import describe
from firsttoken.decoder.features import features
from firsttoken.decoder.walk import leaves, open_decoder, parameter_count, plan_layers, tensors
from firsttoken.distill.cut_sizes import check_cuttable
from firsttoken.errors import FirstTokenError
from firsttoken.prove.reference import reference_logits
from firsttoken.targets.target import load_target
from firsttoken.weight_source import Stack

# As on the hub.
QWEN3_30B_A3B = {
    "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 151643,
    "decoder_sparse_step": 1, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048,
    "initializer_range": 0.02, "intermediate_size": 6144, "max_position_embeddings": 40960, "max_window_layers": 48, "mlp_only_layers": [],
    "model_type": "qwen3_moe", "moe_intermediate_size": 768, "norm_topk_prob": True, "num_attention_heads": 32, "num_experts": 128,
    "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4, "output_router_logits": False, "rms_norm_eps": 1e-06,
    "rope_scaling": None, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001, "sliding_window": None, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "use_cache": True, "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
LFM2_8B_A1B = {
    "architectures": ["Lfm2MoeForCausalLM"], "bos_token_id": 1, "conv_L_cache": 3, "conv_bias": False, "dtype": "bfloat16",
    "eos_token_id": 7, "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 7168,
    "layer_types": ["full_attention" if n in (2, 6, 10, 14, 18, 21) else "conv" for n in range(24)],
    "max_position_embeddings": 128000, "model_type": "lfm2_moe", "moe_intermediate_size": 1792, "norm_eps": 1e-05,
    "norm_topk_prob": True, "num_attention_heads": 32, "num_dense_layers": 2, "num_experts": 32, "num_experts_per_tok": 4,
    "num_hidden_layers": 24, "num_key_value_heads": 8, "pad_token_id": 0, "rope_theta": 1000000.0, "routed_scaling_factor": 1.0,
    "use_cache": True, "use_expert_bias": True, "vocab_size": 65536,
}  # fmt: skip
WITH_EXPERTS = [case for case in CASES if "_moe" in case]


def test_configurations_as_they_are_published():
    qwen, lfm2 = describe(QWEN3_30B_A3B), describe(LFM2_8B_A1B)
    assert parameter_count(qwen) == pytest.approx(30.5e9, rel=0.01) and parameter_count(lfm2) == pytest.approx(8.3e9, rel=0.02)
    assert {(block.mlp.router.experts, block.mlp.router.chosen, block.mlp.down.columns) for block in qwen.layers} == {(128, 8, 98304)}
    assert [block.mlp.router is None for block in lfm2.layers] == [True] * 2 + [False] * 22
    assert lfm2.layers[0].mlp.up.rows == 7168 and lfm2.layers[2].mlp.up.rows == 32 * 1792 and lfm2.tied_head
    router = lfm2.layers[2].mlp.router
    assert (router.scores, router.divided, router.epsilon, router.bias.name) == (
        "sigmoid", True, 1e-6, "model.layers.2.feed_forward.expert_bias"
    )  # fmt: skip


def test_layers_with_experts_are_those_of_transformers():
    for changes in (
        {"decoder_sparse_step": 2},
        {"mlp_only_layers": [0, 5]},
        {"num_experts": 0},
        {"decoder_sparse_step": 3, "mlp_only_layers": [2]},
    ):
        values = {**configuration("qwen3_moe"), "num_hidden_layers": 8, "decoder_sparse_step": 1, **changes}
        if "num_experts" in changes:
            values["num_local_experts"] = 0
        ours = [block.mlp.router is not None for block in describe(values).layers]
        sparse, step = 0 if "num_experts" in changes else 1, values["decoder_sparse_step"]
        assert ours == [bool(sparse and n not in (values["mlp_only_layers"] or []) and (n + 1) % step == 0) for n in range(8)]
    model = random_model("qwen3_moe-softmax")
    ours = [block.mlp.router is not None for block in describe(configuration("qwen3_moe-softmax")).layers]
    assert ours == [hasattr(layer.mlp, "experts") for layer in model.model.layers]


def test_names_and_plan_layers():
    decoder = describe(configuration("qwen3_moe"))
    names = [name.removeprefix("layers.1.") for name, _ in leaves(decoder) if name.startswith("layers.1.mlp")]
    assert names == ["mlp_norm", "mlp.gate", "mlp.up", "mlp.down", "mlp.router"]
    assert not any("router" in layer.name for layer in plan_layers(decoder))
    shapes = {layer.name: layer.shape for layer in plan_layers(decoder)}
    assert shapes["layers.1.mlp.gate"] == (96, 64) and shapes["layers.1.mlp.down"] == (64, 96)
    assert features(decoder)["experts chosen per token"] == "layers.1.mlp.router"
    named = {source.name: shape for source, shape in tensors(decoder)}
    assert named["model.layers.1.mlp.experts.5.down_proj.weight"] == (64, 16) and named["model.layers.1.mlp.gate.weight"] == (6, 64)
    assert not any("{}" in name for name in named)


@pytest.mark.parametrize(
    "published, changes, said",
    [
        (QWEN3_30B_A3B, {"num_experts_per_tok": 129}, "num_experts_per_tok is 129; expected at most the 128"),
        (QWEN3_30B_A3B, {"num_local_experts": 64}, "num_experts is 128, but num_local_experts 64"),
        (QWEN3_30B_A3B, {"num_experts": -1}, "num_experts is -1"),
        (QWEN3_30B_A3B, {"mlp_only_layers": 3}, "mlp_only_layers is 3; expected a list"),
        (QWEN3_30B_A3B, {"decoder_sparse_step": 0}, "decoder_sparse_step is 0"),
        (QWEN3_30B_A3B, {"moe_intermediate_size": 60000}, "128 experts of 60000 are 7680000 columns together"),
        (QWEN3_30B_A3B, {"shared_expert_intermediate_size": 512}, "'shared_expert_intermediate_size' is 512"),
        (LFM2_8B_A1B, {"num_dense_layers": -1}, "num_dense_layers is -1"),
        (LFM2_8B_A1B, {"num_experts": 0}, "num_experts is 0, but num_dense_layers leaves layers for experts"),
        (LFM2_8B_A1B, {"routed_scaling_factor": 0}, "routed_scaling_factor is 0"),
        (LFM2_8B_A1B, {"layer_types": None}, "layer_types is missing"),
        (LFM2_8B_A1B, {"n_group": 4}, "'n_group' is 4"),
    ],
)
def test_refusals(published, changes, said):
    with pytest.raises(FirstTokenError, match=said):
        describe({**published, **changes})


@pytest.mark.parametrize(
    "target", ["litertlm-cpu", "litertlm-cpu-fixed", "tflite-interpreter", "tflite-hexagon-sm8650", "executorch-hexagon-sm8550"]
)
def test_backends_without_it_refuse_by_its_name(target):
    wanted = load_target(target)
    with pytest.raises(FirstTokenError, match=r"cannot give experts chosen per token, which qwen3_moe needs \(layers.0.mlp.router\)"):
        backend_of(wanted).check_model(describe(QWEN3_30B_A3B), wanted)


def test_a_student_cannot_be_cut_out_of_it():
    with pytest.raises(FirstTokenError, match="layer 0 of a qwen3_moe decoder has experts"):
        check_cuttable(describe(QWEN3_30B_A3B))


@pytest.fixture
def stored(tmp_path):
    folder = save(random_model("qwen3_moe"), tmp_path / "checkpoint")
    return folder, load_file(folder / "model.safetensors")


@pytest.mark.parametrize("beside, which", [(False, "gate"), (True, "down")])
@pytest.mark.parametrize("start, stop", [(0, None), (0, 0), (5, 11), (15, 17), (16, 32), (3, 64), (63, 64)])
def test_rows_of_a_stack(beside, which, start, stop, stored):
    folder, kept = stored
    name = f"model.layers.1.mlp.experts.{{}}.{which}_proj.weight"
    whole = torch.cat([kept[name.replace("{}", str(n))] for n in range(6)], int(beside)).numpy()
    stack = Stack(name, count=6, beside=beside, scale=2.0)
    with Checkpoint(folder) as checkpoint:
        assert np.array_equal(checkpoint.rows(stack, start, stop), 2 * whole[start:stop])
        with pytest.raises(FirstTokenError, match="rows 0 to 500 were asked for"):
            checkpoint.rows(stack, 0, 500)


def test_a_stack_is_read_in_bounded_memory(tmp_path):
    save_file({f"e.{n}.w": torch.ones(1024, 256) for n in range(16)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    with Checkpoint(tmp_path) as checkpoint:
        for beside, total in ((False, 16384), (True, 1024)):
            stack, step = Stack("e.{}.w", count=16, beside=beside), total // 64
            tracemalloc.start()
            for start in range(0, total, step):
                checkpoint.rows(stack, start, start + step)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 5 * (16 << 20) // 64  # of 16 MiB, a few times what was asked for


def test_experts_that_are_missing_left_over_or_of_another_shape(stored):
    folder, kept = stored
    last, extra = (f"model.layers.3.mlp.experts.{n}.down_proj.weight" for n in (5, 6))
    for changed, said in (
        ({name: tensor for name, tensor in kept.items() if name != last}, f"tensor '{last}' is missing"),
        ({**kept, extra: kept[last].clone()}, f"tensor '{extra}' has no place in a qwen3_moe decoder"),
        ({**kept, last: kept[last][:, :8].clone()}, rf"tensor '{last}' has shape \[64, 8\], but config.json says \[64, 16\]"),
    ):
        save_file(changed, folder / "model.safetensors")
        with Checkpoint(folder) as checkpoint, pytest.raises(FirstTokenError, match=said):
            open_decoder(checkpoint)


def test_an_adapter_of_one_expert_is_merged(stored, tmp_path):
    folder, _ = stored
    place = tmp_path / "adapter"
    place.mkdir()
    (place / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["down_proj"]}))
    name = "model.layers.1.mlp.experts.2.down_proj"
    a, b = torch.randn(2, 16), torch.randn(64, 2)
    save_file(
        {f"base_model.model.{name}.lora_A.weight": a, f"base_model.model.{name}.lora_B.weight": b}, place / "adapter_model.safetensors"
    )
    stack = Stack("model.layers.1.mlp.experts.{}.down_proj.weight", count=6, beside=True)
    with open_checkpoint(folder, place) as merged, Checkpoint(folder) as base:
        open_decoder(merged)
        change = merged.rows(stack) - base.rows(stack)
    assert np.allclose(change[:, 32:48], (b @ a).numpy(), atol=1e-5) and not change[:, :32].any() and not change[:, 48:].any()


def test_an_adapter_of_all_experts_together_is_refused(stored, tmp_path):
    """As PEFT saves one of the parameters that transformers makes of the checkpoint's tensors."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(stored[0], dtype=torch.float32)
    config = LoraConfig(r=2, lora_alpha=2, task_type="CAUSAL_LM", target_modules=[], target_parameters=["mlp.experts.down_proj"])
    get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(FirstTokenError, match="target_parameters"):
        open_checkpoint(stored[0], tmp_path / "adapter")


def test_training_for_quantization_refuses_them(stored):
    from firsttoken.backends.registry import find_backend, resolve
    from firsttoken.distill import qat
    from firsttoken.quant.plan import load_plan

    decoder, plan = describe(configuration("qwen3_moe")), load_plan("int8")
    precisions = resolve(plan, decoder, load_target("tflite-xnnpack", cache_length=64))
    with pytest.raises(FirstTokenError, match=r"does not know experts.*layers.1.mlp.gate"):
        qat.prepare(random_model("qwen3_moe"), plan_layers(decoder), precisions, plan, find_backend("tflite-xnnpack"))


@pytest.mark.parametrize("case", WITH_EXPERTS)
def test_no_choice_of_the_cases_hangs_on_rounding(case):
    """The tests of every family compare with transformers within 1e-4: no token of theirs may be so near to another expert that FP32's
    rounding, a few 1e-7 of a score, decides."""
    model, margins = random_model(case), []

    def hook(module, given, result):
        scores = result[0].softmax(-1) if case.startswith("qwen3") else result[0].sigmoid()
        if len(given) > 1 and given[1] is not None:
            scores = scores + given[1]
        ranked = scores.sort(-1, descending=True).values
        margins.append((ranked[:, module.top_k - 1] - ranked[:, module.top_k]).min().item())

    for layer in model.model.layers:
        block = getattr(layer, "mlp", None) or layer.feed_forward
        if hasattr(block, "experts"):
            block.gate.register_forward_hook(hook)
    model(torch.from_numpy(np.random.default_rng(3).integers(0, 131, 176))[None])
    assert len(margins) >= 4 and min(margins) > 1e-5


@pytest.mark.parametrize(
    "case, changes",
    [
        ("qwen3_moe", {"chosen": 3}), ("qwen3_moe", {"divided": False}), ("qwen3_moe", {"scores": "sigmoid"}),
        ("qwen3_moe-softmax", {"divided": True}), ("lfm2_moe", {"bias": None}), ("lfm2_moe", {"factor": 1.0}),
        ("lfm2_moe", {"scores": "softmax"}), ("lfm2_moe", {"divided": False}), ("lfm2_moe-unbiased", {"divided": True}),
    ],
)  # fmt: skip
def test_a_part_of_the_choice_that_is_another_is_seen(case, changes, tmp_path):
    """Every switch of the router counts in its cases: with another value the logits are far from transformers'."""
    model = random_model(case)
    with Checkpoint(save(model, tmp_path)) as checkpoint:
        decoder = open_decoder(checkpoint)
        layers = tuple(
            replace(block, mlp=replace(block.mlp, router=replace(block.mlp.router, **changes))) if block.mlp.router else block
            for block in decoder.layers
        )
        window = np.random.default_rng(0).integers(0, 131, 40)
        [found] = reference_logits(checkpoint, replace(decoder, layers=layers), [window], [np.arange(40)])
    assert np.abs(found - model(torch.from_numpy(window)[None]).logits[0].numpy()).max() > 0.1
