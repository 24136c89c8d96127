"""A smoothed checkpoint is the same model, whatever its norms are; what cannot be smoothed is refused by name."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from families_on_disk import random_model, save

from firsttoken.calibration.blocks import Largest, watch
from firsttoken.calibration.smoothed import EMBEDDING, INNER, KINDS, NORMS, VALUES, SmoothedCheckpoint, column_sizes, sites
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import described_by, open_decoder, plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.prove.arithmetic import Fp32
from firsttoken.prove.reference import logits_in

WINDOW = np.random.default_rng(3).integers(0, 120, 60)


def linears(decoder):
    return frozenset(layer.name for layer in plan_layers(decoder) if layer.kind == "linear")


def logits(checkpoint, decoder):
    [[found]] = logits_in(checkpoint, decoder, [(Fp32(), [0])], [WINDOW], [np.arange(len(WINDOW))])
    return found


def smoothed(checkpoint, decoder, strengths):
    found = sites(decoder, linears(decoder) | {"embedding"})
    seen = Largest(frozenset(site.seen for site in found) - {"embedding"})
    watch(checkpoint, decoder, [torch.from_numpy(WINDOW)], seen)
    sizes = seen.found | {"embedding": column_sizes(checkpoint, decoder)}
    return found, seen.found, SmoothedCheckpoint(checkpoint, found, sizes, strengths)


# Biases and grouped heads; Gemma's 1 + w with norms of queries and keys and norms behind; LayerNorm with biases and one norm for both; an MLP without a
# gate; norms behind only; a gate on attention beside delta nets; norms without weights.
FAMILIES = [
    ("qwen2", {NORMS, VALUES, INNER}), ("llama3", {NORMS, VALUES, INNER}), ("gemma3", {NORMS, VALUES, INNER}), ("cohere2", {NORMS, VALUES, INNER}), ("nemotron", {NORMS, VALUES}),
    ("olmo2", {VALUES, INNER}), ("qwen3_5", {NORMS, VALUES, INNER}), ("phi3", {NORMS, VALUES, INNER}),
]  # fmt: skip


@pytest.mark.parametrize(("case", "kinds"), FAMILIES)
def test_the_same_model_with_other_weights(case, kinds, tmp_path):
    checkpoint = Checkpoint(save(random_model(case), tmp_path))
    decoder = open_decoder(checkpoint)
    found, _, made = smoothed(checkpoint, decoder, dict.fromkeys(KINDS, 0.6))
    assert {site.kind for site in found} == kinds | {EMBEDDING} and made.original is checkpoint
    before, after = logits(checkpoint, decoder), logits(made, decoder)
    assert np.abs(after - before).max() < 2e-4 * np.abs(before).max()
    for site in found:
        for source in (*site.before, *site.layers.values()):
            own, changed = checkpoint.rows(source), made.rows(source)
            assert own.shape == changed.shape and (not own.any() or np.abs(changed - own).max() > 1e-3 * np.abs(own).max()), source
            assert np.array_equal(made.rows(source, 1, 3), changed[1:3])


def test_outliers_leave_the_activations(tmp_path):
    """A channel whose norm gives 50 times as much, with weights that take a 50th of it."""
    model = random_model("llama2")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.input_layernorm.weight[5] *= 50
            for name in ("q", "k", "v"):
                layer.self_attn.get_submodule(f"{name}_proj").weight[:, 5] /= 50
    checkpoint = Checkpoint(save(model, tmp_path))
    decoder = open_decoder(checkpoint)
    _, largest, made = smoothed(checkpoint, decoder, {NORMS: 0.5})
    seen = Largest(frozenset(largest))
    watch(made, decoder, [torch.from_numpy(WINDOW)], seen)
    peak = lambda values: float(values.max() / np.median(values))  # noqa: E731
    assert peak(largest["layers.0.attention.q"]) > 30 and peak(seen.found["layers.0.attention.q"]) < 6
    assert np.allclose(largest["layers.0.mlp.down"], seen.found["layers.0.mlp.down"], rtol=1e-3)  # that kind was not asked for


@pytest.mark.parametrize("case", ["llama3", "gemma3"])  # a head of its own, and the same table
def test_a_table_without_large_columns_is_rounded_more_finely(case, tmp_path):
    model = random_model(case)
    with torch.no_grad():
        model.get_input_embeddings().weight[:, [3, 11]] *= 30
    checkpoint = Checkpoint(save(model, tmp_path))
    decoder = open_decoder(checkpoint)
    _, _, made = smoothed(checkpoint, decoder, {EMBEDDING: 0.65})
    assert decoder.tied_head == (case != "llama3") and made.embedding_factor is not None
    table, factor = checkpoint.matrix(decoder.embedding.weight), made.vector(made.embedding_factor)

    def error(rows, by=1.0):
        scales = np.abs(rows).max(1, keepdims=True) / 127
        return np.square(np.round(rows / scales) * scales * by - table).mean()

    assert error(made.matrix(decoder.embedding.weight), factor) < 0.2 * error(table)
    described = described_by(made, decoder)
    assert described.embedding_factor.weight == made.embedding_factor and described_by(checkpoint, decoder) is decoder
    assert np.allclose(made.matrix(decoder.embedding.weight) * factor, table, rtol=1e-5)


def test_a_table_that_is_the_head_behind_a_norm_of_others_stays(tmp_path):
    decoder = open_decoder(Checkpoint(save(random_model("gemma3"), tmp_path)))
    shared = replace(decoder, norm=replace(decoder.norm, weight=decoder.layers[0].mlp_norm.weight))
    assert not [site for site in sites(shared, linears(decoder) | {"embedding"}) if site.kind == EMBEDDING]


@pytest.mark.parametrize(("case", "what"), [("gemma3n", "embeddings of every layer"), ("lfm2_moe", "experts chosen per token")])
def test_what_it_does_not_take(case, what, tmp_path):
    decoder = open_decoder(Checkpoint(save(random_model(case), tmp_path)))
    with pytest.raises(FirstTokenError, match=f"smooth = true does not take {what}, which .* has; leave it out of the plan"):
        sites(decoder, linears(decoder))


def test_only_where_activations_are_rounded(tmp_path):
    decoder = open_decoder(Checkpoint(save(random_model("qwen2"), tmp_path)))
    only = frozenset(name for name in linears(decoder) if name.endswith((".down", ".q", ".k")))
    found = sites(decoder, only)
    assert {site.kind for site in found} == {INNER, NORMS}
    # v takes the same input in floating point, and is divided and multiplied with the others; gate and up have no need
    assert {name.split(".", 2)[2] for site in found for name in site.layers} == {"mlp.down", "attention.q", "attention.k", "attention.v"}
    with pytest.raises(FirstTokenError, match="changes nothing for qwen2 by this plan and target: no layer that rounds its activations"):
        sites(decoder, frozenset())
