"""The width for a device: what fits is taken, and is the network that the student holds."""

import json

import pytest
import torch
from safetensors.torch import load_file

from firsttoken.cli import run as command
from firsttoken.distill.classifiers.recipe import load_classifier
from firsttoken.distill.classifiers.run import distill_classifier


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")
    recipe = load_classifier("digits-elastic")
    short = {"steps": 2, "evaluate_every": 2}
    teachers = tuple(each.model_copy(update={"steps": 2}) for each in recipe.teachers)
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update=short), "teachers": teachers})
    return distill_classifier(recipe, tmp_path_factory.mktemp("elastic") / "student", say=lambda _: None)


@pytest.mark.parametrize(
    "limit,width,file",
    [
        ((), 1.0, "model.pt2"),
        (("--max-multiply-adds", "30000"), 0.5, "model-width-0.5.pt2"),
        (("--max-parameters", "5000", "--max-multiply-adds", "10000"), 0.25, "model-width-0.25.pt2"),
        (("--max-time", "10000"), 1.0, "model.pt2"),
    ],
)
def test_the_widest_that_fits_is_written(student, tmp_path, capfd, limit, width, file):
    assert command(["distill", "width", str(student), "-o", str(tmp_path / "chosen"), "--json", *limit]) == 0
    said = json.loads(capfd.readouterr().out)
    assert said["width"] == width and ("milliseconds" in said) == ("--max-time" in limit) and said.get("milliseconds", 1) > 0
    inputs = torch.randn(5, 1, 8, 8)
    wanted, got = (torch.export.load(path).module()(inputs) for path in (student / file, tmp_path / "chosen/model.pt2"))
    assert torch.equal(wanted, got)
    shared, own = load_file(student / "model.safetensors"), load_file(tmp_path / "chosen/model.safetensors")
    assert torch.equal(own["0.weight"], shared["shared.0.weight"][: int(16 * width)]) and said["parameters"] < 6000
    record = json.loads((tmp_path / "chosen/distillation.json").read_text())
    assert record["programs"]["model.pt2"]["width"] == width and record["recipe"]["student"]["widths"] == [0.25, 0.5, 1.0]
    assert sorted(path.name for path in (tmp_path / "chosen").iterdir()) == record["files"]
    assert command(["distill", "width", str(student), "-o", str(tmp_path / "chosen"), "--force"]) == 0  # it is a student


def test_what_cannot_be_chosen_is_one_line(student, tmp_path, capfd):
    def refused(folder, *options):
        assert command(["distill", "width", str(folder), "-o", str(tmp_path / "chosen"), *options]) == 2
        error = capfd.readouterr().err
        assert error.count("\n") == 1 and not (tmp_path / "chosen").exists()
        return error

    assert "the narrowest has width 0.25, parameters 450" in refused(student, "--max-parameters", "10")
    assert "distillation.json" in refused(tmp_path)
    one = tmp_path / "one"
    one.mkdir()
    record = json.loads((student / "distillation.json").read_text())
    (one / "distillation.json").write_text(json.dumps(record | {"programs": {"model.pt2": {"parameters": 5}}}))
    assert "has one width; expected one of a recipe with student.widths" in refused(one)
    (one / "distillation.json").write_text(json.dumps(record))
    assert "does not exist, and distillation.json names it" in refused(one)
    for wrong in ((student / "model-width-0.5.pt2").read_bytes(), b"PK no program"):
        (one / "model.pt2").write_bytes(wrong)
        assert "is not the program that distillation.json names" in refused(one)
    for name, value in (("width", "wide"), ("parameters", None), ("multiply_adds", True), ("bytes", -1)):
        programs = {file: size | {name: value} for file, size in record["programs"].items()}
        (one / "distillation.json").write_text(json.dumps(record | {"programs": programs}))
        assert f"the {name} {value!r}; expected a number above 0" in refused(one)
