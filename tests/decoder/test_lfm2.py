"""LFM2's configuration: the names that its own checkpoints use, the width of its MLP, and what is refused."""

import pytest
from families_on_disk import configuration

from firsttoken.backends.registry import backend_of
from firsttoken.decoder.families import describe
from firsttoken.decoder.walk import convolution_states, leaves, plan_layers, states, within
from firsttoken.distill.cut_sizes import check_cuttable
from firsttoken.errors import FirstTokenError
from firsttoken.targets.target import load_target

# As LiquidAI writes it (LFM2-350M), with other sizes where they do not matter here.
AS_PUBLISHED = {
    "architectures": ["Lfm2ForCausalLM"], "block_auto_adjust_ff_dim": True, "block_dim": 1024, "block_ff_dim": 6656,
    "block_ffn_dim_multiplier": 1.0, "block_mlp_init_scale": 1.0, "block_multiple_of": 256, "block_norm_eps": 1e-05,
    "block_out_init_scale": 1.0, "block_use_swiglu": True, "block_use_xavier_init": True, "bos_token_id": 1, "conv_L_cache": 3,
    "conv_bias": False, "conv_dim": 1024, "conv_dim_out": 1024, "conv_use_xavier_init": True, "eos_token_id": 7,
    "full_attn_idxs": [2, 5, 8, 10, 12, 14], "hidden_size": 1024, "initializer_range": 0.02, "max_position_embeddings": 128000,
    "model_type": "lfm2", "norm_eps": 1e-05, "num_attention_heads": 16, "num_heads": 16, "num_hidden_layers": 16,
    "num_key_value_heads": 8, "pad_token_id": 0, "rope_theta": 1000000.0, "theta": 1000000.0, "tie_embedding": True,
    "torch_dtype": "bfloat16", "use_cache": True, "use_pos_enc": True, "vocab_size": 65536,
}  # fmt: skip


def test_a_configuration_as_it_is_published():
    decoder = describe(AS_PUBLISHED)
    assert [n for n, block in enumerate(decoder.layers) if block.attention] == [2, 5, 8, 10, 12, 14]
    assert {block.mlp.up.rows for block in decoder.layers} == {4608}  # two thirds of 6656, up to a multiple of 256
    assert decoder.tied_head and decoder.max_positions == 128000
    rope = decoder.layers[2].attention.rotation
    assert rope.inverse_frequencies[1] == pytest.approx(1e6 ** (-2 / 64))


@pytest.mark.parametrize(
    "changes, width",
    [
        ({}, 4608),
        ({"block_ffn_dim_multiplier": 1.3}, 5888),
        ({"block_auto_adjust_ff_dim": False}, 6656),
        ({"block_ff_dim": None, "intermediate_size": 6000, "block_multiple_of": 32}, 4000),
        ({"intermediate_size": 6000}, 4608),
    ],
)
def test_the_mlp_is_as_wide_as_in_transformers(changes, width):
    from transformers import Lfm2Config
    from transformers.models.lfm2.modeling_lfm2 import Lfm2MLP

    values = {key: value for key, value in {**AS_PUBLISHED, **changes}.items() if key != "block_ff_dim" or value is not None}
    assert Lfm2MLP(Lfm2Config(**values)).w1.out_features == width
    assert describe(values).layers[0].mlp.up.rows == width


def test_without_a_factor_the_mlp_is_not_rounded():
    """So the model's code has it; transformers' configuration takes no null there any more."""
    assert describe({**AS_PUBLISHED, "block_ffn_dim_multiplier": None}).layers[0].mlp.up.rows == 4437


def test_names_states_and_plan_layers():
    decoder = describe(configuration("lfm2"))
    names = [name.removeprefix("layers.0.") for name, _ in leaves(decoder) if name.startswith("layers.0.")]
    gates = ["convolution.in_gate", "convolution.out_gate", "convolution.value"]
    assert names == ["attention_norm", *gates, "convolution.kernel", "convolution.output", "mlp_norm", "mlp.gate", "mlp.up", "mlp.down"]
    assert not any("kernel" in layer.name for layer in plan_layers(decoder))
    assert [state.layer for state in states(decoder)] == [1, 3, 5, 7]
    remembered = convolution_states(decoder)
    assert [state.layer for state in remembered] == [0, 2, 4, 6, 8]
    assert {(state.rows, state.channels) for state in remembered} == {(2, 64)}
    assert within(decoder, 64) == decoder  # it has no windows to leave out


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"layer_types": ["conv", "mamba"] * 8}, "layer_types is .*mamba.*for each of the 16 layers"),
        ({"layer_types": ["conv", "full_attention"]}, "for each of the 16 layers of num_hidden_layers"),
        ({"layer_types": ["conv"] * 16}, "no layer has attention"),
        ({"full_attn_idxs": "all"}, "full_attn_idxs is 'all'; expected a list"),
        ({"conv_L_cache": 1}, "conv_L_cache is 1; expected at least 2"),
        ({"conv_L_cache": 0}, "conv_L_cache is 0"),
        ({"conv_stride": 2}, "'conv_stride' is 2"),
        ({"model_type": "lfm2_moe"}, "architectures says 'Lfm2ForCausalLM', which is another model"),
    ],
)
def test_refusals(changes, said):
    with pytest.raises(FirstTokenError, match=said):
        describe({**AS_PUBLISHED, **changes})


@pytest.mark.parametrize(
    "target", ["litertlm-cpu", "litertlm-cpu-fixed", "tflite-interpreter", "tflite-hexagon-sm8650", "executorch-hexagon-sm8550"]
)
def test_backends_without_it_refuse_by_its_name(target):
    wanted = load_target(target)
    with pytest.raises(FirstTokenError, match=r"cannot give short convolutions, which lfm2 needs \(layers.0.convolution\)"):
        backend_of(wanted).check_model(describe(AS_PUBLISHED), wanted)


def test_a_student_cannot_be_cut_out_of_it():
    with pytest.raises(FirstTokenError, match="layer 0 of a lfm2 decoder has a convolution in attention's place"):
        check_cuttable(describe(AS_PUBLISHED))
