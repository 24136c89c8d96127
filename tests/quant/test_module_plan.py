"""Plans for modules: rules by name and kind, what a kind cannot have, and what is taken otherwise."""

from typing import get_args

import pytest

from firsttoken.errors import FirstTokenError
from firsttoken.modules.layers import Kind, ModuleLayer
from firsttoken.precisions import PRECISIONS
from firsttoken.quant.module_plan import POSSIBLE, LayerKind, load_module_plan, module_plan_names
from firsttoken.quant.plan import load_plan, plan_names

LAYERS = [ModuleLayer(name, kind, (f"{name}.weight",), (name,), (4, 4)) for name, kind in (("stem", "conv"), ("block.each", "depthwise"), ("words", "embedding"), ("head", "linear"), ("core", "core"))]  # fmt: skip
ALL = dict(POSSIBLE)
GATE = "[gate]\nsame_top = 0.9\nmax_error = 1\ncosine = 0.9\nmagnitude = 0.1\naccuracy_drop = 0.1\n"


def plan(tmp_path, rules):
    path = tmp_path / "mine.toml"
    path.write_text(f'summary = "mine"\nfor = "module"\n{rules}\n{GATE}')
    return load_module_plan(path)


def test_kinds_are_the_layers_kinds():
    assert set(get_args(LayerKind)) == set(get_args(Kind)) == set(POSSIBLE)
    assert {one for can in POSSIBLE.values() for one in can} <= set(PRECISIONS)


def test_built_in_plans_are_apart_from_decoders():
    assert set(module_plan_names()) == {"module-fp16", "module-fp32", "module-int8", "module-int8-static"}
    assert not set(module_plan_names()) & set(plan_names())
    with pytest.raises(FirstTokenError, match="is for modules .* this is a decoder"):
        load_plan("module-int8")
    with pytest.raises(FirstTokenError, match="is for decoders, and this is a module"):
        load_module_plan("int8")


def test_a_file_for_the_other_kind(tmp_path):
    plan(tmp_path, '[[rule]]\nprecision = "fp32"')
    with pytest.raises(FirstTokenError, match='says for = "module"'):
        load_plan(tmp_path / "mine.toml")


def test_by_kind():
    got = load_module_plan("module-int8").resolve(LAYERS, "t", ALL)
    assert got.precisions == {"stem": "int8", "block.each": "int8-weight", "words": "int8-weight", "head": "int8", "core": "fp32"}
    assert not got.notes and not got.ranges


def test_otherwise_is_said():
    got = load_module_plan("module-int8").resolve(
        LAYERS, "t", {**ALL, "conv": ("fp32",)}, lambda layer, precision: f"no {precision} of {layer.name}"
    )
    assert got.precisions["stem"] == "fp32" and got.notes == ("conv in fp32, not int8: stem (no int8 of stem)",)


def test_the_range_of_a_static_layer():
    got = load_module_plan("module-int8-static").resolve([layer for layer in LAYERS if layer.kind != "core"], "t", ALL)
    assert got.ranges == {"stem": "min-max", "block.each": "min-max", "head": "min-max"}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (
            '[[rule]]\nprecision = "int8"',
            "int8 is not possible for 'block.each' (depthwise) on target 't': it would run outside XNNPACK, 51 times slower",
        ),
        ('[[rule]]\nkind = "conv"\nprecision = "int4"\n[[rule]]\nprecision = "fp32"', "17 times slower"),
        ('[[rule]]\nprecision = "int16x8"', "14 to 29 times slower"),
        ('[[rule]]\nkind = "embedding"\nprecision = "int8-static"\n[[rule]]\nprecision = "fp32"', "only convolution networks"),
        (
            '[[rule]]\nmatch = "haed"\nprecision = "fp32"\n[[rule]]\nprecision = "fp32"',
            "rule 'haed' matches no layer (did you mean 'head'?)",
        ),
        ('[[rule]]\nprecision = "fp32"\n[[rule]]\nmatch = "head"\nprecision = "fp16"', "rule 'head' never counts"),
        ('[[rule]]\nkind = "linear"\nprecision = "fp32"', "no rule matches layer 'stem' (conv)"),
        ('[[rule]]\nkind = "lineer"\nprecision = "fp32"', "kind.0 is 'lineer'"),
        ('[[rule]]\nprecision = "int8"\nrange = "mse"', "range is for int8-static and int16x8"),
    ],
)
def test_refused(tmp_path, rules, said):
    with pytest.raises(FirstTokenError) as refused:
        plan(tmp_path, rules).resolve(LAYERS, "t", ALL)
    assert said in str(refused.value)
