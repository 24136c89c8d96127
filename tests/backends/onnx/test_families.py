"""Every family's graph computes what transformers computes: prefill, decoding past windows, a second chunk, tokens taken back."""

import numpy as np
import pytest
import torch
from families_on_disk import CASES, ONE_OF_EACH, random_model, save

from firsttoken.backends.registry import find_backend
from firsttoken.prove.gate import missed_structure

PROMPT, END, CACHE = 110, 130, 192  # a window of 24 ends within, and calls of 64 tokens, which delta rules have
BOUND = 1e-4
QUANTIZED = {"fp16": 0.01, "int8": 0.12}  # relative error on random weights, where every one matters
LONG_TAILS = ("lfm2", "qwen3_5")  # as tests/backends/tflite/test_families.py says
OTHER_EXPERTS = 0.4  # a random router's scores are near each other: rounded, a token takes another expert


def random_tokens(count=END):
    return np.random.default_rng(3).integers(0, 131, count).tolist()


def expected_logits(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()


@pytest.mark.parametrize("case", CASES)
def test_family(case, tmp_path, lowered):
    model = random_model(case)
    folder, tokens = save(model, tmp_path / "checkpoint"), random_tokens()
    expected = expected_logits(model, tokens)
    _, _, runner = lowered(folder, "fp32", cache_length=CACHE)

    def close(logits, position):
        return np.abs(logits - expected[position]).max() < BOUND

    assert close(runner.prefill(tokens[:PROMPT]), PROMPT - 1)
    for position in range(PROMPT, PROMPT + 4):
        assert close(runner.decode(tokens[position]), position)
    kept = runner.keep_prefix([*tokens[:90], 1, 2])
    assert kept == (90 if runner.all_can_be_taken_back else 0)
    assert close(runner.prefill(tokens[kept:END]), END - 1)
    runner.reset()
    assert close(runner.prefill(tokens[:40]), 39)


@pytest.mark.parametrize("plan", QUANTIZED)
@pytest.mark.parametrize("case", [case if case in ONE_OF_EACH else pytest.param(case, marks=pytest.mark.slow) for case in CASES])
def test_family_quantized(case, plan, tmp_path, lowered):
    """Every layer is stored and computed as the plan asks, and the numbers are near."""
    model = random_model(case)
    folder, tokens = save(model, tmp_path / "checkpoint"), random_tokens(40)
    job, _, runner = lowered(folder, plan, cache_length=CACHE)
    expected = expected_logits(model, tokens)
    error = runner.prefill(tokens[:39]) - expected[38]
    allowed = OTHER_EXPERTS if "_moe" in case else QUANTIZED[plan] * (2 if case in LONG_TAILS else 1)
    assert np.sqrt(np.mean(error**2)) < allowed * expected[38].std()
    runner.decode(tokens[39])
    backend = find_backend("onnx-cpu")
    rows = backend.audit(tmp_path / backend.artifact_file, job.decoder, job.written)
    assert not missed_structure(rows, job.written, backend)
