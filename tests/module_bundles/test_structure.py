"""Every way in which a layer of a written file is not what was asked."""

import pytest
from module_subjects import words_program

from firsttoken.bundle.integer_facts import IntegerScale
from firsttoken.bundle.manifest import AuditRow
from firsttoken.module_bundles.structure import looked_up_at_fixed_places, missed_structure, problems_of
from firsttoken.modules.describe import describe_program
from firsttoken.modules.layers import ModuleLayer, module_layers


def row(asked, stored, computed, delegated=True, scales=0):
    return AuditRow(
        layer="a", asked=asked, stored=stored, computed=computed, delegated=delegated, scales=[IntegerScale(scale=1, zero_point=0)] * scales
    )


def layer(kind="linear"):
    return ModuleLayer("a", kind, ("a.weight",), ("a",), (4, 4))


@pytest.mark.parametrize(
    ("kind", "found", "problem"),
    [
        ("linear", row("int8", "int8", "int8"), ""),
        ("linear", row("int8-weight", "int8", "fp32"), ""),
        ("linear", row("int8-weight", "int8", "int8"), "computed in int8"),
        ("linear", row("int8", "int8", "fp32"), "computed in fp32"),
        ("linear", row("int8", "fp32", "int8"), "stored fp32"),
        ("conv", row("int8", "int8", "int8", delegated=False), "not taken by the delegate"),
        ("conv", row("int8-static", "int8", "int8", scales=2), ""),
        ("conv", row("int8-static", "int8", "int8"), "no scales of their own"),
        ("linear", row("fp16", "fp16", "fp32"), ""),
        ("embedding", row("int8-weight", "int8", "", delegated=False), ""),
        ("embedding", row("int8-weight", "fp32", ""), "stored fp32"),
        ("core", row("fp32", "", "int8"), "computed in int8"),
    ],
)
def test_a_row(kind, found, problem):
    problems = problems_of(found, layer(kind), found.asked)
    assert (len(problems) == 1 and problem in problems[0]) if problem else not problems


def test_rows_and_layers_are_the_same():
    module = describe_program(words_program()[0], "words")
    layers = module_layers(module.program)
    assert [(one.name, looked_up_at_fixed_places(module, one)) for one in layers if one.kind == "embedding"] == [
        ("table", False),
        ("places", True),
    ]
    rows = [AuditRow(layer=one.name, asked="fp32", stored="fp32", computed="fp32", delegated=True) for one in layers]
    precisions = dict.fromkeys((one.name for one in layers), "fp32")
    assert not missed_structure(rows, module, layers, precisions)
    assert missed_structure(rows[1:], module, layers, precisions) == [f"{layers[0].name}: not in the artifact's audit"]
    assert "twice" in missed_structure([*rows, rows[0]], module, layers, precisions)[0]
    assert "not in the module" in missed_structure([*rows, row("fp32", "fp32", "fp32")], module, layers, precisions)[0]
