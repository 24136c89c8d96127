"""Which instructions a plan implies on a core, and what is said when they did not run."""

import pytest

from firsttoken.arm.cores import CORES
from firsttoken.arm.kernels import implied_kinds, kinds_that_ran, missed_kinds
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.demo import checkpoint_path
from firsttoken.quant.plan import load_plan
from firsttoken.targets.target import load_target


@pytest.fixture(scope="module")
def layers():
    return plan_layers(open_decoder(Checkpoint(checkpoint_path())))


def implied(layers, plan: str, target: str, core: str) -> dict[str, tuple]:
    chosen = load_target(target)
    return {
        precision: kinds
        for precision, (kinds, _) in implied_kinds(load_plan(plan).resolve(layers, chosen), layers, chosen, CORES[core]).items()
    }


@pytest.mark.parametrize(
    ("plan", "target", "core", "expected"),
    [
        ("fp16-attention", "tflite-xnnpack", "cortex-a76", {"FP16": ("fmla.8h",), "INT8": ("sdot", "smmla")}),
        ("fp16-attention", "executorch-xnnpack", "neoverse-v1", {"FP16": ("fmla.8h",), "INT8": ("sdot", "smmla")}),
        ("fp16-attention", "tflite-xnnpack", "cortex-a53", {}),
        ("fp16-attention", "tflite-compat", "cortex-a76", {"INT8": ("sdot", "smmla")}),
        ("fp16-attention-core", "tflite-xnnpack", "cortex-a76", {"FP16": ("fmla.8h",), "INT8": ("sdot", "smmla")}),
        ("int4", "tflite-xnnpack", "cortex-a76", {"INT8": ("sdot", "smmla")}),
        ("fp16", "tflite-xnnpack", "cortex-a76", {"FP16": ("fmla.8h",)}),
        ("fp32", "tflite-xnnpack", "neoverse-v1", {}),
    ],
)
def test_what_a_plan_implies(layers, plan, target, core, expected):
    assert implied(layers, plan, target, core) == expected


def test_what_did_not_run_is_told_with_the_layers(layers):
    target = load_target("tflite-xnnpack")
    precisions = load_plan("fp16-attention").resolve(layers, target)
    assert missed_kinds(["sdot", "fmla.8h", "fmla.4s"], precisions, layers, target, CORES["cortex-a76"]) == []
    [miss] = missed_kinds(["sdot", "fmla.4s"], precisions, layers, target, CORES["cortex-a76"])
    assert miss.startswith(
        "20 layers of FP16 (layers.0.attention.q …), but no fmla.8h ran on cortex-a76: they are computed on a slower kernel"
    )
    assert len(missed_kinds([], precisions, layers, target, CORES["cortex-a76"])) == 2
    assert missed_kinds(["smmla", "fmla.8h"], precisions, layers, target, CORES["neoverse-v1"]) == []


def test_kinds_are_read_from_the_words_and_not_from_the_text(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        "IN: \n0x7f0000001000:  4e829420  .byte    0x20, 0x94, 0x82, 0x4e\n0x7f0000001004:  8b020020  add      x0, x1, x2\n\n4 write(1, 4e420c20 ) \n"
    )
    assert kinds_that_ran(log) == ["sdot"]
    log.write_text("")
    assert kinds_that_ran(log) == []
