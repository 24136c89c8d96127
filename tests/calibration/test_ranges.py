"""What layers meet and give on a text: against transformers' own modules; kept, refused, and named where it is no number."""

import numpy as np
import pytest
import torch
from families_on_disk import random_model, save

from firsttoken.calibration import ranges
from firsttoken.calibration.blocks import surprise, watch
from firsttoken.calibration.ranges import activations, check_static, static_layer
from firsttoken.calibration.text import CalibrationText, read_text, windows_of
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer

LAYERS = ("layers.0.attention.q", "layers.0.attention.k", "layers.2.mlp.down", "head")
TEXT = CalibrationText("short", read_text(None).text[:6000])


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(ranges, "kept_under", lambda name: tmp_path / "cache" / name)


@pytest.fixture(scope="module")
def demo():
    source = Checkpoint(checkpoint_path())
    return source, open_decoder(source)


def test_ranges_are_those_of_transformers_own_modules(demo):
    from transformers import AutoModelForCausalLM

    source, decoder = demo
    model = AutoModelForCausalLM.from_pretrained(checkpoint_path(), dtype=torch.float32)
    met: dict[str, list[np.ndarray]] = {}
    names = dict(
        zip(
            ("model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj", "model.layers.2.mlp.down_proj", "lm_head"),
            LAYERS,
            strict=True,
        )
    )
    for theirs, ours in names.items():

        def hook(module, args, result, ours=ours):
            product = result if module.bias is None else result - module.bias
            for which, value in (("input", args[0]), ("output", product)):
                met.setdefault(f"{ours}.{which}", []).append(value[0].detach().numpy())

        model.get_submodule(theirs).register_forward_hook(hook)
    with torch.no_grad():
        for window in windows_of(TEXT, Tokenizer(source.folder)):
            model(torch.from_numpy(window)[None])
    found = activations(source, decoder, LAYERS, TEXT)
    for name in LAYERS:
        for which, histogram in (("input", found[name].input), ("output", found[name].output)):
            theirs = np.concatenate(met[f"{name}.{which}"])
            assert histogram.counts.sum() == theirs.size
            assert (histogram.low, histogram.high) == pytest.approx((theirs.min(), theirs.max()), rel=1e-4, abs=1e-5), f"{name} {which}"
        assert found[name].largest == pytest.approx(np.abs(np.concatenate(met[f"{name}.input"])).max(0), rel=1e-3, abs=1e-5)
    assert found["layers.0.attention.k"].input.counts is found["layers.0.attention.q"].input.counts  # one input, counted once


def test_kept_and_taken_again_to_the_bit(demo, monkeypatch):
    first = activations(*demo, LAYERS, TEXT)
    monkeypatch.setattr(ranges, "windows_of", lambda *_: pytest.fail("it was kept"))
    again = activations(*demo, reversed(LAYERS), TEXT)
    for name in LAYERS:
        for method in ("min-max", "percentile", "mse"):
            assert static_layer(name, "int8-static", method, first[name]) == static_layer(name, "int8-static", method, again[name])


def test_a_text_too_short(demo):
    with pytest.raises(
        FirstTokenError, match=r"calibration text few words: \d+ tokens; expected at least 1024, give a longer one with --calibration"
    ):
        activations(*demo, LAYERS, CalibrationText("few words", "few words"))


@pytest.mark.parametrize("value", [float("nan"), 3e38])
def test_the_layer_that_gives_no_numbers_is_named_and_nothing_is_kept(demo, tmp_path, value):
    decoder = demo[1]

    class Damaged(Checkpoint):
        def rows(self, asked, *block):
            found = super().rows(asked, *block)
            if asked == decoder.layers[1].mlp.up.weight:
                found = found.copy()
                found[5, 7] = value
                found[5, 8] = -value
            return found

    with pytest.raises(
        FirstTokenError, match="layer 'layers.1.mlp.up' gives NaN or infinite values on the calibration text, from inputs that are numbers"
    ):
        activations(Damaged(checkpoint_path()), decoder, LAYERS, TEXT)
    assert not list(tmp_path.rglob("*.npz"))


def test_decoders_that_are_not_watched_are_refused_by_name(tmp_path):
    decoder = open_decoder(Checkpoint(save(random_model("gemma4"), tmp_path)))
    with pytest.raises(
        FirstTokenError, match=r"int8-static of 'layers.0.mlp.up': ranges are not calibrated of a decoder with .* give int8 in the plan"
    ):
        check_static(decoder, {"layers.0.attention.q": "int8", "layers.0.mlp.up": "int8-static"})
    check_static(decoder, {"layers.0.attention.q": "int8"})


def test_another_models_tokenizer_is_noticed(demo, monkeypatch):
    """Tokens are the demo's own with other numbers, as a tokenizer of the same size gives them."""
    shuffled = np.random.default_rng(0).permutation(4096)
    monkeypatch.setattr(ranges, "windows_of", lambda *asked: [shuffled[window] for window in windows_of(*asked)])
    with pytest.raises(
        FirstTokenError,
        match=r"the model finds its tokens less likely than by chance \(\S+ nats a token; 8.3 by chance\).*tokenizer.json is another model's",
    ):
        activations(*demo, LAYERS, TEXT)


def test_what_text_surprises_the_model_by_is_transformers_own_loss(demo):
    from transformers import AutoModelForCausalLM

    source, decoder = demo
    window = torch.from_numpy(windows_of(TEXT, Tokenizer(source.folder))[0])
    model = AutoModelForCausalLM.from_pretrained(checkpoint_path(), dtype=torch.float32)
    with torch.no_grad():
        expected = float(model(window[None], labels=window[None]).loss)
    [states] = watch(source, decoder, [window], lambda *_: None)
    assert surprise(source, decoder, window, states) == pytest.approx(expected, rel=1e-4) and expected < 4
