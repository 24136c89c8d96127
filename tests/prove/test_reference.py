"""The streamed reference against transformers, for every supported family, and against our own decoder."""

import weakref

import numpy as np
import pytest
import torch
from families_on_disk import CASES, random_model, save

from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.prove import reference
from firsttoken.prove.reference import reference_logits


@pytest.mark.parametrize("case", CASES)
def test_against_transformers(tmp_path, case):
    model = random_model(case)
    checkpoint = Checkpoint(save(model, tmp_path / case))
    windows = [np.random.default_rng(n).integers(0, 131, length) for n, length in enumerate((1, 2, 37, 150))]
    got = reference_logits(checkpoint, open_decoder(checkpoint), windows, [np.arange(len(window)) for window in windows])
    for window, logits in zip(windows, got, strict=True):
        expected = model(torch.from_numpy(window)[None]).logits[0].numpy()
        assert np.abs(logits - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_stored_in_half_precision(tmp_path, dtype):
    model = random_model("qwen3")
    checkpoint = Checkpoint(save(model, tmp_path / "half", dtype, max_shard_size="100KB"))
    window = np.arange(100)
    [got] = reference_logits(checkpoint, open_decoder(checkpoint), [window], [np.array([99])])
    assert np.abs(got[0] - model(torch.from_numpy(window)[None]).logits[0, -1].numpy()).max() < 1e-4


def test_chosen_positions_vocabulary_and_head_blocks(tmp_path, monkeypatch):
    checkpoint = Checkpoint(save(random_model("llama2"), tmp_path / "model"))
    config = open_decoder(checkpoint)
    windows = [np.arange(60), np.arange(40) * 3]
    everything = reference_logits(checkpoint, config, windows, [np.arange(60), np.arange(40)])
    monkeypatch.setattr(reference, "HEAD_ROWS", 17)
    some = reference_logits(checkpoint, config, windows, [np.array([59, 0, 7]), np.array([], int)], vocab_size=100)
    assert some[0].shape == (3, 100) and some[1].shape == (0, 100)
    assert np.allclose(some[0], everything[0][[59, 0, 7], :100], atol=1e-5)


def test_memory_is_one_layers(tmp_path, monkeypatch):
    """No more than one layer's tensors are alive at once."""
    checkpoint = Checkpoint(save(random_model("qwen2", num_hidden_layers=6), tmp_path / "model"))
    alive, most = weakref.WeakSet(), []
    run = reference.Layer.run

    def counted(self, *given):
        alive.add(self)
        most.append(len(alive))
        return run(self, *given)

    monkeypatch.setattr(reference.Layer, "run", counted)
    reference_logits(checkpoint, open_decoder(checkpoint), [np.arange(9)], [np.array([8])])
    assert most == 6 * [1]


def test_a_window_hides_what_lies_before_it(tmp_path):
    model = random_model("mistral", sliding_window=8)
    checkpoint = Checkpoint(save(model, tmp_path / "model"))
    window = np.arange(40)
    [got] = reference_logits(checkpoint, open_decoder(checkpoint), [window], [np.arange(40)])
    assert np.abs(got - model(torch.from_numpy(window)[None]).logits[0].numpy()).max() < 1e-4
    [other] = reference_logits(checkpoint, open_decoder(checkpoint), [np.r_[99, window[1:]]], [np.arange(40)])
    assert np.abs(got[:8] - other[:8]).max() > 0.01 and np.abs(got[-1] - other[-1]).max() < 1e-5  # two layers see 15 back
