"""Static precisions: calibrated, exported, proven; a wrong scale is found; refused by name where they cannot be."""

import dataclasses

import pytest

from firsttoken.backends.registry import open_target, resolve
from firsttoken.backends.tflite import ops, static
from firsttoken.bundle.manifest import read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError, GateError
from firsttoken.pipeline import export
from firsttoken.prove.prove import prove
from firsttoken.quant.plan import load_plan

PLAN = """
summary = "linear layers of the decoder between calibrated integers"
[[rule]]
match = "layers.*.attention.core"
precision = "fp32"
[[rule]]
match = "layers.*"
precision = "int8-static"
range = "{range}"
[[rule]]
match = "*"
precision = "int8"
[gate]
mean_kld = {mean}
p99_kld = 0.2
same_top = 0.9
magnitude = 0.02
"""


@pytest.fixture
def plan(tmp_path):
    def write(range="mse", mean=0.015, **replaced):
        path = tmp_path / "static.toml"
        text = PLAN.format(range=range, mean=mean)
        for old, new in replaced.items():
            text = text.replace(old, new)
        path.write_text(text)
        return path

    return write


def test_the_demo_between_integers(plan, tmp_path):
    """0.0100 nats (docs/plans.md), of which INT8 with scales as they come has 0.0011; the twin, from the same ranges, has nearly all of it."""
    said = []
    [folder] = export(checkpoint_path(), tmp_path / "out", plan(), witness=False, say=said.append)
    manifest = read_manifest(folder)
    proof = manifest.need_proof()
    assert proof.passed and 0.004 < proof.all.mean_kld < 0.013
    assert proof.twin.mean_kld < proof.twin.allowed_kld < 0.008
    assert any("ranges of 28 layers taken on firsttoken's calibration text; worst served is the input of layers." in line for line in said)
    rows = {row.layer: row for row in manifest.cpu.audit}
    assert (
        set(manifest.calibration.ranges) == {name for name, row in rows.items() if row.asked == "int8-static"}
        and len(manifest.calibration.static) == 28
    )
    for name, ranges in manifest.calibration.ranges.items():
        row = rows[name]
        assert (row.stored, row.computed, row.delegated, len(row.scales)) == ("int8-static", "int8", True, 2)
        steps = (ranges.input.high - min(ranges.input.low, 0)) / row.scales[0].scale
        assert ranges.method == "mse" and 254 < steps < 256 and ranges.input.saturated < 0.01
        assert 0 < ranges.input.error < 0.2
    q, k = (manifest.calibration.ranges[f"layers.1.attention.{part}"] for part in "qk")
    assert q.input == k.input and q.output != k.output  # they share their input
    assert rows["head"].scales == [] and rows["head"].computed == "int8"
    manifest.calibration.static.pop(5)
    manifest.write(folder)
    with pytest.raises(
        FirstTokenError, match=r"layers.0.mlp.up: the manifest has no calibrated ranges of it, which int8-static needs; export again"
    ):
        prove(folder, checkpoint_path())


def other_zero_point(graph, x, weight, bias, ranges, plain=static.static_linear):
    """The zero point of one layer's input is one too high."""
    given = static.grid
    if ranges.layer != "layers.2.mlp.up":
        return plain(graph, x, weight, bias, ranges)
    try:
        static.grid = lambda *asked: dataclasses.replace(given(*asked), zero_point=given(*asked).zero_point + 1)
        return plain(graph, x, weight, bias, ranges)
    finally:
        static.grid = given


def other_layers_ranges(graph, x, weight, bias, ranges, kept={}, plain=static.static_linear):  # noqa: B006  it is to be remembered
    """down of the third layer has the scales of its up."""
    kept[ranges.layer] = ranges
    return plain(graph, x, weight, bias, kept["layers.2.mlp.up"] if ranges.layer == "layers.2.mlp.down" else ranges)


def lost_bias(graph, x, weight, bias, ranges, plain=static.static_linear):
    return plain(graph, x, weight, -1 if ranges.layer == "layers.1.attention.v" else bias, ranges)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            other_zero_point,
            r"layers.2.mlp.up: the integers of its input have scale \S+ and zero point (-?\d+); \S+ and (-?\d+) by the calibrated range",
        ),
        (
            other_layers_ranges,
            r"not built as the plan says: .*layers.2.mlp.down: the integers of its input have scale .* of its output have scale",
        ),
        pytest.param(lost_bias, "not built as the plan says", marks=pytest.mark.slow),
    ],
)
def test_a_fault_is_found(plan, tmp_path, monkeypatch, fault, said):
    monkeypatch.setattr(ops, "static_linear", fault)
    with pytest.raises(GateError, match=said):
        export(checkpoint_path(), tmp_path / "out", plan(), witness=False)


@pytest.mark.parametrize("target", ["executorch-xnnpack", "litertlm-cpu", "tflite-compat", "executorch-hexagon-sm8550"])
@pytest.mark.parametrize("precision", ["int8-static", "int16x8"])
def test_refused_where_no_kernel_is(plan, target, precision):
    asked = load_plan(plan(**{"int8-static": precision, '"fp32"': '"fp16"'}))
    with pytest.raises(
        FirstTokenError, match=rf"{precision} is not possible for 'layers.0.attention.q' on target .*expected one of .*\(nearest: int8\)"
    ):
        resolve(asked, open_decoder(Checkpoint(checkpoint_path())), open_target(target))


@pytest.mark.parametrize(
    ("replaced", "said"),
    [
        ({'"layers.*"\n': '"embedding"\n'}, "int8-static is not possible for 'embedding' on target 'tflite-xnnpack'; expected one of fp32, fp16, int8"),
        ({'"layers.*"\n': '"layers.*.core"\n', "layers.*.attention.core": "head"}, "int8-static is not possible for 'layers.0.attention.core'"),
        ({'"int8-static"': '"int16x8"'}, "int16x8 is not possible for 'layers.0.attention.q' on target 'tflite-xnnpack'"),
        ({'"int8-static"': '"int8"'}, "range is for int8-static and int16x8, int8 has no calibrated ranges; leave range out"),
        ({'range = "mse"': 'range = "moving-average"'}, "'min-max', 'percentile' or 'mse'"),
        ({'range = "mse"': 'outliers = "apart"'}, "outliers are told apart token by token, and int8-static has one scale for all tokens"),
        ({"summary": "smooth = true\nsummary"}, "int8-static does not go together with smooth = true"),
        ({'range = "mse"': "group = 32"}, "group is for int4, int8-static has always one scale a row"),
    ],
)  # fmt: skip
def test_refused_by_name(plan, replaced, said):
    decoder, target = open_decoder(Checkpoint(checkpoint_path())), open_target("tflite-xnnpack")
    with pytest.raises(FirstTokenError, match=said):
        resolve(load_plan(plan(**replaced)), decoder, target)


def test_text_that_the_proof_runs_is_refused(plan, tmp_path):
    from firsttoken.demo import held_out_text

    path = tmp_path / "text.txt"
    path.write_text(held_out_text())
    with pytest.raises(FirstTokenError, match=r"calibration text text.txt: shares \d+ words in a row"):
        export(checkpoint_path(), tmp_path / "out", plan(), witness=False, calibration=path)
