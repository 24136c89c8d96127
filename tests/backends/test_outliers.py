"""Outliers of a layer's input rounded by themselves: on both runtimes what the plan says, nearer to the checkpoint, and refused where it cannot be."""

import pytest

from firsttoken.backends.registry import open_target, resolve
from firsttoken.backends.tflite import ops, outliers
from firsttoken.bundle.manifest import read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError, GateError
from firsttoken.pipeline import export
from firsttoken.quant.plan import load_plan

PLAN = """
summary = "INT8, outliers apart"
[[rule]]
match = "layers.*.attention.core"
precision = "fp32"
[[rule]]
match = "embedding"
precision = "int8"
[[rule]]
match = "*"
precision = "int8"
outliers = "apart"
[gate]
mean_kld = 0.0006
p99_kld = 0.003
same_top = 0.97
magnitude = 0.01
"""


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "apart.toml"
    path.write_text(PLAN)
    return path


@pytest.mark.parametrize(
    "target", ["tflite-xnnpack", *(pytest.param(name, marks=pytest.mark.slow) for name in ("executorch-xnnpack", "litertlm-cpu"))]
)
def test_the_demo_is_three_times_nearer(plan, tmp_path, target):
    """0.0011 nats in INT8 (docs/figures.md); the twin has every layer's two roundings, and biases."""
    [folder] = export(checkpoint_path(), tmp_path / "out", plan, (target,), witness=False)
    proof = read_manifest(folder).need_proof()
    assert proof.passed and proof.all.mean_kld < 4.5e-4
    assert proof.twin.mean_kld < proof.twin.allowed_kld < 6e-4


def test_a_bias_in_one_of_two_products_is_found(plan, tmp_path, monkeypatch):
    """XNNPACK packs a bias with its weight, and its cache knows a packed weight by the weight alone: both products get it, or none."""

    def with_bias(graph, x, weight, bias):
        inner, outer = outliers.split(graph, x)
        return graph.add(graph.fully_connected(inner, weight, bias), graph.fully_connected(outer, weight, -1))

    monkeypatch.setattr(ops, "apart", with_bias)
    with pytest.raises(GateError, match="not built as the plan says"):
        export(checkpoint_path(), tmp_path / "out", plan, witness=False)


@pytest.mark.parametrize(
    ("rule", "target", "said"),
    [
        (
            'match = "*"\nprecision = "fp16"',
            "tflite-xnnpack",
            "outliers are kept apart where a layer's input is rounded to int8, which fp16 does not do",
        ),
        ('match = "*"\nprecision = "int8"', "tflite-xnnpack", "outliers are kept apart of linear layers' inputs, but 'embedding' is none"),
        (
            'match = "head"\nprecision = "int8"',
            "tflite-hexagon-sm8550",
            "target 'tflite-hexagon-sm8550' cannot keep the outliers of 'head' apart",
        ),
    ],
)
def test_refused_where_nothing_is_rounded_or_it_cannot_be(tmp_path, rule, target, said):
    path = tmp_path / "wrong.toml"
    rest = '[[rule]]\nmatch = "*"\nprecision = "fp16"\n' if '"*"' not in rule else ""
    path.write_text(
        f'summary = "x"\n[[rule]]\n{rule}\noutliers = "apart"\n{rest}[gate]\nmean_kld = 1\np99_kld = 1\nsame_top = 0.5\nmagnitude = 0.1\n'
    )
    with pytest.raises(FirstTokenError, match=said):
        resolve(load_plan(path), open_decoder(Checkpoint(checkpoint_path())), open_target(target))
