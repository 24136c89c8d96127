"""One command from a classifier's teacher to proven bundles; what is finished is not done again."""

import pytest

from firsttoken import cli
from firsttoken.bundle.module_manifest import read_module_manifest
from firsttoken.distill.classifiers.chain import chain_classifier
from firsttoken.distill.classifiers.recipe import load_classifier
from firsttoken.errors import FirstTokenError


def quick(steps=12):
    recipe = load_classifier("digits-cnn")
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"steps": steps})})


@pytest.mark.slow
def test_from_teacher_to_bundles(tmp_path):
    lines, again = [], []
    made = chain_classifier(quick(), tmp_path, say=lines.append)
    assert [bundle.name for bundle in made.bundles] == ["tflite-xnnpack", "executorch-xnnpack"]
    names = [step.name for step in made.steps]
    assert names == [
        "teacher",
        "student from labels",
        "student distilled",
        "student, float",
        *(f"{b.name}, module-int8" for b in made.bundles),
    ]
    by_name = {step.name: step for step in made.steps}
    for bundle in made.bundles:
        manifest, step = read_module_manifest(bundle), by_name[f"{bundle.name}, module-int8"]
        assert manifest.proof.passed and not manifest.proof.samples.random and step.accuracy == manifest.proof.accuracy
        assert manifest.lineage.recipe == "digits-cnn" and abs(step.accuracy - by_name["student, float"].accuracy) <= 0.02
        assert step.bytes < by_name["student, float"].bytes and step.of == manifest.proof.labelled
    assert {row.bundle for row in made.times} == set(made.bundles) and all(len(row.load) == 3 and row.warm for row in made.times)
    second = chain_classifier(quick(), tmp_path, say=again.append)
    assert second.steps == made.steps and sum("already" in line for line in again) == 3 and not any("seed" in line for line in again)
    with pytest.raises(FirstTokenError, match="was made from another recipe; replace it with --force"):
        chain_classifier(quick(13), tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digits-cnn", "--prompts", "8"], "--prompts is for decoders, and 'digits-cnn' is a classifier's recipe; leave it out"),
        (["digits-cnn", "-p", "module-int9"], "did you mean 'module-int8'"),
        (["digits-cnn", "-t", "tflite-hexagon-sm8650"], "'tflite-hexagon-sm8650': takes decoders alone"),
        (["docstring-tasks"], "has several tasks"),
    ],
)
def test_what_is_refused_before_the_work(tmp_path, capsys, arguments, said):
    assert cli.run(["distill", "chain", *arguments, "-o", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and said in lines[0] and not (tmp_path / "out").exists()
