"""The written .tflite computes what the checkpoint computes: every plan, every graph, any length."""

import pytest
from tflite_fixtures import BOUNDS, relative_error

from firsttoken.quant.plan import plan_names


def walk(runner, tokens, reference, bound):
    """first -> decode -> extend -> decode, each compared with the reference at its position; magnitude too."""
    for start, stop in ((0, 50), (51, 120)):
        logits = runner.prefill(tokens[start:stop])
        for position in (stop - 1, stop):
            if position == stop:
                logits = runner.decode(tokens[stop])
            assert relative_error(logits, reference[position]) < bound, position
            assert abs(logits.std() / reference[position].std() - 1) < max(bound, 1e-4), position


@pytest.mark.parametrize("plan", plan_names())
def test_every_plan_computes_the_checkpoint(tied_checkpoint, lowered_runner, tokens, reference_logits, plan):
    runner = lowered_runner(tied_checkpoint, plan, cache_length=200)
    walk(runner, tokens, reference_logits, BOUNDS[plan])


@pytest.mark.parametrize("plan", ["fp32", "fp16", "int8", "fp16-attention", "fp16-attention-core"])
def test_compatible_form_computes_the_same(tied_checkpoint, lowered_runner, tokens, reference_logits, plan):
    runner = lowered_runner(tied_checkpoint, plan, "tflite-compat", cache_length=200)
    walk(runner, tokens, reference_logits, BOUNDS[plan])


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 63, 199])
def test_any_prompt_length_gives_the_last_position(tied_checkpoint, lowered_runner, tokens, reference_logits, length):
    runner = lowered_runner(tied_checkpoint, cache_length=200)
    assert relative_error(runner.prefill(tokens[:length]), reference_logits[length - 1]) < 1e-5
    assert relative_error(runner.decode(tokens[length]), reference_logits[length]) < 1e-5


def test_chunks_equal_one_prefill(tied_checkpoint, lowered_runner, tokens, reference_logits):
    runner = lowered_runner(tied_checkpoint, cache_length=200, prefill_chunk=48)
    assert relative_error(runner.prefill(tokens[:170]), reference_logits[169]) < 1e-5


def test_tied_head_is_stored_once(tied_checkpoint, untied_checkpoint, lowered_runner):
    tied = lowered_runner(tied_checkpoint, "int8", cache_length=64).path.stat().st_size
    untied = lowered_runner(untied_checkpoint, "int8", cache_length=64).path.stat().st_size
    assert untied - tied >= 320 * 64


def test_no_weight_is_stored_per_graph(tied_checkpoint, lowered_runner):
    """Three graphs share one set of weights: an FP32 file is hardly larger than its parameters."""
    from safetensors import safe_open

    with safe_open(tied_checkpoint / "model.safetensors", "np") as file:
        parameters = sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118  safe_open has no __iter__
    size = lowered_runner(tied_checkpoint, "fp32", cache_length=64).path.stat().st_size
    assert size < 4 * parameters + 120_000
