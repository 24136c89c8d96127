"""Recipes: the built-in ones load, and every mistake is one clear line."""

import pytest

from firsttoken.distill.recipe import load_recipe, recipe_names
from firsttoken.errors import FirstTokenError


@pytest.mark.parametrize("name", recipe_names())
def test_every_built_in_recipe_loads_and_its_files_are_there(name):
    from firsttoken.distill.documents import find_files
    from firsttoken.distill.students import plan_stages, tokenizer_folder

    recipe = load_recipe(name)
    assert recipe.name == name and recipe.summary
    assert plan_stages(recipe)[-1].steps == recipe.training.steps
    assert find_files(recipe, recipe.data.held_out) and all(find_files(recipe, source.files) for source in recipe.data.train)
    assert (tokenizer_folder(recipe) / "tokenizer.json").exists()


def test_there_are_built_in_recipes():
    assert "demo-cut" in recipe_names()


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"loss.0.kind": "foward_kl"}, "loss.0.kind is 'foward_kl'.*did you mean 'forward_kl'"),
        ({"training.step": 3}, "training.step is not a known field"),
        ({"training.steps": 0}, "training.steps is 0; expected at least 1 where there is no .quantize."),
        ({"training.steps": None}, "training.steps is missing"),
        ({"teacher": []}, "forward_kl needs a \\[\\[teacher\\]\\]"),
        ({"teacher.0.cache": "x"}, "either a checkpoint or a cache"),
        ({"student.checkpoint": "x"}, "exactly one of the three"),
        ({"temperature": {"start": 5, "end": 0}}, "temperature reaches 0"),
        ({"loss.0.pairs": [[0, 0]]}, "pairs has no meaning for forward_kl"),
        ({"loss.1.weight": -1}, "weight.start is -1"),
        ({"training.micro_batch": 3}, "batch 4 is not a multiple of micro_batch 3"),
        (
            {"student.cut": None, "student.checkpoint": "x", "teacher": [{"cache": "c"}], "loss.0.kind": "hidden_l2"},
            "looks inside the teacher",
        ),
        ({"loss.1.kind": "triplet", "loss.1.layer": "x"}, "loss triplet compares samples of classes; it is for a recipe with .classifier."),
        ({"training.keep": "best", "training.save_every": 2}, "not a multiple of evaluate_every"),
    ],
)
def test_mistakes_are_named(make_recipe, changes, message):
    with pytest.raises(FirstTokenError, match=message) as error:
        make_recipe(changes)
    assert "\n" not in str(error.value)


def test_names_and_files(tmp_path):
    with pytest.raises(FirstTokenError, match="recipe 'demo-cuts' is unknown.*did you mean 'demo-cut'"):
        load_recipe("demo-cuts")
    path = tmp_path / "mine.toml"
    path.write_text("summary = ", encoding="utf-8")
    with pytest.raises(FirstTokenError, match="cannot be read as TOML"):
        load_recipe(path)


def test_paths_are_relative_to_the_recipe_and_placeholders_are_known(make_recipe, tmp_path):
    recipe = make_recipe().model_copy(update={"folder": str(tmp_path)})
    assert recipe.path("data/x.txt") == tmp_path / "data/x.txt"
    assert recipe.path("{demo}/held_out.txt").exists() and recipe.path("{stdlib}/json").is_dir()
    with pytest.raises(FirstTokenError, match="placeholder 'dmo' is unknown.*did you mean 'demo'"):
        recipe.path("{dmo}/x")


def test_a_checkpoint_may_be_a_short_name(make_recipe, real_model, tmp_path):
    recipe = make_recipe().model_copy(update={"folder": str(tmp_path)})
    assert recipe.checkpoint_folder("smollm2") == real_model
    (tmp_path / "smollm2").mkdir()
    assert recipe.checkpoint_folder("smollm2") == tmp_path / "smollm2"  # a folder of the recipe comes first
    (tmp_path / "models").mkdir()
    assert recipe.checkpoint_folder("models/teecher") == tmp_path / "models/teecher"  # a misspelt path, not asked of the hub


def test_a_recipe_in_yaml_is_the_one_in_toml(tmp_path):
    import tomllib

    import yaml

    from firsttoken.declarations import declaration_path

    text = declaration_path("recipes", "demo-hidden").read_text(encoding="utf-8")
    for ending in ("yaml", "yml"):
        path = tmp_path / f"own.{ending}"
        path.write_text(yaml.safe_dump(tomllib.loads(text)))
        assert load_recipe(path).what_decides() == load_recipe("demo-hidden").what_decides()
    path.write_text("summary: x\nstudnet: {config: a}\n")
    with pytest.raises(FirstTokenError, match="own.yml: studnet is not a known field .did you mean 'student'"):
        load_recipe(path)
