"""Gemma 4: what its configuration says of its layers, what no one but it has, and what is refused by name."""

import pytest
from families_on_disk import configuration, random_model, save
from safetensors.torch import load_file, save_file

from firsttoken.backends.features import LAYERED
from firsttoken.backends.registry import backend_of
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.families import describe
from firsttoken.decoder.features import features
from firsttoken.decoder.walk import open_decoder, owners, plan_layers, states
from firsttoken.errors import FirstTokenError
from firsttoken.quant.plan import load_plan
from firsttoken.targets.target import load_target


def values(**changes):
    return {**configuration("gemma4"), **changes}


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"enable_moe_block": True, "num_experts": 4}, "enable_moe_block: layers of experts are not supported"),
        ({"use_bidirectional_attention": "all"}, "use_bidirectional_attention 'all': an encoder"),
        ({"vocab_size_per_layer_input": 100}, "vocab_size_per_layer_input 100 is less than vocab_size 131"),
        ({"num_kv_shared_layers": 16}, "num_kv_shared_layers is 16; expected a whole number from 0 to 15"),
        ({"num_kv_shared_layers": 15}, "layer 1 shares keys and values, but no full_attention layer before layer 1"),
        ({"layer_types": ["linear_attention"] * 16}, "expected 16 of 'sliding_attention' and 'full_attention'"),
        ({"per_layer_config": {"1": {"sliding_window": 7}}}, "expected a layer's number with head_dim and num_key_value_heads"),
        ({"per_layer_config": {"1": {"head_dim": 25}}}, "head_dim 25 of layer 1 is odd"),
        ({"per_layer_config": {"15": {"head_dim": 26}}}, "layer 9 takes the keys and values of layer 7|layer 15 takes the keys and values of layer 7"),
        ({"rope_parameters": {"sliding_attention": {"rope_type": "default", "partial_rotary_factor": 0.5}}}, "transformers turns the whole head"),
        ({"rope_parameters": {"full_attention": {"rope_type": "proportional", "beta_fast": 2}}}, "'beta_fast' is not one of the kind 'proportional'"),
        ({"rope_parameters": {"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.01}}}, "partial_rotary_factor 0.01"),
        ({"mtp_layers": 2}, "'mtp_layers' is 2"),
    ],
)  # fmt: skip
def test_refused_by_name(changes, said):
    with pytest.raises(FirstTokenError, match=said):
        describe(values(**changes))


def test_sizes_by_layer_are_the_sizes_by_kind_of_earlier_releases():
    """Google's own config.json says ``global_head_dim``; transformers writes ``per_layer_config`` since."""
    new = values()
    assert "per_layer_config" in new
    old = {key: value for key, value in new.items() if key != "per_layer_config"}
    assert describe({**old, "global_head_dim": 24}) == describe(new)
    assert describe(old).layers[1].attention.core.head_dim == 512
    keys = {"attention_k_eq_v": True, "global_head_dim": 24, "num_global_key_value_heads": 1}
    assert describe({**old, **keys}).layers[1].attention.core.kv_heads == 1
    assert describe({**old, **keys, "attention_k_eq_v": False}).layers[1].attention.core.kv_heads == 2


def test_the_last_layer_sees_all_as_transformers_has_it():
    decoder = describe(values(layer_types=["sliding_attention", "full_attention"] * 7 + ["sliding_attention"] * 2))
    assert [block.attention.core.window for block in decoder.layers[-2:]] == [24, None]
    assert owners(decoder)["layers.15.attention.core"] == "layers.7.attention.core"


def test_layers_that_share_have_no_cache_and_no_keys():
    decoder = describe(values())
    assert [state.layer for state in states(decoder)] == list(range(8))
    assert [state.head_dim for state in states(decoder)] == [16, 24] * 4
    names = [layer.name for layer in plan_layers(decoder)]
    assert "layers.7.attention.k" in names and not [name for name in names if name.startswith("layers.8.") and name[-2:] in (".k", ".v")]
    assert decoder.layers[8].mlp.up.rows == 2 * decoder.layers[7].mlp.up.rows


def test_a_rule_for_the_embedding_takes_the_layers_table():
    layers = plan_layers(describe(values()))
    possible = {"linear": ("int4", "int8"), "embedding": ("int8",), "core": ("fp32",)}
    assert load_plan("int4").resolve(layers, "here", possible)["per_layer.embedding"] == "int8"


def test_weights_that_a_sharing_layer_does_not_use_are_left_out(tmp_path):
    save(random_model("gemma4"), tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    for which in ("k_proj", "v_proj", "k_norm"):
        stored[f"model.layers.9.self_attn.{which}.weight"] = stored[f"model.layers.7.self_attn.{which}.weight"].clone()
    save_file(stored, tmp_path / "model.safetensors")
    with Checkpoint(tmp_path) as checkpoint:
        assert open_decoder(checkpoint).family == "gemma4_text"
    stored["model.layers.9.self_attn.gate.weight"] = stored["model.layers.7.self_attn.k_norm.weight"].clone()
    save_file(stored, tmp_path / "model.safetensors")
    with Checkpoint(tmp_path) as checkpoint, pytest.raises(FirstTokenError, match=r"self_attn\.gate\.weight' has no place"):
        open_decoder(checkpoint)


@pytest.mark.parametrize("missing", ["layer_scalar", "per_layer_projection.weight", "post_per_layer_input_norm.weight"])
def test_a_missing_tensor_is_named(missing, tmp_path):
    save(random_model("gemma4"), tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    del stored[f"model.layers.3.{missing}"]
    save_file(stored, tmp_path / "model.safetensors")
    with Checkpoint(tmp_path) as checkpoint, pytest.raises(FirstTokenError, match=f"layers.3.{missing}' is missing"):
        open_decoder(checkpoint)


@pytest.mark.parametrize("target", ["tflite-hexagon-sm8550", "executorch-hexagon-sm8550"])
@pytest.mark.parametrize("case, part", [("gemma4", "embeddings of every layer"), ("gemma4-31b", "a stored factor on a layer's output")])
def test_backends_without_its_parts_refuse_it(case, part, target):
    target = load_target(target, cache_length=128)
    with pytest.raises(FirstTokenError, match=f"cannot give {part}, which gemma4_text needs"):
        backend_of(target).check_model(describe(configuration(case)), target)


def test_every_part_that_it_alone_has_is_named():
    named = features(describe(values())) | features(describe(configuration("gemma4-31b")))
    assert set(named) >= LAYERED
