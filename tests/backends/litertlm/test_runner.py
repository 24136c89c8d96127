"""The same logits as the .tflite's, whatever the lengths, up to the cache's end, over old rows and behind padding."""

import shutil

import numpy as np
import pytest
import torch
from families_on_disk import ON_LITERTLM, random_model, save

from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export
from firsttoken.run.open import open_runner

TOKENS = np.random.default_rng(3).integers(0, 4000, 400)
TARGETS = ["litertlm-cpu", "litertlm-cpu-fixed"]


def walked(bundle, steps):
    """Logits after every step: a number of tokens for prefill, 0 for one token of decode."""
    runner, at, found = open_runner(bundle, 2), 0, []
    for step in steps:
        found.append((runner.prefill(TOKENS[at : at + step]) if step else runner.decode(int(TOKENS[at]))).copy())
        at += step or 1
    runner.close()
    return found


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("steps", [[1, 0, 0], [2, 0, 17, 0], [16, 64], [65, 0, 0, 80, 0], [300], [130, 60, 0]])
def test_the_logits_are_those_of_the_tflite(bundles, target, steps):
    length = 320
    ours, native = (walked(bundles(name, cache_length=length), steps) for name in (target, "tflite-xnnpack"))
    for got, want in zip(ours, native, strict=True):
        assert np.abs(got - want).max() < 1e-4 * want.std()


@pytest.mark.parametrize("target", TARGETS)
def test_to_the_last_row_of_the_cache(bundles, target):
    """The last piece of the prompt is padded past the cache's end, where it must not push the rows back."""
    steps = [70, 25, *[0] * 5]  # 24 tokens go through the graph of 64
    ours, native = (walked(bundles(name, cache_length=100), steps) for name in (target, "tflite-xnnpack"))
    for got, want in zip(ours, native, strict=True):
        assert np.abs(got - want).max() < 1e-4 * want.std()
    runner = open_runner(bundles(target, cache_length=100))
    runner.prefill(TOKENS[:100])
    with pytest.raises(FirstTokenError, match="101 tokens do not fit the cache of 100"):
        runner.decode(1)
    runner.close()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("plan", ["fp32", "fp16-attention"])
def test_rows_of_before_say_nothing(bundles, target, plan):
    """LiteRT-LM rolls back by counting: the rows stay."""
    runner = open_runner(bundles(target, plan, cache_length=100))
    fresh = [runner.prefill(TOKENS[:20]).copy(), runner.decode(7).copy()]
    runner.prefill(TOKENS[20:90])
    runner.reset()
    assert any(array.any() for array in runner.cache.values())
    again = [runner.prefill(TOKENS[:20]).copy(), runner.decode(7).copy()]
    runner.close()
    for got, want in zip(again, fresh, strict=True):
        assert np.array_equal(got, want)


def test_a_cache_that_grows_keeps_its_rows(bundles):
    steps = [250, *[0] * 12]  # over the first growth step
    ours, native = (walked(bundles(name, cache_length=320), steps) for name in ("litertlm-cpu", "tflite-xnnpack"))
    for got, want in zip(ours, native, strict=True):
        assert np.abs(got - want).max() < 1e-4 * want.std()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", ON_LITERTLM)
def test_families(case, target, tmp_path):
    """Windows are not in the host's mask: the graph adds them, past the window in one call and over several."""
    model = random_model(case, vocab_size=4096)
    folder = save(model, tmp_path / "checkpoint")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint_path() / name, folder)
    [bundle] = export(folder, tmp_path / "out", "fp32", (target,), prove=False, cache_length=160)
    with torch.no_grad():
        expected = model(torch.from_numpy(TOKENS[:130])[None]).logits[0].numpy()
    runner = open_runner(bundle, 1)
    runner.prefill(TOKENS[:90])
    assert np.abs(runner.prefill(TOKENS[90:120]) - expected[119]).max() < 1e-4
    for position in range(120, 130):
        assert np.abs(runner.decode(int(TOKENS[position])) - expected[position]).max() < 1e-4
    runner.close()
