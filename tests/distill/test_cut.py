"""Cutting: what is kept computes as before, what is least important goes, sizes step down as asked, and the result exports."""

import itertools

import pytest
import torch
from families_on_disk import random_model, save

from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.families import describe
from firsttoken.decoder.walk import open_decoder, parameter_count
from firsttoken.distill import cut as cutting
from firsttoken.distill import cut_sizes
from firsttoken.distill.importance import Importance, by_activation, by_l1
from firsttoken.distill.models import make_decoder
from firsttoken.distill.recipe import Cut
from firsttoken.errors import FirstTokenError

FAMILIES = ["llama-biases", "mistral", "qwen2", "qwen2-untied", "qwen3"]


def small(model, kept: cutting.Kept, sizes: cut_sizes.Sizes):
    config = model.config.to_dict()
    described = describe(config)
    tensors = {k: v for k, v in model.state_dict().items() if not (described.tied_head and k == "lm_head.weight")}
    smaller = cut_sizes.resized(config, sizes, kept.layers)
    return make_decoder(smaller, cutting.cut_tensors(tensors, described, describe(smaller), kept)).eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(24)[None], use_cache=False).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_that_do_nothing_can_be_cut_without_a_change(family):
    """Zeroed heads, MLP channels and a layer that adds nothing: the cut model must give the same logits."""
    model = random_model(family)
    described = describe(model.config.to_dict())
    now = cut_sizes.sizes_of(described)
    group = now.heads // now.kv_heads
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight[:, : group * cut_sizes.head_dim(described)] = 0  # the first group of heads
        layer.mlp.down_proj.weight[:, ::3] = 0
    for projection in (model.model.layers[0].self_attn.o_proj, model.model.layers[0].mlp.down_proj):
        projection.weight.zero_()
        if projection.bias is not None:
            projection.bias.zero_()
    sizes = cut_sizes.Sizes(
        1, now.hidden_size, now.heads - group, now.kv_heads - 1, now.intermediate_size - len(range(0, now.intermediate_size, 3))
    )
    if now.kv_heads == 1:
        pytest.skip("one group of heads cannot be cut")
    importance = by_activation(model, describe(model.config.to_dict()), [torch.arange(60).reshape(3, 20)])
    useful = Importance(
        importance.layers, importance.hidden, torch.stack([layer_heads(model, n, described) for n in range(2)]), mlp_use(model)
    )
    kept = cutting.choose(useful, now, sizes)
    assert kept.layers == [1]
    torch.testing.assert_close(logits(small(model, kept, sizes)), logits(model), rtol=1e-4, atol=1e-4)


def layer_heads(model, number, described):
    weight = model.model.layers[number].self_attn.o_proj.weight
    return weight.abs().sum(0).reshape(described.layers[0].attention.core.heads, -1).sum(1)


def mlp_use(model):
    return torch.stack([layer.mlp.down_proj.weight.abs().sum(0) for layer in model.model.layers])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("importance", ["activation", "l1"])
def test_a_cut_model_is_a_checkpoint_that_the_exporter_reads(family, importance, tmp_path):
    model = random_model(family)
    described = describe(model.config.to_dict())
    goal = cut_sizes.target_sizes(described, Cut(layers=1, hidden_size=48, intermediate_size=40, heads=2, kv_heads=1))
    measured = (
        by_l1(model, describe(model.config.to_dict()))
        if importance == "l1"
        else by_activation(model, describe(model.config.to_dict()), [torch.arange(60).reshape(3, 20)])
    )
    made = small(model, cutting.choose(measured, cut_sizes.sizes_of(described), goal), goal)
    save(made.requires_grad_(False), tmp_path / "student")
    with Checkpoint(tmp_path / "student") as checkpoint:
        read = open_decoder(checkpoint)
    assert cut_sizes.sizes_of(read) == goal and cut_sizes.head_dim(read) == cut_sizes.head_dim(described)
    assert torch.isfinite(logits(made)).all()


