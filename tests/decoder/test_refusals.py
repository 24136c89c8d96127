"""What is not supported is refused by name, before any weight is read."""

import json

import pytest
from families_on_disk import random_model, save
from safetensors.torch import load_file, save_file

from firsttoken.backends.registry import backend_of
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.families import check_architecture, describe, family_names
from firsttoken.decoder.features import SLIDING_WINDOW
from firsttoken.decoder.walk import open_decoder, states, within
from firsttoken.errors import FirstTokenError
from firsttoken.targets.target import load_target

SMALL = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 96, "vocab_size": 131, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "hidden_act": "silu",
}  # fmt: skip
KINDS = "expected one of default, linear, llama3, yarn, longrope, dynamic"
LLAMA3 = {"rope_type": "llama3", "factor": 8}
MIXED_KINDS = ["full_attention", "sliding_attention"]
LONGROPE = {"rope_type": "longrope", "original_max_position_embeddings": 64, "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"model_type": "mamba2"}, "model_type 'mamba2' is not supported"),
        ({"model_type": "qwen2_moe"}, "model_type 'qwen2_moe' is not supported; expected one of"),
        ({"model_type": "gpt_oss"}, "model_type 'gpt_oss' is not supported"),
        ({"architectures": ["SmolLM3ForCausalLM"]}, "model_type is 'llama', but architectures says 'SmolLM3ForCausalLM'"),
        ({"architectures": ["GraniteForCausalLM"]}, "model_type is 'llama', but architectures says 'GraniteForCausalLM'"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "another model or another task"),
        ({"architectures": "Qwen2ForCausalLM"}, "architectures says 'Qwen2ForCausalLM'"),
        ({"architectures": {"a": 1}}, "expected a list of class names"),
        ({"architectures": [3]}, "expected a list of class names"),
        ({"no_rope_layers": [1, 1, 1, 0]}, "'no_rope_layers' is [1, 1, 1, 0]"),
        ({"no_rope_layer_interval": 4}, "'no_rope_layer_interval'"),
        ({"residual_multiplier": 0.22}, "'residual_multiplier' is 0.22"),
        ({"attention_multiplier": 0.0625}, "'attention_multiplier'"),
        ({"embedding_multiplier": 12.0}, "'embedding_multiplier'"),
        ({"logits_scaling": 8.0}, "'logits_scaling'"),
        ({"final_logit_softcapping": 30.0}, "'final_logit_softcapping'"),
        ({"attn_logit_softcapping": 50.0}, "'attn_logit_softcapping'"),
        ({"query_pre_attn_scalar": 24}, "'query_pre_attn_scalar'"),
        ({"use_qk_norm": True}, "'use_qk_norm'"),
        ({"scale_emb": 12}, "'scale_emb'"),
        ({"llama_4_scaling_beta": 0.1}, "'llama_4_scaling_beta'"),
        ({"rope_parameters": {**YARN, "llama_4_scaling_beta": 0.1}}, "'llama_4_scaling_beta' is not one of the kind 'yarn'"),
        ({"rope_parameters": {"rope_type": "default", "alpha": 1000.0}}, "'alpha' is not one of the kind 'default'"),
        ({"text_config": {"final_logit_softcapping": 30.0}}, "'text_config'"),
        ({"model_type": None}, "model_type None is not supported"),
        ({"model_type": ["llama"]}, "is not supported"),
        ({"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "modeling.Mine"}}, "code from the model's author"),
        ({"quantization_config": {"quant_method": "gptq"}}, "already quantized"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"pretraining_tp": 2}, "pretraining_tp"),
        ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}}, "'original_max_position_embeddings' is None"),
        ({"rope_scaling": {**LONGROPE, "short_factor": [1.0]}}, "'short_factor' is [1.0]; expected a list of 8 numbers"),
        ({"rope_scaling": {**LONGROPE, "long_factor": "far"}}, "'long_factor' is 'far'; expected a list of 8 numbers"),
        ({"rope_parameters": {"rope_type": "proportional"}}, f"'proportional' is not supported; {KINDS}"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "'full_attention' layers are not supported"),
        ({"rope_scaling": "linear"}, "rope_scaling is 'linear'; expected an object"),
        ({"rope_parameters": {"partial_rotary_factor": 1.5}}, "partial_rotary_factor 1.5"),
        ({"partial_rotary_factor": 0.07}, "partial_rotary_factor 0.07"),
        ({"model_type": "granitemoehybrid", "layer_types": ["mamba", "attention"]}, "state-space layers are not supported"),
        ({"model_type": "granitemoehybrid", "layer_types": ["attention"] * 2, "num_local_experts": 4}, "layers of experts are not supported"),
        ({"model_type": "llama4_text", "moe_layers": [1], "rope_theta": 5e5}, "layers of experts are not supported"),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, "an encoder"),
        ({"model_type": "smollm3", "no_rope_layers": [1, 0, 1]}, "expected a list of 2 whole numbers"),
        ({"model_type": "gemma2", "attn_logit_softcapping": -3}, "attn_logit_softcapping is -3; expected a number above 0"),
        ({"rope_theta": "big"}, "'rope_theta' is 'big'"),
        ({"rope_theta": 0}, "rope_theta 0.0 is absurd"),
        ({"rope_scaling": {"rope_type": "linear"}}, "'factor' is None"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0.5}}, "'factor' is 0.5; expected a number of at least 1"),
        ({"rope_scaling": {**LLAMA3, "low_freq_factor": 4, "high_freq_factor": 1}}, "low_freq_factor < high_freq_factor"),
        ({"rope_scaling": {**YARN, "attention_factor": "x"}}, "'attention_factor' is 'x'"),
        ({"rope_scaling": {**YARN, "mscale": [1]}}, "'mscale' is [1]"),
        ({"num_attention_heads": 5, "num_key_value_heads": 5}, "hidden_size 64 is not a multiple of num_attention_heads 5"),
        ({"num_attention_heads": 5, "num_key_value_heads": 5, "head_dim": None}, "not a multiple"),
        ({"num_key_value_heads": 3}, "not a multiple of num_key_value_heads 3"),
        ({"head_dim": 15}, "head_dim 15 is odd"),
        ({"hidden_size": 2, "num_attention_heads": 4}, "not a multiple of num_attention_heads"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"vocab_size": "131"}, "vocab_size is '131'"),
        ({"vocab_size": True}, "vocab_size is True"),
        ({"intermediate_size": None}, "intermediate_size is None"),
        ({"rms_norm_eps": 0}, "rms_norm_eps is 0"),
        ({"model_type": "mistral", "sliding_window": -1}, "sliding_window is -1"),
        ({"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": "all"}, "max_window_layers is 'all'"),
    ],
)  # fmt: skip
def test_configuration_is_refused(changes, said):
    with pytest.raises(FirstTokenError) as refused:
        describe({**SMALL, **changes})
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes, window",
    [
        ({"model_type": "mistral", "sliding_window": 128}, 128),
        ({"model_type": "mistral"}, 4096),  # what transformers takes where the key is absent
        ({"model_type": "mistral", "sliding_window": None}, None),
        ({"model_type": "qwen2", "sliding_window": 128}, None),
        ({"model_type": "qwen2", "sliding_window": 128, "use_sliding_window": True, "max_window_layers": 1}, 128),
        ({"model_type": "qwen2", "sliding_window": 128, "use_sliding_window": True, "max_window_layers": 2}, None),
        ({"model_type": "qwen3", "sliding_window": 128, "use_sliding_window": True, "layer_types": MIXED_KINDS}, 128),
        ({"model_type": "qwen3", "sliding_window": 128, "use_sliding_window": False, "layer_types": MIXED_KINDS}, None),
    ],
)  # fmt: skip
def test_sliding_window_is_found_where_the_family_uses_it(changes, window):
    decoder = describe({**SMALL, "max_position_embeddings": 8192, **changes})
    assert {state.window for state in states(decoder)} - {None} == {window} - {None}
    kept = {state.window for state in states(within(decoder, 4097))}
    assert kept == {state.window for state in states(decoder)}
    if window is not None:  # no position of so short a cache lies outside of it
        assert {state.window for state in states(within(decoder, window))} == {None}


