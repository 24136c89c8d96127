"""What is said of a field that is wrong in a file that a user wrote."""

import pytest

from firsttoken.declarations import names_at
from firsttoken.distill.recipe import Recipe
from firsttoken.errors import FirstTokenError, nearest
from firsttoken.quant.plan import Plan, load_plan

PLAN = """
summary = "mine"
[[rule]]
match = "layers.*.attention.core"
precision = "fp32"
[[rule]]
match = "head"
precision = "int4"
group = 64
[[rule]]
match = "*"
precision = "int8"
[gate]
mean_kld = 0.05
p99_kld = 0.2
same_top = 0.8
magnitude = 0.05
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('precision = "int4"', 'precison = "int4"', "rule.1.precison is not a known field (did you mean 'precision'?) (where match is 'head')"),
        ("mean_kld", "mean_kdl", "gate.mean_kdl is not a known field (did you mean 'mean_kld'?)"),
        ("group = 64", "groupe = 64", "rule.1.groupe is not a known field (did you mean 'group'?) (where match is 'head')"),
        ('summary = "mine"', 'summary = "mine"\nsmoth = true', "smoth is not a known field (did you mean 'smooth'?)"),
        ('"int8"', '"INT8"', "rule.2.precision is 'INT8'; input should be one of fp32, fp16, int8, int8-weight, int4, int8-static, int16x8 (did you mean 'int8'"),
        ("group = 64", 'group = "64"', "rule.1.group is '64'; input should be 'row', 32, 64, 128 or 256 (write 64 without quotation marks)"),
        ("group = 64", 'group = "rows"', "(did you mean 'row'?)"),
        ("[[rule]]", "[[rules]]", "rules is not a known field (did you mean 'rule'?)"),
        ('precision = "int4"\n', "", "rule.1.precision is missing (where match is 'head')"),
        ('summary = "mine"', 'summary = "mine"\nsmooth = "yes"', "smooth is 'yes'; input should be a valid boolean"),
        ('summary = "mine"', 'summary = "mine"\nsmooth = 1', "smooth is 1; input should be a valid boolean"),
        ('summary = "mine"', 'summary = "mine"\ngroup_size = 160', "group_size is 160; input should be 32, 64, 128 or 256"),
        ('summary = "mine"', 'summary = "mine"\ngroup_size = 96', "group_size is 96; input should be 32, 64, 128 or 256"),
    ],
)  # fmt: skip
def test_a_wrong_field_of_a_plan(tmp_path, old, new, said):
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    load_plan(path)
    assert old in PLAN
    path.write_text(PLAN.replace(old, new))
    with pytest.raises(FirstTokenError) as caught:
        load_plan(path)
    assert f"plan file {path}: {said}" in str(caught.value) or (said.startswith("(") and said in str(caught.value))


def test_what_concerns_the_whole_file_names_no_place(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(PLAN.replace('"int8"', '"int8-static"').replace('"mine"', '"mine"\nsmooth = true'))
    with pytest.raises(FirstTokenError, match=r"plan.toml: rule '\*': int8-static does not go together with smooth"):
        load_plan(path)


def test_names_of_fields_by_place():
    assert names_at(Plan, ()) == ["name", "summary", "group_size", "smooth", "rule", "gate"]
    assert "outliers" in names_at(Plan, ("rule", 3))
    assert names_at(Plan, ("gate",)) == ["mean_kld", "p99_kld", "same_top", "magnitude"]
    assert "checkpoint" in names_at(Recipe, ("teacher", 0))


def test_the_nearest_name_whatever_its_case():
    assert nearest("INT8", ["fp16", "int8"]) == " (did you mean 'int8'?)"
    assert nearest("smollm2", ["SmolLM2"]) == " (did you mean 'SmolLM2'?)"
    assert nearest("x", ["int8"]) == ""
