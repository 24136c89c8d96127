"""The gate on figures and audits made up for it."""

import numpy as np
import pytest

from firsttoken.backends.registry import find_backend
from firsttoken.bundle.figures import Figures
from firsttoken.bundle.integer_facts import CalibrationFacts, IntegerScale, Range, StaticLayer
from firsttoken.bundle.manifest import AuditRow
from firsttoken.prove.gate import missed_figures, missed_scales, missed_structure
from firsttoken.quant.plan import Gate

GOOD = Figures(
    tokens=1000,
    mean_kld=1e-3,
    p99_kld=1e-2,
    p999_kld=2e-2,
    same_top=0.98,
    perplexity=10,
    reference_perplexity=10,
    perplexity_change=0,
    magnitude_ratio=1.0,
)
GATE = Gate(mean_kld=0.02, p99_kld=0.2, same_top=0.92, magnitude=0.05)
ASKED = {
    "embedding": "int8",
    "layers.0.attention.q": "fp16",
    "layers.0.attention.core": "fp16",
    "layers.0.mlp.up": "int8",
    "head": "int4/row",
}


def rows(**changes):
    """An audit as asked, with rows replaced by (stored, computed, delegated)."""
    made = []
    for layer, asked in ASKED.items():
        stored, computed, delegated = changes.get(
            layer.replace(".", "_"), (asked, "fp32" if layer == "embedding" else asked.partition("/")[0], layer != "embedding")
        )
        made.append(AuditRow(layer=layer, asked=asked, stored=stored, computed=computed, delegated=delegated))
    return made


def test_good_figures_pass():
    assert missed_figures(GATE, GOOD, {"first": GOOD, "decode": GOOD}) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mean_kld": 0.021}, "mean KL divergence 0.021"),
        ({"p99_kld": 0.3}, "99th percentile"),
        ({"same_top": 0.9}, "same top token at 90.00%"),
        ({"magnitude_ratio": 1.06}, "magnitude 1.0600"),
        ({"magnitude_ratio": 0.94}, "magnitude 0.9400"),
        ({"mean_kld": float("nan")}, "mean KL divergence nan"),
    ],
)
def test_each_bound(change, said):
    [miss] = missed_figures(GATE, GOOD.model_copy(update=change), {})
    assert said in miss


def test_one_kind_of_call_that_is_wrong_alone():
    [miss] = missed_figures(GATE, GOOD, {"first": GOOD, "extend": GOOD.model_copy(update={"tokens": 5, "mean_kld": 1.0}), "decode": GOOD})
    assert "extend" in miss


def test_structure_as_asked():
    assert missed_structure(rows(), ASKED, find_backend("tflite-xnnpack")) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"layers_0_mlp_up": ("fp32", "fp32", True)},
            ["layers.0.mlp.up: asked int8, stored fp32", "layers.0.mlp.up: asked int8, computed in fp32"],
        ),
        ({"layers_0_attention_core": ("fp16", "fp32", True)}, ["layers.0.attention.core: asked fp16, computed in fp32"]),
        ({"head": ("int4/row", "int4", False)}, ["head: not taken by the delegate (xnnpack)"]),
        ({"head": ("int4/32", "int4", True)}, ["head: asked int4/row, stored int4/32"]),
        ({"embedding": ("fp32", "fp32", False)}, ["embedding: asked int8, stored fp32"]),
    ],
)
def test_structure_that_differs(change, said):
    assert missed_structure(rows(**change), ASKED, find_backend("tflite-xnnpack")) == said


def test_layers_that_are_missing_or_too_many():
    target = find_backend("tflite-xnnpack")
    assert missed_structure(rows()[:-1], ASKED, target) == ["head: not in the artifact's audit"]
    more = [*rows(), AuditRow(layer="layers.1.mlp.up", asked="int8", stored="int8", computed="int8", delegated=True)]
    assert missed_structure(more, ASKED, target) == ["layers.1.mlp.up: in the artifact, but not in the plan"]


def test_without_a_delegate_fp16_is_storage():
    compat = find_backend("tflite-none")
    stored_only = rows(layers_0_attention_q=("fp16", "fp32", False), layers_0_attention_core=("fp16", "fp32", False))
    assert missed_structure(stored_only, ASKED, compat) == []
    assert missed_structure(rows(layers_0_attention_q=("fp32", "fp32", False)), ASKED, compat) == [
        "layers.0.attention.q: asked fp16, stored fp32"
    ]


def calibrated(**ranges):
    covered = {name: Range(low=low, high=high, saturated=0, error=0) for name, (low, high) in ranges.items()}
    layer = StaticLayer(layer="layers.0.mlp.up", precision="int8-static", method="min-max", **covered)
    return CalibrationFacts(text="x", sha256="0" * 64, static=[layer])


def between(*scales):
    row = AuditRow(layer="layers.0.mlp.up", asked="int8-static", stored="int8-static", computed="int8", delegated=True)
    return [row.model_copy(update={"scales": [IntegerScale(scale=scale, zero_point=zero) for scale, zero in scales]})]


def test_scales_of_integers_are_those_of_the_calibrated_ranges():
    facts = calibrated(input=(-1.0, 1.55), output=(0.5, 2.55))
    right = float(np.float32(0.01))
    assert missed_scales(between((right, -28), (right, -128)), facts) == []
    [late] = missed_scales(between((right, -27), (right, -128)), facts)
    assert (
        late
        == "layers.0.mlp.up: the integers of its input have scale 0.01 and zero point -27; 0.01 and -28 by the calibrated range -1 to 1.55"
    )
    [wide] = missed_scales(between((right, -28), (0.02, -128)), facts)
    assert "of its output have scale 0.02" in wide
    [unknown] = missed_scales(between((right, -28), (right, -128)), None)
    assert "has no calibrated ranges of it" in unknown
    assert missed_scales(rows(), None) == []
