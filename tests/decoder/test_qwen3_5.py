"""Qwen3.5's configuration: as it is published, what of it is refused, and who refuses the model."""

import numpy as np
import pytest
import torch
from families_on_disk import configuration, random_model, save
from safetensors.torch import load_file, save_file

from firsttoken.backends.recurrence import with_short_calls
from firsttoken.backends.registry import backend_of
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.families import describe
from firsttoken.decoder.text_part import text_configuration
from firsttoken.decoder.walk import convolution_states, leaves, open_decoder, plan_layers, recurrent_states, states
from firsttoken.distill.cut_sizes import check_cuttable
from firsttoken.errors import FirstTokenError
from firsttoken.targets.target import load_target

KINDS = ["linear_attention", "linear_attention", "linear_attention", "full_attention"] * 6
# In the form of Qwen's own configurations of a dense model, with the smallest one's sizes.
TEXT = {
    "attention_bias": False, "attention_dropout": 0.0, "attn_output_gate": True, "dtype": "bfloat16", "eos_token_id": 248044,
    "full_attention_interval": 4, "head_dim": 256, "hidden_act": "silu", "hidden_size": 1024, "initializer_range": 0.02,
    "intermediate_size": 3584, "layer_types": KINDS, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_num_key_heads": 16,
    "linear_num_value_heads": 16, "linear_value_head_dim": 128, "mamba_ssm_dtype": "float32", "max_position_embeddings": 262144,
    "mlp_only_layers": [], "model_type": "qwen3_5_text", "mtp_num_hidden_layers": 1, "mtp_use_dedicated_embeddings": False,
    "num_attention_heads": 8, "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "tie_word_embeddings": True,
    "use_cache": True, "vocab_size": 248320,
    "rope_parameters": {
        "mrope_interleaved": True, "mrope_section": [11, 11, 10], "rope_type": "default", "rope_theta": 10000000, "partial_rotary_factor": 0.25,
    },
}  # fmt: skip
WHOLE = {"architectures": ["Qwen3_5ForConditionalGeneration"], "model_type": "qwen3_5", "text_config": TEXT, "tie_word_embeddings": True}


def test_a_configuration_as_it_is_published():
    decoder = describe(text_configuration(WHOLE))
    assert [n for n, block in enumerate(decoder.layers) if block.attention] == [3, 7, 11, 15, 19, 23]
    rope = decoder.layers[3].attention.rotation
    assert rope.inverse_frequencies[1] == pytest.approx(1e7 ** (-2 / 64)) and rope.inverse_frequencies[32:] == (0.0,) * 96
    assert decoder.tied_head and decoder.max_positions == 262144
    without = {key: value for key, value in TEXT.items() if key != "layer_types"}
    assert describe(without) == decoder
    assert [block.attention is None for block in describe({**without, "full_attention_interval": 2}).layers] == [True, False] * 12


def test_names_states_and_plan_layers():
    decoder = describe(configuration("qwen3_5"))
    names = [name.removeprefix("layers.0.delta.") for name, _ in leaves(decoder) if name.startswith("layers.0.delta.")]
    assert names == ["mixed", "kernel", "q_norm", "k_norm", "strength", "forgetting", "rule", "norm", "gate", "output"]
    names = [layer.name for layer in plan_layers(decoder) if layer.name.startswith("layers.1.attention")]
    assert [name.rpartition(".")[2] for name in names] == ["q", "k", "v", "gate", "core", "output"]  # as they are computed
    assert not any(layer.name.endswith(("kernel", "rule")) for layer in plan_layers(decoder))
    assert [state.layer for state in states(decoder)] == [1, 3, 5, 7]
    assert [state.layer for state in convolution_states(decoder)] == [state.layer for state in recurrent_states(decoder)] == [0, 2, 4, 6]
    assert {(state.heads, state.key_dim, state.value_dim) for state in recurrent_states(decoder)} == {(4, 8, 8)}


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"layer_types": ["linear_attention", "mamba"] * 12}, "layer_types is .*mamba.*for each of the 24 layers"),
        ({"layer_types": ["full_attention"]}, "for each of the 24 layers of num_hidden_layers"),
        ({"layer_types": ["linear_attention"] * 24}, "no layer has attention"),
        ({"attn_output_gate": False}, "attn_output_gate is False; expected True"),
        ({"mamba_ssm_dtype": "bfloat16"}, "mamba_ssm_dtype is 'bfloat16'; expected 'float32'"),
        ({"hidden_act": "gelu_pytorch_tanh"}, "hidden_act is 'gelu_pytorch_tanh'; expected 'silu'"),
        ({"linear_num_value_heads": 24}, "linear_num_value_heads 24 is not a multiple of linear_num_key_heads 16"),
        ({"linear_conv_kernel_dim": 1}, "linear_conv_kernel_dim is 1; expected at least 2"),
        ({"linear_key_head_dim": 0}, "linear_key_head_dim is 0"),
        ({"num_experts": 8}, "'num_experts' is 8"),
        ({"mlp_only_layers": [3]}, "'mlp_only_layers' is"),
        ({"model_type": "qwen3_5_moe_text"}, "model_type 'qwen3_5_moe_text' is not supported"),
        ({"model_type": "qwen3_next"}, "model_type 'qwen3_next' is not supported"),
    ],
)
def test_refusals(changes, said):
    with pytest.raises(FirstTokenError, match=said):
        describe({**TEXT, **changes})


