"""Layers between calibrated integers on the NPU: all taken, computed in them, the numbers the plan's; the CPU artifact rounds as it comes."""

import pytest
from hexagon_fixtures import SMALL

from firsttoken.backends.tflite.audit import read_header
from firsttoken.backends.tflite_hexagon import ops
from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import checkpoint_path
from firsttoken.pipeline import export
from firsttoken.prove.on_npu import prove_on_npu

PLAN = """
summary = "int16 and int8 between calibrated ranges"
[[rule]]
match = "layers.*.attention.core"
precision = "fp16"
[[rule]]
match = "layers.*.mlp.up"
precision = "int8-static"
[[rule]]
match = "layers.*"
precision = "int16x8"
range = "min-max"
[[rule]]
match = "*"
precision = "int8"
[gate]
mean_kld = 0.01
p99_kld = 0.1
same_top = 0.9
magnitude = 0.02
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "static.toml"
    path.write_text(PLAN)
    return path


@pytest.fixture(scope="module")
def bundle(hexagon_bundle, plan):
    return hexagon_bundle(plan=plan)


@pytest.fixture(scope="module")
def proven(bundle):
    return prove_on_npu(bundle, checkpoint_path(), most=(64, 16))


def test_every_operator_is_taken_and_the_numbers_are_the_plans(bundle, proven):
    manifest = read_manifest(bundle)
    for graph in manifest.npu_artifact.npu.graphs:
        assert graph.offloaded == graph.operators > 200 and graph.partitions == 1 and graph.left == []
    proof = proven.summary
    assert proof.passed, proof.misses
    assert proof.all.mean_kld < 0.004 and proof.twin.mean_kld < proof.twin.allowed_kld < 0.004


def test_the_audit_reads_scales_and_the_cpu_artifact_has_none(bundle, proven):
    rows = {row.layer: row for row in proven.audit}
    kinds = {name: (row.stored, row.computed, len(row.scales)) for name, row in rows.items()}
    assert kinds["layers.2.mlp.up"] == ("int8-static", "int8", 2) and kinds["layers.2.mlp.gate"] == ("int16x8", "int16", 2)
    assert kinds["head"] == ("int8", "fp16", 0)
    assert rows["layers.2.mlp.gate"].scales[0].zero_point == 0 != rows["layers.2.mlp.up"].scales[0].zero_point
    model, _ = read_header(bundle / read_manifest(bundle).cpu.file)
    assert not any(tensor.type == 7 for graph in model.subgraphs for tensor in graph.tensors), "int16, which no kernel of XNNPACK takes"


def test_the_cpu_artifact_is_that_of_int8(bundle, tmp_path):
    """To the byte: of the same plan, by its name too, with int8 in the static precisions' place."""
    plan = tmp_path / "static.toml"
    plan.write_text(PLAN.replace('range = "min-max"\n', "").replace("int8-static", "int8").replace("int16x8", "int8"))
    [other] = export(checkpoint_path(), tmp_path / "out", plan, ("tflite-xnnpack",), prove=False, **SMALL)
    assert (bundle / "model.tflite").read_bytes() == (other / "model.tflite").read_bytes()


@pytest.mark.slow
def test_a_scale_that_cuts_off_is_found(plan, tmp_path, monkeypatch, hexagon_libraries):
    from firsttoken.backends.tflite import ops as shared

    plain = shared.static_linear

    def wrong(graph, x, weight, bias, ranges):
        if ranges.layer == "layers.1.mlp.down":
            less = {"low": ranges.output.low / 8, "high": ranges.output.high / 8}
            ranges = ranges.model_copy(update={"output": ranges.output.model_copy(update=less)})
        return plain(graph, x, weight, bias, ranges)

    monkeypatch.setattr(shared, "static_linear", wrong)
    assert ops.HexagonOps.linear is shared.TfliteOps.linear
    [folder] = export(checkpoint_path(), tmp_path / "out", plan, ("tflite-hexagon-sm8550",), prove=False, **SMALL)
    proof = prove_on_npu(folder, checkpoint_path(), most=(64, 16)).summary
    assert any(miss.startswith("layers.1.mlp.down: the integers of its output have scale") for miss in proof.misses), proof.misses
    assert any(miss.startswith("not built as the plan says") for miss in proof.misses), proof.misses
