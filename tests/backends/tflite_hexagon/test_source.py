"""The graphs that go into the compiler: fixed shapes, everything the NPU gets wrong left to the host, the same bytes every time."""

import pytest
from lowering_jobs import lowering_job

from firsttoken.backends.tflite_hexagon.ops import graph_names
from firsttoken.backends.tflite_hexagon.source import describe_source
from firsttoken.checkpoint import Checkpoint
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError


def described(plan_name="fp16-attention", **lengths):
    with Checkpoint(checkpoint_path()) as checkpoint:
        return describe_source(lowering_job(checkpoint, plan_name, "tflite-hexagon-sm8550", **lengths))[1:]


def test_graphs_of_a_target():
    assert [name for name, _, _ in graph_names((32, 128))] == ["first_32", "first_128", "extend_128", "decode"]
    assert [name for name, _, _ in graph_names((64,))] == ["first_64", "extend_64", "decode"]


def test_what_the_host_feeds():
    methods, states = described()
    inputs = {method.name: {tensor.name: (tensor.shape, tensor.dtype) for tensor in method.inputs} for method in methods}
    assert inputs["first_32"] == {
        "embedding": ([32, 256], "float32"), "cos": ([32, 1, 64], "float32"), "sin": ([32, 1, 64], "float32"), "last": ([1], "int32"),
    }  # fmt: skip
    assert inputs["decode"]["cache_mask"] == ([1, 1280], "float32") and "last" not in inputs["decode"]
    assert inputs["extend_128"]["key.3"] == ([2, 1, 1280, 64], "float32")
    outputs = {tensor.name: tensor.shape for tensor in methods[-1].outputs}
    assert outputs["logits"] == [1, 4096] and outputs["value.0"] == [2, 1, 1, 64], "only the new row comes out"
    assert all((state.held_by, state.shape, state.dtype) == ("host", [2, 1, 1280, 64], "float32") for state in states)


def test_the_same_bytes_for_every_soc_and_every_time(hexagon_source):
    first = hexagon_source("fp16-attention").read_bytes()
    assert hexagon_source("fp16-attention", "tflite-hexagon-sm8850").read_bytes() == first
    assert hexagon_source("fp16").read_bytes() != first


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("int8", "fp32 is not possible for 'layers.0.attention.core'.*nearest: fp16"),
        ("int4-mlp", 'one scale a row only.*put group = "row" into the rule'),
        ("fp32", "fp32 is not possible"),
    ],
)
def test_precisions_that_the_npu_does_not_have_are_refused(plan, said):
    with pytest.raises(FirstTokenError, match=said):
        described(plan)


def test_lengths_follow_the_cache():
    methods, _ = described(cache_length=100)
    assert methods[0].name == "first_32" and len(methods) == 3
    with pytest.raises(FirstTokenError, match=r"prefill_lengths \[32, 128\] do not fit cache_length 30"):
        described(cache_length=30)
