"""Single layers as files: they compute the layer, and their times are told by shape."""

import numpy as np
import pytest
from families_on_disk import random_model, save

from firsttoken.backends.interface import Backend
from firsttoken.backends.registry import find_backend
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.prove.arithmetic import round_apart, round_tokens, round_weight
from firsttoken.search.candidates import Candidate, candidates
from firsttoken.search.times import Shape, layer_times

SEED = 20261129  # of the states that `one_layer` runs on


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    checkpoint = Checkpoint(save(random_model("llama3"), tmp_path_factory.mktemp("layers")))
    return checkpoint, plan_layers(open_decoder(checkpoint)), open_decoder(checkpoint)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
@pytest.mark.parametrize("backend", ["tflite-xnnpack", "tflite-none", "executorch-xnnpack"])
def test_one_layer_computes_the_layer(model, tmp_path, backend, precision):
    checkpoint, layers, _ = model
    chosen = find_backend(backend)
    if precision not in chosen.precisions["linear"]:
        pytest.skip("this backend has no int4")
    layer = next(layer for layer in layers if layer.name == "layers.1.mlp.down")
    found = chosen.one_layer(checkpoint, layer, precision, 32 if precision == "int4" else 96, 5, tmp_path / "layer", 1)()
    states = np.random.default_rng(SEED).standard_normal((5, 96), np.float32)
    exact = states @ checkpoint.matrix(layer.weight).T
    allowed = {"fp32": 1e-6, "fp16": 3e-3, "int8": 2e-2, "int4": 0.2}[precision]
    error = np.abs(found - exact).max() / np.abs(exact).max()
    assert error < allowed
    if precision == "int8":
        assert error > 1e-4  # it is rounded, and so are its inputs
        assert np.abs(exact - round_tokens(states) @ checkpoint.matrix(layer.weight).T).max() > 0


@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize("backend", ["tflite-xnnpack", "executorch-xnnpack"])
def test_one_layer_with_outliers_by_themselves(model, tmp_path, backend, tokens):
    checkpoint, layers, _ = model
    layer = next(layer for layer in layers if layer.name == "layers.1.mlp.down")
    states = np.random.default_rng(SEED).standard_normal((tokens, 96), np.float32)
    weight = round_weight(checkpoint.matrix(layer.weight), "int8", find_backend(backend).weight_grid, 96)
    plain, apart = (
        find_backend(backend).one_layer(checkpoint, layer, "int8", 96, tokens, tmp_path / f"{how}", 1, how)() for how in (False, True)
    )
    wanted = round_apart(states) @ weight.T
    off = [np.median(np.abs(found - wanted)) / np.abs(wanted).max() for found in (plain, apart)]
    # One rounding that falls the other way shows in all that a token gives.
    assert off[1] < (0.3 * off[0] if tokens == 1 else 2e-6) and off[0] > 1e-3


def test_times_are_by_shape_and_precision(model):
    checkpoint, layers, decoder = model
    offered = candidates(decoder, find_backend("tflite-xnnpack"), ("int8", "fp16"))
    times = layer_times(checkpoint, layers, offered, find_backend("tflite-xnnpack"), 16, 1)
    up = next(layer for layer in layers if layer.name == "layers.0.mlp.up")
    assert set(times) >= {Shape.of(up, Candidate("int8")), Shape.of(up, Candidate("fp16"))}
    assert len(times) == 2 * len({layer.shape for layer in layers if layer.kind == "linear"})
    assert all(time.prefill > 0 and time.decode > 0 for time in times.values())
    wide, narrow = times[Shape(131, 64, "int8", 64)], times[Shape(32, 64, "int8", 64)]
    assert wide.prefill > narrow.prefill


def test_a_backend_without_single_layers_says_so(model, tmp_path):
    checkpoint, layers, _ = model
    other = find_backend("tflite-none")
    with pytest.raises(FirstTokenError, match="tflite-none: the time of single layers cannot be measured here; give"):
        Backend.one_layer(other, checkpoint, layers[1], "int8", 64, 4, tmp_path / "x", 1)  # as one of another package has it