def test_a_part_that_a_backend_lacks_is_refused_by_its_name(monkeypatch):
    target = load_target("executorch-xnnpack", cache_length=129)
    backend = backend_of(target)
    monkeypatch.setattr(type(backend), "features", backend.features - {SLIDING_WINDOW, "a cap on logits"})
    windowed = describe({**SMALL, "model_type": "mistral", "sliding_window": 128})
    with pytest.raises(FirstTokenError, match=r"cannot give a sliding window of attention, which mistral needs .*--cache-length 128"):
        backend.check_model(windowed, target)
    backend.check_model(windowed, load_target("executorch-xnnpack", cache_length=128))
    capped = describe({**SMALL, "model_type": "gemma2", "sliding_window": 256, "head_dim": 16})
    with pytest.raises(FirstTokenError, match=r"cannot give a cap on logits, which gemma2 needs \(head\)"):
        backend.check_model(capped, target)


def test_a_rotation_that_changes_with_the_length_is_kept_to_where_it_does_not():
    decoder = describe({**SMALL, "model_type": "phi3", "rope_scaling": LONGROPE})
    target = load_target("executorch-xnnpack", cache_length=65)
    with pytest.raises(FirstTokenError, match="longer than the 64 positions"):
        backend_of(target).check_model(decoder, target)


