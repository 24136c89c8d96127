"""Every family's .tflite computes what transformers computes: prefill, decode across windows, a second chunk, tokens taken back."""

import numpy as np
import pytest
import torch
from families_on_disk import CASES, ONE_OF_EACH, random_model, save
from lowering_jobs import lowering_job
from tflite_fixtures import relative_error

from firsttoken.backends.registry import find_backend
from firsttoken.checkpoint import Checkpoint
from firsttoken.prove.gate import missed_structure

PROMPT, END, CACHE = 150, 176, 256  # a window of 24 and its ring of 88 rows end within
BOUND = 1e-4
QUANTIZED = {"fp16-attention": 0.12, "int8": 0.12}  # relative error on random weights, where every one matters
# A product of three random projections has some very large values, which set the scale of a token's int8; and what random heads of a delta net
# give is small, and made large by their norm with its rounding: the same plan computed on the host is 0.13 off, too.
LONG_TAILS = {"lfm2": 0.2, "qwen3_5": 0.2}
OTHER_EXPERTS = 0.4  # a random router's scores are near each other: rounded, a token takes another expert; tests/backends/test_experts.py


def random_tokens(count=END):
    return np.random.default_rng(3).integers(0, 131, count).tolist()


def expected_logits(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()


@pytest.mark.parametrize("target", ["tflite-xnnpack", pytest.param("tflite-compat", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", CASES)
def test_family(case, target, tmp_path, lowered_runner):
    model = random_model(case)
    folder, tokens = save(model, tmp_path / "checkpoint"), random_tokens()
    expected = expected_logits(model, tokens)
    runner = lowered_runner(folder, "fp32", target, cache_length=CACHE)

    def close(logits, position):
        return np.abs(logits - expected[position]).max() < BOUND

    assert close(runner.prefill(tokens[:PROMPT]), PROMPT - 1)
    for position in range(PROMPT, PROMPT + 20):
        assert close(runner.decode(tokens[position]), position)
    kept = runner.keep_prefix([*tokens[:140], 1, 2])
    assert kept == (
        140 if runner.all_can_be_taken_back else 0
    )  # a ring has 64 rows more than its window; a convolution has its last inputs alone
    assert close(runner.prefill(tokens[kept:END]), END - 1)
    runner.reset()
    assert close(runner.prefill(tokens[:40]), 39)
    assert close(runner.decode(tokens[40]), 40)
    assert close(runner.prefill(tokens[41:99]), 98)
    assert close(runner.decode(tokens[99]), 99)


@pytest.mark.parametrize("plan", QUANTIZED)
@pytest.mark.parametrize("case", [case if case in ONE_OF_EACH else pytest.param(case, marks=pytest.mark.slow) for case in CASES])
def test_family_quantized(case, plan, tmp_path, lowered_runner):
    """Every layer is stored and computed as the plan asks, in the delegate, and the numbers are near."""
    model = random_model(case)
    folder, tokens = save(model, tmp_path / "checkpoint"), random_tokens(60)
    runner = lowered_runner(folder, plan, cache_length=CACHE)
    expected = expected_logits(model, tokens)
    allowed = OTHER_EXPERTS if "_moe" in case else LONG_TAILS.get(case, QUANTIZED[plan])
    assert relative_error(runner.prefill(tokens[:40]), expected[39]) < allowed
    for position in range(40, 60):
        runner.decode(tokens[position])
    with Checkpoint(folder) as checkpoint:
        job = lowering_job(checkpoint, plan, "tflite-xnnpack", cache_length=CACHE)
    backend = find_backend("tflite-xnnpack")
    rows = backend.audit(runner.path, job.decoder, job.written)
    assert not missed_structure(rows, job.written, backend)
