"""Gemma 3n: what its configuration says of its layers, what no one but it has, what is refused by name, and that every factor counts."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from families_on_disk import configuration, random_model, save
from safetensors.torch import load_file, save_file

from firsttoken.backends.features import STREAMED
from firsttoken.backends.pytorch.ops import TorchOps
from firsttoken.backends.pytorch.weights import TorchWeights
from firsttoken.backends.registry import backend_of
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder import forward
from firsttoken.decoder.families import describe
from firsttoken.decoder.features import features
from firsttoken.decoder.walk import Named, coefficients, open_decoder, owners, plan_layers, states
from firsttoken.errors import FirstTokenError
from firsttoken.prove.reference import reference_logits
from firsttoken.targets.target import load_target


def values(**changes):
    return {**configuration("gemma3n"), **changes}


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"altup_active_idx": 1}, "altup_active_idx 1 and altup_correct_scale True are not supported"),
        ({"altup_correct_scale": False}, "altup_active_idx 0 and altup_correct_scale False are not supported"),
        ({"altup_num_inputs": 1}, "altup_num_inputs 1: expected two streams or more"),
        ({"altup_num_inputs": 17}, "altup_num_inputs is 17; expected a whole number from 1 to 16"),
        ({"intermediate_size": [96] * 15}, "intermediate_size names 15 layers; expected 16"),
        ({"intermediate_size": [96] * 15 + [0]}, "intermediate_size is 0"),
        ({"activation_sparsity_pattern": [0.5] * 15}, "activation_sparsity_pattern is .*expected 16 numbers from 0 to below 1"),
        ({"activation_sparsity_pattern": [1.0] * 16}, "expected 16 numbers from 0 to below 1"),
        ({"activation_sparsity_pattern": 0.95}, "activation_sparsity_pattern is 0.95"),
        ({"num_kv_shared_layers": 15}, "layer 1 shares keys and values, but no full_attention layer before layer 1"),
        ({"layer_types": ["linear_attention"] * 16}, "expected 16 of 'sliding_attention' and 'full_attention'"),
        ({"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple of the 3 key/value heads"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 of sliding_attention: transformers turns the whole head"),
        ({"hidden_activation": "relu"}, "hidden_activation 'relu' is not supported"),
        ({"hidden_size_per_layer_input": 0}, "hidden_size_per_layer_input is 0"),
        ({"use_double_wide_mlp": True}, "'use_double_wide_mlp' is True"),
    ],
)  # fmt: skip
def test_refused_by_name(changes, said):
    with pytest.raises(FirstTokenError, match=said):
        describe(values(**changes))


def test_what_google_writes_is_what_transformers_writes():
    """Bases of the rotations beside one another, and keys that training alone reads."""
    new = values()
    old = {key: value for key, value in new.items() if key != "rope_parameters"}
    old |= {"rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "rope_scaling": None, "altup_coef_clip": 120.0, "altup_lr_multiplier": 1.0, "query_pre_attn_scalar": 256}  # fmt: skip
    assert describe(old) == describe(new)
    assert describe({**old, "rope_local_base_freq": 20000.0}).layers[0].attention.rotation != describe(new).layers[0].attention.rotation


def test_defaults_are_those_of_transformers():
    import transformers

    left_out = ("layer_types", "activation_sparsity_pattern", "rope_parameters", "num_kv_shared_layers", "final_logit_softcapping")
    given = {key: value for key, value in values(num_hidden_layers=40, intermediate_size=96).items() if key not in left_out}
    written = transformers.Gemma3nTextConfig(**given).to_dict()
    assert describe(given) == describe(written)
    decoder = describe(given)
    assert [block.attention.core.window is None for block in decoder.layers[:5]] == [False] * 4 + [True]
    assert [block.mlp.cutoff is not None for block in decoder.layers] == [True] * 10 + [False] * 30
    assert len(states(decoder)) == 25 and owners(decoder)["layers.39.attention.core"] == "layers.24.attention.core"


def test_plans_address_what_is_large():
    decoder = describe(values())
    names = [layer.name for layer in plan_layers(decoder)]
    for name in (
        "streams.projections.2",
        "streams_output.projections.0",
        "layers.3.low_rank.left",
        "layers.3.low_rank.right",
        "per_layer.embedding",
    ):
        assert name in names
    assert not [name for name in names if ".updates." in name] and len(coefficients(decoder)) == 3 * 16
    assert [block.mlp.up.rows for block in decoder.layers[:4]] == [96, 96, 128, 128]


@pytest.mark.parametrize(
    "missing", ["altup.modality_router", "altup.correct_output_scale", "laurel.linear_left", "laurel.post_laurel_norm"]
)
def test_a_missing_tensor_is_named(missing, tmp_path):
    save(random_model("gemma3n"), tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    [name] = [name for name in stored if name.startswith(f"model.layers.3.{missing}")]
    del stored[name]
    save_file(stored, tmp_path / "model.safetensors")
    with Checkpoint(tmp_path) as checkpoint, pytest.raises(FirstTokenError, match=f"{name}' is missing"):
        open_decoder(checkpoint)


@pytest.mark.parametrize("target", ["tflite-hexagon-sm8550", "executorch-hexagon-sm8550"])
def test_backends_without_its_parts_refuse_it(target):
    target = load_target(target, cache_length=128)
    with pytest.raises(FirstTokenError, match="cannot give embeddings of every layer, which gemma3n_text needs"):
        backend_of(target).check_model(describe(values()), target)


def test_every_part_that_it_alone_has_is_named():
    named = features(describe(values()))
    assert {name: named[name] for name in sorted(STREAMED & set(named))} == {
        "a cutoff of an MLP's gate": "layers.0.mlp.cutoff",
        "a low-rank way beside attention": "layers.0.low_rank",
        "embeddings of every layer": "per_layer",
        "layers that share an earlier one's keys and values": "layers.8.attention",
        "several streams of the hidden state": "streams",
    }


def without(which):
    """The decoder with one of its own parts or factors another way."""

    def changed(block):
        updates = block.updates
        if which == "the router's division":
            return replace(block, updates=replace(updates, norm=replace(updates.norm, weight=replace(updates.norm.weight, scale=1.0))))
        if which == "the identity":
            return replace(block, updates=replace(updates, prediction=replace(updates.prediction, offset=(0.0,) * 16)))
        if which == "the correction's one":
            return replace(block, updates=replace(updates, correction=replace(updates.correction, offset=(0.0,) * 4)))
        if which == "the output's scale":
            return replace(
                block, updates=replace(updates, factor=replace(updates.factor, weight=replace(updates.factor.weight, scale=1.1)))
            )
        if which == "the low-rank way":
            return replace(block, low_rank=None)
        if which == "the cutoff":
            return replace(block, mlp=replace(block.mlp, cutoff=None))
        return block

    def decoder(whole):
        whole = replace(whole, layers=tuple(map(changed, whole.layers)))
        if which == "the other streams' size":
            return replace(whole, streams=replace(whole.streams, floor=10.0))
        if which == "the other streams' end":
            return replace(whole, streams_output=replace(whole.streams_output, floor=100.0))
        return whole

    return decoder


FAULTS = (
    "the router's division", "the identity", "the correction's one", "the output's scale", "the low-rank way", "the cutoff",
    "the other streams' size", "the other streams' end",
)  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    model = random_model("gemma3n")
    tokens = np.random.default_rng(5).integers(0, 131, 40)
    with torch.no_grad():
        expected = model(torch.from_numpy(tokens)[None]).logits[0].numpy()
    return save(model, tmp_path_factory.mktemp("gemma3n")), tokens, expected


@pytest.mark.parametrize("fault", ["", *FAULTS])
def test_a_wrong_factor_or_a_part_left_out_shows(fault, written):
    """In the traversal and, apart from it, in the proof's reference."""
    folder, tokens, expected = written
    with Checkpoint(folder) as checkpoint, torch.no_grad():
        decoder = without(fault)(open_decoder(checkpoint))
        [proof] = reference_logits(checkpoint, decoder, [tokens], [np.array([39])])
        ops = TorchOps(TorchWeights(checkpoint, decoder, 40), torch.from_numpy(tokens), 0)
        traversed = forward.logits(ops, Named(decoder)).numpy()
    for found in (proof[0], traversed[-1]):
        assert (np.abs(found - expected[39]).max() < 1e-4) == (not fault)


