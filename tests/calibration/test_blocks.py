"""What each layer meets on a text, and integers chosen block by block; against transformers' own activations."""

import numpy as np
import pytest
import torch
from families_on_disk import random_model, save

from firsttoken.backends.pytorch.weights import TorchWeights
from firsttoken.calibration.blocks import Calibration, Moments, WatchedOps
from firsttoken.calibration.gptq import gptq
from firsttoken.calibration.rounded import IntegerFiles
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder import forward
from firsttoken.decoder.walk import Named, open_decoder, plan_layers
from firsttoken.errors import FirstTokenError

WINDOWS = [torch.randint(0, 131, (90,), generator=torch.Generator().manual_seed(n)) for n in range(3)]


def opened(case, folder, **changes):
    model = random_model(case, **changes)
    checkpoint = Checkpoint(save(model, folder))
    return model, checkpoint, open_decoder(checkpoint)


def wanted_of(decoder, bits=4, group=32):
    return {layer.name: (bits, group) for layer in plan_layers(decoder) if layer.kind == "linear" and layer.name.startswith("layers.")}


def run(checkpoint, decoder, folder, wanted=None):
    files = IntegerFiles(folder)
    Calibration(checkpoint, decoder, wanted or wanted_of(decoder), files).run(WINDOWS)
    return files


def test_moments_are_those_of_transformers_own_layers(tmp_path):
    model, checkpoint, decoder = opened("qwen3", tmp_path)
    sums = {}
    ours = {"self_attn.q_proj": "attention.q", "self_attn.o_proj": "attention.output", "mlp.up_proj": "mlp.up", "mlp.down_proj": "mlp.down"}
    for theirs, name in ours.items():
        module = model.get_submodule(f"model.layers.0.{theirs}")
        module.register_forward_pre_hook(lambda _, args, name=name: sums.update({name: sums.get(name, 0) + args[0][0].T @ args[0][0]}))
    moments = Moments(frozenset(f"layers.0.{part}" for part in ("attention.q", "attention.k", "attention.output", "mlp.up", "mlp.down")))
    weights = TorchWeights(checkpoint, decoder, 90, "layers.0.")
    with torch.no_grad():
        for window in WINDOWS:
            model(window[None])
            x = model.model.embed_tokens(window)
            forward.block(WatchedOps(weights, window, moments), Named(decoder).layers[0], x, False)
    for name, total in sums.items():
        found = moments.of(f"layers.0.{name}")
        assert (found - total).abs().max() < 1e-4 * total.abs().max(), name
    assert moments.of("layers.0.attention.k") is moments.of("layers.0.attention.q")  # one input, one sum


def test_the_first_block_is_chosen_on_what_the_checkpoint_computes(tmp_path):
    model, checkpoint, decoder = opened("llama2", tmp_path / "model")
    files = run(checkpoint, decoder, tmp_path / "integers")
    with torch.no_grad():
        inputs = torch.cat([model.model.layers[0].input_layernorm(model.model.embed_tokens(window)) for window in WINDOWS])
    weight = model.model.layers[0].self_attn.q_proj.weight
    direct = gptq(weight, inputs.T @ inputs, 4, 32)
    integers, scales = files.read("layers.0.attention.q")
    assert np.mean(integers != direct.values.numpy()) < 0.01
    assert np.allclose(scales, direct.scales.numpy())


def test_a_run_that_broke_off_ends_like_one_that_did_not(tmp_path, monkeypatch):
    _, checkpoint, decoder = opened("qwen2", tmp_path / "model", num_hidden_layers=3)
    whole = run(checkpoint, decoder, tmp_path / "whole")
    written, plain = [], IntegerFiles.write

    def dies(self, layer, *values):
        if len(written) == 10:  # in the middle of the second layer
            raise KeyboardInterrupt
        written.append(layer)
        plain(self, layer, *values)

    monkeypatch.setattr(IntegerFiles, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, decoder, tmp_path / "broken")
    monkeypatch.setattr(IntegerFiles, "write", lambda self, layer, *values: (written.append(layer), plain(self, layer, *values)))
    begun = set(written)
    resumed = run(checkpoint, decoder, tmp_path / "broken")
    assert len(written) == len(set(written)) == len(wanted_of(decoder)) and begun < set(written)  # none a second time
    for name in wanted_of(decoder):
        assert all(np.array_equal(one, other) for one, other in zip(whole.read(name), resumed.read(name), strict=True)), name


@pytest.mark.parametrize("case", ["gemma3", "lfm2", "granite-tied", "phi3", "nemotron", "qwen3_5"])
def test_other_families(case, tmp_path):
    """Norms after, windows, convolutions, weights that are parts of one matrix, an MLP without a gate."""
    _, checkpoint, decoder = opened(case, tmp_path / "model")
    wanted = wanted_of(decoder)
    wanted = {layer.name: (8, layer.matrix[1][1]) for layer in plan_layers(decoder) if layer.name in wanted}
    files = run(checkpoint, decoder, tmp_path / "integers", wanted)
    for layer in plan_layers(decoder):
        if layer.name in wanted:
            integers, scales = files.read(layer.name)
            weight = checkpoint.matrix(layer.matrix[0])
            assert integers.shape == weight.shape
            assert np.linalg.norm(integers * scales - weight) < 0.1 * np.linalg.norm(weight), layer.name  # of that matrix, in that order


@pytest.mark.parametrize(
    ("case", "what"),
    [("gemma4", "embeddings of every layer"), ("gemma3n", "embeddings of every layer"), ("lfm2_moe", "experts chosen per token")],
)
def test_what_it_does_not_take_is_refused(case, what, tmp_path):
    _, checkpoint, decoder = opened(case, tmp_path / "model")
    with pytest.raises(FirstTokenError, match=f'method "gptq" does not take {what}, which {decoder.family} has'):
        run(checkpoint, decoder, tmp_path / "integers")


def test_numbers_that_are_none_name_the_layer(tmp_path):
    model, _, _ = opened("llama2", tmp_path / "model")
    model.model.layers[1].mlp.up_proj.weight.fill_(3e38)
    checkpoint = Checkpoint(save(model, tmp_path / "damaged"))
    with pytest.raises(FirstTokenError, match="layer 'layers.1.mlp.down' meets NaN or infinite values on the calibration text"):
        run(checkpoint, open_decoder(checkpoint), tmp_path / "integers")


def test_moments_that_cannot_be_inverted_name_the_layer(tmp_path):
    """Inputs that are numbers, whose squares are none."""
    model, _, _ = opened("llama2", tmp_path / "model")
    model.model.layers[1].mlp.up_proj.weight.mul_(1e25)
    checkpoint = Checkpoint(save(model, tmp_path / "damaged"))
    message = "layer 'layers.1.mlp.down': the second moments of its inputs cannot be inverted, even with 10 times its mean added to the diagonal; try more or other"
    with pytest.raises(FirstTokenError, match=message):
        run(checkpoint, open_decoder(checkpoint), tmp_path / "integers")