@pytest.mark.parametrize(
    "target", ["litertlm-cpu", "litertlm-cpu-fixed", "tflite-interpreter", "tflite-hexagon-sm8650", "executorch-hexagon-sm8550"]
)
def test_backends_without_it_refuse_by_its_name(target):
    wanted = load_target(target)
    with pytest.raises(FirstTokenError, match=r"cannot give gated delta nets, which qwen3_5_text needs \(layers.0.delta\)"):
        backend_of(wanted).check_model(describe(TEXT), wanted)
    attentive = {**TEXT, "layer_types": ["full_attention"] * 24}
    with pytest.raises(
        FirstTokenError, match=r"cannot give a gate on what attention gives, which qwen3_5_text needs \(layers.0.attention\)"
    ):
        backend_of(wanted).check_model(describe(attentive), wanted)


def test_a_student_cannot_be_cut_out_of_it():
    with pytest.raises(FirstTokenError, match="layer 0 of a qwen3_5_text decoder has a gated delta net in attention's place"):
        check_cuttable(describe(TEXT))
    with pytest.raises(FirstTokenError, match="layer 0 of a qwen3_5_text decoder has"):
        check_cuttable(describe({**TEXT, "layer_types": ["full_attention"] * 24}))


def test_calls_are_short_where_a_layer_has_a_delta_rule_alone():
    target = load_target("tflite-xnnpack", cache_length=512)
    assert target.prefill_chunk > 64
    assert with_short_calls(target, describe(TEXT)).prefill_chunk == 64
    assert with_short_calls(target, describe({**TEXT, "layer_types": ["full_attention"] * 24})) == target
    shorter = load_target("tflite-xnnpack", cache_length=512, prefill_chunk=32)
    assert with_short_calls(shorter, describe(TEXT)) == shorter


def test_queries_and_gates_alternate_in_one_matrix(tmp_path):
    """Any rows of a source that takes a part of every period are those of the whole; a matrix that ends early is refused."""
    model = random_model("qwen3_5-ends-recurrent")
    save(model, tmp_path)
    with Checkpoint(tmp_path) as checkpoint:
        attention = open_decoder(checkpoint).layers[0].attention
        stored = model.model.layers[0].self_attn.q_proj.weight.view(4, 2, 16, 64)
        assert np.array_equal(checkpoint.matrix(attention.gate.weight), stored[:, 1].reshape(64, 64))
        whole = checkpoint.matrix(attention.q.weight)
        assert not np.array_equal(whole, stored[:, 0].reshape(64, 64)) and np.array_equal(
            np.sort(whole, 0), np.sort(stored[:, 0].reshape(64, 64), 0)
        )
        for source in (attention.q.weight, attention.gate.weight):
            whole = checkpoint.matrix(source)
            for start, stop in ((0, 1), (5, 40), (15, 17), (63, 64), (16, 32)):
                assert np.array_equal(checkpoint.rows(source, start, stop), whole[start:stop])
        assert checkpoint.vector(attention.gate.bias).shape == (64,)
    tensors = load_file(tmp_path / "model.safetensors")
    for rows in (96, 160):
        wrong = {**tensors, "model.layers.0.self_attn.q_proj.weight": torch.zeros(rows, 64)}
        save_file(wrong, tmp_path / "model.safetensors")
        with (
            Checkpoint(tmp_path) as checkpoint,
            pytest.raises(FirstTokenError, match=rf"q_proj.weight' has shape \[{rows}, 64\], but .* \[128, 64\]"),
        ):
            open_decoder(checkpoint)


def test_layers_that_predict_a_second_token_are_left_out_and_nothing_else(tmp_path):
    save(random_model("qwen3_5-ends-recurrent"), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, "mtp.layers.0.mlp.up_proj.weight": torch.zeros(4, 4)}, tmp_path / "model.safetensors")
    with Checkpoint(tmp_path) as checkpoint:
        assert len(open_decoder(checkpoint).layers) == 8
    save_file({**tensors, "model.layers.0.linear_attn.more": torch.zeros(4, 4)}, tmp_path / "model.safetensors")
    with Checkpoint(tmp_path) as checkpoint, pytest.raises(FirstTokenError, match="linear_attn.more' has no place"):
        open_decoder(checkpoint)