def test_tokens_beyond_the_layers_table_take_its_first_row(written):
    """131 tokens, 120 rows; those of pictures and sounds have none of their own in published models."""
    folder, _, _ = written
    with Checkpoint(folder) as checkpoint:
        assert checkpoint.stored("model.embed_tokens_per_layer.weight").shape[0] == 120
        decoder = open_decoder(checkpoint)
        assert decoder.per_layer.embedding.rows == 120 < decoder.vocab_size


def test_the_text_part_of_a_published_checkpoint(written, tmp_path):
    """Google's folders: the decoder under ``model.language_model``, beside what sees and hears."""
    folder, tokens, expected = written
    stored = {name.replace("model.", "model.language_model.", 1): value for name, value in load_file(folder / "model.safetensors").items()}
    more = ("vision_tower.timm_model.conv_stem.conv", "audio_tower.conformer.0.norm", "embed_vision.embedding", "embed_audio.embedding")
    stored |= {f"model.{name}.weight": torch.ones(3, 2) for name in more}
    save_file(stored, tmp_path / "model.safetensors")
    text = json.loads((folder / "config.json").read_text())
    whole = {"model_type": "gemma3n", "architectures": ["Gemma3nForConditionalGeneration"], "text_config": text}
    (tmp_path / "config.json").write_text(json.dumps({**whole, "vision_config": {}, "audio_config": {}, "image_token_id": 130}))
    with Checkpoint(tmp_path) as checkpoint:
        [found] = reference_logits(checkpoint, open_decoder(checkpoint), [tokens], [np.arange(40)])
        assert any("4 tensors of them are left out" in remark for remark in checkpoint.remarks)
    assert np.abs(found - expected).max() < 1e-4
