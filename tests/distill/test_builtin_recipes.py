"""A short form of every built-in recipe on the demo checkpoint: what must hold in it holds."""

import json

import pytest

from firsttoken.distill.distill import distill
from firsttoken.distill.recipe import check_recipe, load_recipe, recipe_names


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_losses_fall_and_the_student_beats_its_cut(name, tmp_path):
    values = load_recipe(name).model_dump(mode="json", by_alias=True)
    values["data"] |= {"length": 64, "held_out_windows": 8}
    values["data"]["train"][0]["files"] = ["{stdlib}/json/*.py"]
    values["training"] |= {"steps": 24, "batch": 4, "warmup_steps": 2, "evaluate_every": 24}
    if values["student"]["cut"]:
        values["student"]["cut"] |= {"steps_between": min(values["student"]["cut"]["steps_between"], 2), "calibration_windows": 8}
    if values["quantize"]:
        values["quantize"] |= {"steps": 4, "cache_length": 256, "when": "always"}
    distill(check_recipe(values), tmp_path / "student", keep_work=True)
    figures = json.loads((tmp_path / "student/distillation.json").read_text())["figures"]
    cut = figures["student as cut"]
    assert figures["student as written"]["cross_entropy"] < cut["cross_entropy"] and figures["student"]["kld"] < cut["kld"]
    assert figures["teacher checkpoint"]["cross_entropy"] < figures["student"]["cross_entropy"]  # it is not more than its teacher
    last = sorted((tmp_path / "student.work").glob("stage-*"), key=lambda path: int(path.name.split("-")[1]))[-1]
    history = [entry for entry in json.loads((last / "student/distillation.json").read_text())["history"] if "loss" in entry]
    for part in (part for part in history[0] if part.startswith("part_")):
        values = [entry[part] for entry in history]
        # a pair of layers that joins later starts high; the others must have come down
        assert sum(values[-8:]) < sum(values[:8]) or (name == "demo-hidden" and part in ("part_hidden_l2", "part_attention")), part
