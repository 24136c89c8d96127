"""One command from teacher to first token; what is finished is not done again."""

import json

import pytest

from firsttoken.bundle.manifest import read_manifest
from firsttoken.distill.chain import chain, reusable
from firsttoken.distill.recipe import Recipe
from firsttoken.errors import FirstTokenError
from firsttoken.measure.bench import BenchSettings
from firsttoken.measure.measurement import read_measurement

QUICK = BenchSettings(prompts=(16,), repeat=1, decode_tokens=2, processes=1)


def run(recipe: Recipe, output, lines, **options):
    options = {"plan": "int8", "targets": ("tflite-xnnpack",), "cache_length": 64, "text_tokens": 64, "bench_settings": QUICK} | options
    return chain(recipe, output, say=lines.append, **options)


@pytest.mark.slow
def test_from_teacher_to_first_token(make_recipe, tmp_path, tiny_model):
    lines, recipe = [], make_recipe()
    made = run(recipe, tmp_path / "out", lines)
    assert list(made.scores) == ["tiny", "student", "tflite-xnnpack"]
    student = {score.measure: score.value for score in made.scores["student"]}
    bundle = {score.measure: score.value for score in made.scores["tflite-xnnpack"]}
    assert student["KLD"] > 0 and bundle["perplexity"] == pytest.approx(student["perplexity"], rel=0.02)
    manifest = read_manifest(made.bundles[0])
    assert manifest.cpu.proof.passed and manifest.lineage.recipe == "tiny" and manifest.cpu.proof.text == "held_out.txt"
    [result] = read_measurement(tmp_path / "out/host.measurement.json").results
    assert not result.failures and {run.prompt_tokens for run in result.runs} == {16}
    again = []
    assert run(recipe, tmp_path / "out", again).scores["student"] == made.scores["student"]
    assert sum("already" in line for line in again) == 2 and not any("step" in line for line in again)
    with pytest.raises(FirstTokenError, match="was made from another recipe; replace it with --force"):
        run(make_recipe({"seed": 4}), tmp_path / "out", [])
    run(make_recipe({"seed": 4}), tmp_path / "out", [], force=True)
    changed = read_manifest(made.bundles[0]).lineage
    assert changed.recipe_sha256 != manifest.lineage.recipe_sha256


def test_a_chain_takes_one_process(make_recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(FirstTokenError, match="firsttoken distill chain runs in one process, and torchrun started 2; train with"):
        chain(make_recipe(), tmp_path / "out")


def test_the_package_itself_can_be_called(make_recipe, tmp_path):
    import firsttoken

    assert firsttoken.distill(make_recipe({"training.steps": 1}), tmp_path / "student", say=lambda _: None) == tmp_path / "student"
    with pytest.raises(AttributeError, match="no attribute 'destill'"):
        firsttoken.destill  # noqa: B018


def test_a_student_of_before_a_field_was_there_is_taken(make_recipe, tmp_path):
    recipe = make_recipe({"training.steps": 1})
    said = recipe.what_decides()
    for name in ("on_policy", "sequence_level"):
        said.pop(name)
    (tmp_path / "distillation.json").write_text(json.dumps({"recipe": said}))
    assert reusable(tmp_path, recipe, force=False)
    with pytest.raises(FirstTokenError, match="was made from another recipe"):
        reusable(tmp_path, make_recipe({"training.steps": 2}), force=False)