def test_hidden_channels_are_cut_everywhere_alike():
    """A channel that is zero in every matrix can go; the norms then see fewer channels, so their size is the only change."""
    model = random_model("qwen2")
    hidden = model.config.hidden_size
    dead = torch.arange(0, hidden, 4)
    model.model.embed_tokens.weight[:, dead] = 0
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight[dead] = 0
        layer.mlp.down_proj.weight[dead] = 0
    described = describe(model.config.to_dict())
    goal = cut_sizes.target_sizes(described, Cut(hidden_size=hidden - len(dead)))
    kept = cutting.choose(
        by_activation(model, describe(model.config.to_dict()), [torch.arange(60).reshape(3, 20)]), cut_sizes.sizes_of(described), goal
    )
    assert not set(kept.hidden.tolist()) & set(dead.tolist())
    made = small(model, kept, goal)
    # undo what the narrower mean does: mean over kept = mean over all * hidden / kept
    scale = ((hidden - len(dead)) / hidden) ** -0.5
    for name, weight in made.named_parameters():
        if "norm" in name:
            weight.data *= scale
    torch.testing.assert_close(logits(made), logits(model), rtol=2e-3, atol=2e-3)


def test_by_activation_is_the_mean_of_what_the_parts_put_out():
    model = random_model("qwen2")
    tokens = torch.arange(40).reshape(2, 20)
    seen = []
    handle = model.model.layers[1].mlp.down_proj.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    measured = by_activation(model, describe(model.config.to_dict()), [tokens[:1], tokens[1:]])
    handle.remove()
    torch.testing.assert_close(measured.mlp[1], torch.cat(seen).abs().double().mean((0, 1)))
    with torch.no_grad():
        states = model.model(input_ids=tokens, output_hidden_states=True).hidden_states
    influence = (1 - torch.cosine_similarity(states[0], states[1], dim=-1)).double().mean()
    torch.testing.assert_close(measured.layers[0], influence)
    assert not model.model.layers[0].mlp.down_proj._forward_pre_hooks  # ours are gone


def test_heads_go_in_groups_and_every_kept_group_loses_equally_many():
    importance = Importance(torch.ones(1), torch.ones(8), torch.tensor([[1.0, 9, 2, 8, 0, 0, 7, 7]]), torch.ones(1, 4))
    kept = cutting.choose(importance, cut_sizes.Sizes(1, 8, 8, 4, 4), cut_sizes.Sizes(1, 8, 2, 2, 4))
    assert kept.kv_heads[0].tolist() == [0, 1] and kept.heads[0].tolist() == [1, 3]


def test_steps_take_at_most_their_share_and_end_at_the_goal():
    config = random_model("qwen2").config.to_dict()
    goal = cut_sizes.target_sizes(describe(config), Cut(hidden_size=40, intermediate_size=32))
    steps = cut_sizes.plan_steps(config, goal, 0.05)
    sizes = [parameter_count(describe(config)), *(cut_sizes.parameters(config, s) for s in steps)]
    assert steps[-1] == goal and len(steps) > 5
    assert all(0 < 1 - after / before <= 0.05 for before, after in itertools.pairwise(sizes))
    assert cut_sizes.plan_steps(config, goal, 1.0) == [goal]


@pytest.mark.parametrize(
    "cut,most,message",
    [
        ({"layers": 3}, 1.0, "student.cut.layers is 3, but the teacher has only 2"),
        ({"heads": 3, "kv_heads": 2}, 1.0, "3 heads cannot share 2 kv_heads evenly"),
        ({"kv_heads": 1}, 1.0, "more per group than the teacher's"),
        ({"layers": 1}, 0.05, "the smallest possible step takes .*most_per_step is 5.0%"),
    ],
)
def test_impossible_cuts_are_named(cut, most, message):
    config = random_model("qwen2").config.to_dict()
    with pytest.raises(FirstTokenError, match=message):
        cut_sizes.plan_steps(config, cut_sizes.target_sizes(describe(config), Cut(**cut)), most)


def test_a_foreign_tensor_is_not_dropped_silently():
    model = random_model("qwen2")
    described = describe(model.config.to_dict())
    now = cut_sizes.sizes_of(described)
    kept = cutting.choose(by_l1(model, describe(model.config.to_dict())), now, now)
    with pytest.raises(FirstTokenError, match="'model.vision.weight' has no place"):
        cutting.cut_tensors({"model.vision.weight": torch.ones(2)}, described, described, kept)
