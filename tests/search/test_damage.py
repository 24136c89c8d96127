"""What one layer's precision costs, against transformers with that weight rounded."""

import numpy as np
import pytest
import torch
from families_on_disk import random_model, save

from firsttoken.backends.registry import find_backend
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.search.candidates import Candidate, candidates
from firsttoken.search.damage import Damages

FP16, INT8 = Candidate("fp16"), Candidate("int8")
PLACES = {
    "embedding": "model.embed_tokens",
    "layers.0.attention.q": "model.layers.0.self_attn.q_proj",
    "layers.1.mlp.down": "model.layers.1.mlp.down_proj",
    "head": "lm_head",
}


def opened(case, folder, backend="tflite-none"):
    model = random_model(case)
    checkpoint = Checkpoint(save(model, folder))
    decoder = open_decoder(checkpoint)
    numbers = np.random.default_rng(7)
    windows = [numbers.integers(0, 120, 24) for _ in range(2)]
    return model, decoder, Damages(checkpoint, decoder, find_backend(backend), windows)


def logits_of(model, windows):
    with torch.no_grad():
        return torch.cat([model(torch.from_numpy(window)[None]).logits[0] for window in windows]).double()


@pytest.mark.parametrize("layer", PLACES)
def test_a_rounded_weight_costs_what_transformers_says(tmp_path, layer):
    model, _, damages = opened("llama3", tmp_path)
    before = logits_of(model, damages.windows).log_softmax(-1)
    weight = model.get_submodule(PLACES[layer]).weight
    weight.data = weight.data.half().float()  # stored in FP16, computed in FP32
    after = logits_of(model, damages.windows).log_softmax(-1)
    expected = float((before.exp() * (before - after)).sum(-1).mean())
    assert expected > 1e-11
    assert damages.measure(layer, FP16) == pytest.approx(expected, rel=0.05, abs=2e-11)


def test_the_order_of_measuring_does_not_matter(tmp_path):
    _, _, damages = opened("llama3", tmp_path)
    there = [damages.measure(name, INT8) for name in PLACES]
    back = [damages.measure(name, INT8) for name in reversed(PLACES)]
    assert there == back[::-1]
    assert min(there) > 1e-8


def test_fp32_costs_nothing(tmp_path):
    _, _, damages = opened("llama3", tmp_path)
    assert damages.measure("layers.1.attention.core", Candidate("fp32")) == 0
    assert damages.measure("layers.0.mlp.up", Candidate("fp32")) == 0


def test_what_float16_cannot_hold_costs_everything(tmp_path):
    model = random_model("llama3")
    model.model.layers[1].mlp.up_proj.weight.data *= 3e6
    checkpoint = Checkpoint(save(model, tmp_path))
    damages = Damages(checkpoint, open_decoder(checkpoint), find_backend("tflite-xnnpack"), [np.arange(20)])
    assert damages.measure("layers.1.mlp.up", FP16) == float("inf")
    assert damages.measure("layers.0.mlp.up", FP16) < 1


@pytest.mark.parametrize("case", ["gemma3n", "gemma4", "qwen3_5", "lfm2_moe", "qwen2"])
def test_every_layer_of_every_kind_of_family_has_a_damage(tmp_path, case):
    _, decoder, damages = opened(case, tmp_path, "tflite-xnnpack")
    wanted = candidates(decoder, find_backend("tflite-xnnpack"))
    first = ("layers.0.", "layers.1.", "layers.15.", "embedding", "per_layer", "head")
    found = {name: damages.measure(name, INT8) for name in damages.order() if INT8 in wanted[name] and name.startswith(first)}
    assert len(found) > 8
    assert all(0 < value < 1 for value in found.values()), found
    again = Damages(damages.checkpoint, decoder, damages.backend, damages.windows)
    last = list(found)[-3]
    assert again.measure(last, INT8) == pytest.approx(found[last], rel=1e-5)
