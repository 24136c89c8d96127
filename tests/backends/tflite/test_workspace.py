"""XNNPACK's workspace must not grow once a call has run: what stands between the delegate and other operators would be lost (docs/runtimes.md)."""

import numpy as np
import pytest
import torch
from families_on_disk import random_model, save
from lowering_jobs import lowered_artifact

from firsttoken.backends.registry import find_backend
from firsttoken.backends.tflite.litert import CompiledModel

CACHE, WRONG = 1280, 0.15  # of logits; in FP16 they are off by 0.02 at most
LAYERS = {"num_hidden_layers": 8, "num_kv_shared_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 4}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Opens the bundle of a Gemma 4 in FP16, of whose operators a tenth runs outside the delegate; and what transformers gives for its text."""
    folder = tmp_path_factory.mktemp("gemma4")
    model = random_model("gemma4", max_position_embeddings=2048, **LAYERS)
    folder_of_model = save(model, folder / "checkpoint")
    job, manifest, artifact = lowered_artifact(folder_of_model, folder, "fp16", "tflite-xnnpack", cache_length=CACHE)
    backend = find_backend(job.target.cpu_backend)
    tokens = np.random.default_rng(3).integers(0, 131, 1200).tolist()
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits[0].numpy()
    return lambda: backend.open_runner(folder, manifest, artifact, threads=1, kept=False), tokens, expected


def wrong_prompts(opened, models: int) -> int:
    """How many of eight prompts of any length for each fresh model are wrong."""
    open_runner, tokens, expected = opened
    lengths, wrong = np.random.default_rng(0), 0
    for _ in range(models):
        runner = open_runner()
        for _ in range(8):
            runner.reset()
            length = int(lengths.integers(2, 1100))
            wrong += not np.abs(runner.prefill(tokens[:length]) - expected[length - 1]).max() < WRONG
            wrong += not np.abs(runner.decode(tokens[length]) - expected[length]).max() < WRONG
        runner.close()
    return wrong


@pytest.mark.slow
def test_no_prompt_is_wrong(opened):
    assert wrong_prompts(opened, 40) == 0


@pytest.mark.slow
def test_every_signature_has_its_largest_shapes_before_anything_runs(opened, monkeypatch):
    """Without it 10 to 14 of 320 prompts are wrong; which ones is chance, so this looks at the order of calls and not at luck."""
    open_runner, tokens, _ = opened
    happened, plain_reserve, plain_run = [], CompiledModel.reserve, CompiledModel.run

    def reserve(self, signature, shapes):
        happened.append((signature, max(max(shape, default=0) for shape in shapes)))
        plain_reserve(self, signature, shapes)

    def run(self, signature, *arrays):
        happened.append((signature, "ran"))
        plain_run(self, signature, *arrays)

    monkeypatch.setattr(CompiledModel, "reserve", reserve)
    monkeypatch.setattr(CompiledModel, "run", run)
    runner = open_runner()
    runner.prefill(tokens[:300])
    runner.decode(tokens[300])
    runner.close()
    # the longest is a chunk of 256 tokens in a prompt's first call, and the whole cache in the others
    assert happened == [("first", 256), ("extend", CACHE), ("decode", CACHE), ("first", "ran"), ("extend", "ran"), ("decode", "ran")]
