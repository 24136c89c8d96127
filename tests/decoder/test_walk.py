"""What is derived from a decoder's tree, and configuration keys that no one read."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from exact_checkpoints import CASES, SIZES, write_case
from families_on_disk import ONE_OF_EACH, configuration, random_model, save
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.families import describe
from firsttoken.decoder.features import features
from firsttoken.decoder.parts import Core, Linear
from firsttoken.decoder.walk import Named, leaves, open_decoder, parameter_count, plan_layers, rotations, states, tensors
from firsttoken.errors import FirstTokenError
from firsttoken.prove.reference import reference_logits
from firsttoken.weight_source import Source


def described(case: str, **changes):
    return describe({**SIZES, **CASES[case], **changes})


@pytest.mark.parametrize("case", CASES)
def test_every_tensor_of_the_checkpoint_has_its_place(case, tmp_path):
    checkpoint = Checkpoint(write_case(case, tmp_path))
    decoder = open_decoder(checkpoint)
    assert {source.name for source, _ in tensors(decoder)} == set(checkpoint.tensors)
    biases = sum(np.prod(tensor.shape) for name, tensor in checkpoint.tensors.items() if name.endswith(".bias"))
    assert parameter_count(decoder) == sum(np.prod(tensor.shape) for tensor in checkpoint.tensors.values()) - biases


def test_names_are_the_trees_paths_in_the_order_of_computation():
    decoder = described("qwen3")
    names = [name for name, _ in leaves(decoder)]
    layer = ["attention_norm", "attention.q", "attention.k", "attention.v", "attention.core", "attention.output", "attention.q_norm"]
    layer += ["attention.k_norm", "mlp_norm", "mlp.gate", "mlp.up", "mlp.down"]
    assert names == ["embedding", *(f"layers.{n}.{name}" for n in range(2) for name in layer), "norm", "head"]
    assert [layer.name for layer in plan_layers(decoder)] == [name for name in names if "norm" not in name]
    for name, part in leaves(decoder):
        found = Named(decoder)
        for step in name.split("."):
            found = found[int(step)] if isinstance(found, list) else getattr(found, step)
        assert (found.name, found.part) == (name, part)


def test_states_and_rotations():
    decoder = described("mistral", sliding_window=64, layer_types=["full_attention", "sliding_attention"])
    assert [(state.layer, state.name, state.kv_heads, state.head_dim, state.window) for state in states(decoder)] == [
        (0, "layers.0.attention.core", 2, 32, None),
        (1, "layers.1.attention.core", 2, 32, 64),
    ]
    [(rope, layers)] = rotations(decoder).items()
    assert layers == [0, 1] and len(rope.inverse_frequencies) == 16
    other = replace(decoder.layers[1], attention=replace(decoder.layers[1].attention, rotation=replace(rope, factor=2.0)))
    assert list(rotations(replace(decoder, layers=(decoder.layers[0], other))).values()) == [[0], [1]]


def test_features_are_named_with_the_first_part_that_needs_them():
    assert "norms of query and key heads" not in features(described("qwen2"))
    assert features(described("qwen3"))["norms of query and key heads"] == "layers.0.attention"
    windowed = described("mistral", sliding_window=64, layer_types=["full_attention", "sliding_attention"])
    assert features(windowed)["a sliding window of attention"] == "layers.1.attention.core"


@pytest.mark.parametrize("case", ONE_OF_EACH)
@pytest.mark.parametrize("key, value", [("mlp_logit_cap", 50.0), ("rope_interleaved", True), ("experts_per_layer", 8)])
def test_a_key_that_no_one_read_is_an_error_that_names_it(case, key, value):
    values = configuration(case)
    family = values["model_type"]
    with pytest.raises(FirstTokenError, match=rf"'{key}' is {value}, which firsttoken's {family} decoder does not know.*remove the key"):
        describe({**values, key: value})
    describe({**values, key: False, "torch_dtype": "bfloat16", "_name_or_path": "somewhere", "unsloth_version": "1"})  # these say nothing


def test_keys_are_spelled_out_and_counted():
    with pytest.raises(FirstTokenError) as error:
        described("qwen2", **{"a\x1b[31m": 1, "b": 2, "c": 3, "d": 4, "e": 5})
    assert "\x1b" not in str(error.value) and "(and 4 more: b, c, d, …)" in str(error.value)


def test_a_rope_parameter_of_another_kind_is_an_error():
    with pytest.raises(FirstTokenError, match="rope parameter 'mrope_section' is not one of the kind 'default'"):
        described("llama", rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 2]})


def test_layer_types_of_another_length_are_refused():
    with pytest.raises(FirstTokenError, match="layer_types names 1 layers; expected 2"):
        described("mistral", sliding_window=64, layer_types=["sliding_attention"])


@pytest.fixture
def stored(tmp_path):
    """A checkpoint, and one of its matrices as it is stored, float32."""
    checkpoint = Checkpoint(write_case("qwen2", tmp_path))
    return checkpoint, checkpoint.matrix("model.layers.0.mlp.gate_proj.weight")


@pytest.mark.parametrize("start, stop", [(0, None), (3, 7), (5, 21), (31, 32)])
def test_a_source_takes_rows_in_its_order(stored, start, stop):
    checkpoint, whole = stored
    order = (2, 0, 3, 1)
    source = Source("model.layers.0.mlp.gate_proj.weight", rows=(16, 48), order=order, add=1.0, scale=0.5)
    rows = whole[16:48].reshape(8, 4, -1)[:, list(order)].reshape(32, -1) * np.float32(0.5) + np.float32(1)
    assert np.array_equal(checkpoint.rows(source, start, stop), rows[start:stop])


def test_rows_that_are_not_there_are_refused(stored):
    with pytest.raises(FirstTokenError, match="has 96 rows; rows 90 to 100 were asked for"):
        stored[0].rows("model.layers.0.mlp.gate_proj.weight", 90, 100)


def test_rows_that_no_part_takes_are_not_dropped_silently(tmp_path, monkeypatch):
    """A fused matrix of which a family forgot a part."""
    from firsttoken.decoder import walk

    checkpoint = Checkpoint(write_case("qwen2", tmp_path))
    decoder = open_decoder(checkpoint)
    up = decoder.layers[0].mlp.up
    short = Linear(replace(up.weight, rows=(0, 64)), 64, up.columns)
    broken = replace(decoder.layers[0], mlp=replace(decoder.layers[0].mlp, up=short))
    monkeypatch.setattr(walk, "describe", lambda config: replace(decoder, layers=(broken, *decoder.layers[1:])))
    with pytest.raises(FirstTokenError, match=r"'model.layers.0.mlp.up_proj.weight' has no place"):
        open_decoder(checkpoint)


def test_core_sizes():
    core = next(part for _, part in leaves(described("qwen2")) if isinstance(part, Core))
    assert (core.group, core.query_size, core.scale) == (2, 64, 0.25)


@pytest.mark.parametrize("saved", ["other", "same", "shape"])
def test_a_head_saved_beside_a_tied_embedding_is_read_as_transformers_reads_it(tmp_path, saved):
    model = random_model("smollm")
    save(model, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    embedding = tensors["model.embed_tokens.weight"]
    head = {"other": torch.randn_like(embedding) * 0.1, "same": embedding.clone(), "shape": embedding[:-1].clone()}[saved]
    save_file({**tensors, "lm_head.weight": head}, tmp_path / "model.safetensors", {"format": "pt"})
    checkpoint = Checkpoint(tmp_path)
    if saved == "shape":
        with pytest.raises(FirstTokenError, match="'lm_head.weight' has shape"):
            open_decoder(checkpoint)
        return
    decoder = open_decoder(checkpoint)
    assert decoder.tied_head == (saved == "same") and len(checkpoint.remarks) == (saved == "other")
    tokens = np.arange(20, dtype=np.int32)
    [ours] = reference_logits(checkpoint, decoder, [tokens], [tokens])
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)(torch.from_numpy(tokens)[None].long()).logits[0]
    assert np.abs(ours - theirs.detach().numpy()).max() < 1e-4
