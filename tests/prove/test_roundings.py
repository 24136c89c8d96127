"""When a file may be held against a plan computed on the host, and which plan's bounds are the nearest."""

from dataclasses import replace

import pytest

from firsttoken.backends.registry import find_backend
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.demo import checkpoint_path
from firsttoken.foreign.structure import UNREAD, Matrix, Structure
from firsttoken.prove.roundings import misfit, nearest_plan
from firsttoken.quant.plan import load_plan


@pytest.fixture(scope="module")
def decoder():
    with Checkpoint(checkpoint_path()) as source:
        return open_decoder(source)


def stored_by(plan: str, decoder, tied: bool = True) -> Structure:
    """What a file of that plan stores."""
    precisions = load_plan(plan).resolve(plan_layers(decoder), "t", find_backend("tflite-xnnpack").precisions)
    scales = {"int8": "row", "int4": "group of 32"}
    layers = [layer for layer in plan_layers(decoder) if layer.shape and not (tied and layer.name == "head")]
    matrices = [Matrix(layer.shape, precisions[layer.name], 1, scales.get(precisions[layer.name], "")) for layer in layers]
    return Structure(matrices, {}, [], "fp16" if "fp16" in plan else "fp32")


def said(found: Structure, decoder, plan: str) -> str:
    chosen = load_plan(plan)
    return misfit(found, decoder, chosen, chosen.resolve(plan_layers(decoder), "t", find_backend("tflite-xnnpack").precisions))


@pytest.mark.parametrize("plan", ["fp32", "fp16", "int8", "fp16-attention"])
def test_what_is_stored_as_the_plan_asks_fits(plan, decoder):
    assert said(stored_by(plan, decoder), decoder, plan) == "" == said(stored_by(plan, decoder, tied=False), decoder, plan)


def changed(found: Structure, **values) -> Structure:
    return replace(found, matrices=[replace(matrix, **values) for matrix in found.matrices])


def test_what_is_not_is_told_why(decoder):
    found = stored_by("int8", decoder)
    assert "the plan asks 8 in fp16, it stores 0" in said(found, decoder, "fp16")
    assert "rounded with one scale a tensor" in said(changed(found, scales="tensor"), decoder, "int8")
    assert "rounded with zero points" in said(changed(found, shifted=True), decoder, "int8")
    assert "computed in floating point" in said(changed(found, users=frozenset({"DEQUANTIZE"})), decoder, "int8")
    assert "scales that were calibrated" in said(changed(found, users=frozenset({"FULLY_CONNECTED on integers"})), decoder, "int8")
    assert "scales of its int8 weights cannot be read" in said(changed(found, scales=UNREAD), decoder, "int8")
    assert "keeps keys and values in fp32, it in fp16" in said(replace(found, cache="fp16"), decoder, "int8")
    fewer = replace(found, matrices=found.matrices[1:])
    assert "it stores 0" in said(fewer, decoder, "int8"), "the embedding is gone"
    groups = stored_by("int4", decoder, tied=False)
    other = replace(groups, matrices=[replace(m, scales="group of 64") if m.stored == "int4" else m for m in groups.matrices])
    assert "one scale a group of 64; the plan's with one scale a group of 32" in said(other, decoder, "int4")


def test_an_int4_head_is_no_tied_embedding_in_int8(decoder):
    found = stored_by("int8", decoder)
    head = Matrix((4096, 256), "int4", 1, "group of 32")
    assert "with 1048576 values the plan asks 0 in int4, it stores 1" in said(
        replace(found, matrices=[*found.matrices, head]), decoder, "int8"
    )


def test_the_nearest_plan_is_that_of_the_coarsest_weights(decoder):
    assert {plan: nearest_plan(stored_by(plan, decoder)) for plan in ("fp32", "fp16", "int8", "int4-mlp")} == {
        "fp32": "fp32", "fp16": "fp16", "int8": "int8", "int4-mlp": "int4",
    }  # fmt: skip
    assert nearest_plan(replace(stored_by("fp32", decoder), cache="fp16")) == "fp16"
    assert nearest_plan(Structure([], {}, [])) == "int4", "unknown types get the widest bounds"