def test_cache_longer_than_the_positions_is_refused():
    target = load_target("executorch-xnnpack", cache_length=257)
    with pytest.raises(FirstTokenError, match="256 positions"):
        backend_of(target).check_model(describe(SMALL), target)


@pytest.fixture
def checkpoint(tmp_path):
    return save(random_model("llama-biases"), tmp_path)


def refused(folder, *said):
    with pytest.raises(FirstTokenError) as error:
        open_decoder(Checkpoint(folder))
    assert all(text in str(error.value) for text in said), error.value


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_bias_the_configuration_does_not_know_is_refused(checkpoint):
    change_config(checkpoint, mlp_bias=False)
    refused(checkpoint, "model.layers.0.mlp.down_proj.bias", "would be dropped silently")


def test_a_missing_bias_is_refused(checkpoint):
    tensors = load_file(checkpoint / "model.safetensors")
    del tensors["model.layers.1.self_attn.q_proj.bias"]
    save_file(tensors, checkpoint / "model.safetensors")
    refused(checkpoint, "'model.layers.1.self_attn.q_proj.bias' is missing")


def test_shapes_that_contradict_the_configuration_are_refused(checkpoint):
    change_config(checkpoint, num_key_value_heads=4)
    refused(checkpoint, "model.layers.0.self_attn.k_proj.weight", "[32, 64]", "[64, 64]")


def test_more_layers_than_the_configuration_says_are_refused(checkpoint):
    change_config(checkpoint, num_hidden_layers=1)
    refused(checkpoint, "model.layers.1.", "has no place")


def test_an_untied_model_without_a_head_is_refused(tmp_path):
    folder = save(random_model("smollm"), tmp_path)
    change_config(folder, tie_word_embeddings=False)
    refused(folder, "'lm_head.weight' is missing")


def test_no_hint_leads_to_another_architecture():
    """A hint was followed: SmolLM3 renamed to llama computes something else without an error."""
    for family in ("smollm4", "llama4", "qwen3_next", "mistral3", "lama"):
        with pytest.raises(FirstTokenError) as refused:
            describe({**SMALL, "model_type": family})
        assert "did you mean" not in str(refused.value)


ITS_AUTHORS = {"minicpm": "MiniCPMForCausalLM"}  # classes that transformers does not have


def test_every_family_is_called_as_transformers_calls_its_class():
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CLASSES

    for family in family_names():
        check_architecture(family, [CLASSES.get(family) or ITS_AUTHORS[family]])
        check_architecture(family, None)
