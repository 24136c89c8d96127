"""``arch``: layers by name in YAML and TOML, and each mistake as one line."""

import json
import tomllib

import pytest

from firsttoken.cli import run as command
from firsttoken.distill.classifiers.arch import LAYERS
from firsttoken.distill.classifiers.recipe import ClassifierRecipe, is_classifier, load_classifier
from firsttoken.errors import FirstTokenError

RECIPE = """
summary: own
classifier: {data: digits}
teacher: {kind: cnn}
student:
  arch:
    - conv: {channels: 4}
    - relu
    - global_average_pool
    - dense
loss: [{kind: cross_entropy}]
training: {steps: 5}
"""


def written(tmp_path, text, name="own.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_yaml_and_toml_say_the_same(tmp_path):
    toml = """
summary = "own"
classifier = {data = "digits"}
teacher = {kind = "cnn"}
student = {arch = [{conv = {channels = 4}}, "relu", "global_average_pool", {dense = {}}]}
loss = [{kind = "cross_entropy"}]
training = {steps = 5}
"""
    path = written(tmp_path, RECIPE)
    assert is_classifier(path)
    ours, theirs = load_classifier(path), load_classifier(written(tmp_path, toml, "own.toml"))
    assert ours == theirs and [each.layer for each in ours.student.arch] == ["conv", "relu", "global_average_pool", "dense"]
    assert load_classifier(written(tmp_path, RECIPE, "other.yml")).student == ours.student
    again = ClassifierRecipe.model_validate(json.loads(ours.model_dump_json(by_alias=True)), by_alias=True, by_name=False)
    assert again == ours  # as distillation.json has it
    assert tomllib.loads(toml)["training"] == {"steps": 5}


@pytest.mark.parametrize(
    "change,message",
    [
        (("- conv: {channels: 4}", "- conf: {channels: 4}"), "layer 'conf' is unknown (did you mean 'conv'?)"),
        (("- relu", "- global_averge_pool"), "did you mean 'global_average_pool'"),
        (("channels: 4", "chanels: 4"), "chanels is not a known field (did you mean 'channels'"),
        (("channels: 4", "channels: 0"), "student.arch.0.conv.channels is 0"),
        (("channels: 4", "channels: 4, kernel: 2"), "student.arch.0.conv.kernel is 2"),
        (("- conv: {channels: 4}", "- conv"), "student.arch.0.conv.channels is missing"),
        (("- conv: {channels: 4}", "- conv: 4"), "layer conv: its arguments are '4'; expected a table"),
        (("- relu", "- {relu: , dropout: }"), "a layer is one name with its arguments, and here are 2: relu, dropout"),
        (("    - dense", ""), "the last layer has to be dense without units"),
        (("- dense", "- dense: {units: 10}"), "the last layer has to be dense without units"),
        (("- relu", "- dense"), "the last layer has to be dense without units, which gives the classes, and no other is"),
        (("- global_average_pool", "- relu"), "arch, layer 3 (dense): is behind feature maps [4, 8, 8]"),
        (("- relu", "- max_pool: {size: 9}"), "feature maps are 8 by 8 there, less than its size 9"),
        (("- relu", "- flatten"), "arch, layer 2 (global_average_pool): takes pictures or feature maps"),
        (("  arch:", "  width: 3\n  arch:"), "width is the size of a kind; leave it out, or give kind"),
        (("  arch:", "  kind: cnn\n  arch:"), "a model needs kind, arch, make or prune; give exactly one of them"),
        (("  arch:", "  widths: [0.5, 0.75]\n  arch:"), "expected them to rise, to 1.0 at the end"),
        (("teacher: {kind: cnn}", "teacher: {prune: {keep: 0.5}}"), "teacher.0.prune is not a known field"),
        (("summary: own", "summary: own\nsummary: other"), "cannot be read as YAML (line 3: summary is there twice"),
        (("summary: own", "summary: own\nlosses: []"), "losses is not a known field (did you mean 'loss'"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capfd, change, message):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")
    assert change[0] in RECIPE
    path = written(tmp_path, RECIPE.replace(*change))
    assert command(["distill", "run", str(path), "-o", str(tmp_path / "student")]) == 2
    error = capfd.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "student").exists()


def test_a_search_wants_toml(tmp_path):
    from firsttoken.distill.recipe_search.search import toml_of

    with pytest.raises(FirstTokenError, match="a search writes its best recipe as TOML"):
        toml_of(tmp_path / "own.yaml")


def test_the_docs_have_every_layer():
    from pathlib import Path

    text = (Path(__file__).parents[3] / "docs/small-models.md").read_text(encoding="utf-8")
    assert [name for name in LAYERS if f"`{name}`" not in text] == []
