"""``best.toml`` is the user's file with other values: comments stay, paths lead to the same files, and it reads back as what was found."""

import pytest

from firsttoken.distill.recipe import load_recipe
from firsttoken.distill.recipe_search.best import best_recipe, check_written
from firsttoken.distill.recipe_search.space import space_of, with_values
from firsttoken.errors import FirstTokenError

RECIPE = """# my recipe
summary = "test"
temperature = 2 # a number
[[teacher]]
checkpoint = "tiny" # beside it
[student.cut]
layers = 1
[data]
held_out = ["text/held_out.md"]
length = 32
[[data.train]]
files = ["text/part*.txt", "{stdlib}/json/*.py"]
[[loss]]
kind = "forward_kl"
[[loss]]
kind = "cross_entropy"
weight = { start = 0.4, end = 0.2 }

# states
[[loss]]
kind = "hidden_l2"

# how long
[training]
steps = 2

[search]
trials = 4
"""


@pytest.fixture
def beside(tmp_path, tiny_model, texts):
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "tiny").symlink_to(tiny_model)
    (folder / "text").symlink_to(texts)
    (folder / "mine.toml").write_text(RECIPE, encoding="utf-8")
    return folder / "mine.toml"


def test_values_comments_and_paths(beside, tmp_path):
    recipe = load_recipe(beside)
    space = space_of(recipe, {}, ())
    values = {"learning_rate": 2e-4, "temperature": 1.5, "weight_cross_entropy": 0.8, "weight_hidden_l2": 0.5, "pair_0": 0}
    found = with_values(recipe, space, values)
    folder = tmp_path / "out/search"
    folder.mkdir(parents=True)
    text = best_recipe(recipe, beside.read_text(encoding="utf-8"), found, space, folder, ["found by a test"])
    for line in (
        "# found by a test",
        "# my recipe",
        "temperature = 1.5 # temperature was 2, searched from 0.666667 to 6",
        "weight = { start = 0.8, end = 0.4 } # weight_cross_entropy was 0.4, searched from 0.04 to 4",
        "pairs = [[0, 0]] # pair_0 was 1, searched from 0 to 1",
        "learning_rate = 0.0002 # learning_rate was 0.0001, searched from 2e-05 to 0.0005",
    ):
        assert line in text.splitlines()
    assert text.index("pairs =") < text.index("# how long\n[training]") and "[search]" not in text
    (folder / "best.toml").write_text(text, encoding="utf-8")
    check_written(folder / "best.toml", found)
    read = load_recipe(folder / "best.toml")
    assert read.teacher_folder().resolve() == recipe.teacher_folder().resolve()
    assert (folder / read.data.held_out[0]).resolve() == (beside.parent / "text/held_out.md").resolve()
    assert read.data.train[0].files[1] == "{stdlib}/json/*.py" and (folder / read.data.train[0].files[0]).parent.is_dir()
    with pytest.raises(FirstTokenError, match=r"is not the recipe that was found \(training differ\)"):
        check_written(folder / "best.toml", with_values(recipe, space, values | {"learning_rate": 3e-4}))


def test_a_recipe_made_in_python(make_recipe, tmp_path):
    recipe = make_recipe({"training.learning_rate": None})
    space = space_of(recipe, {}, ())
    found = with_values(recipe, space, {"learning_rate": 2e-4, "temperature_start": 2.5})
    path = tmp_path / "best.toml"
    path.write_text(best_recipe(recipe, "", found, space, tmp_path, []), encoding="utf-8")
    check_written(path, found)
    assert load_recipe(path).what_decides() == found.what_decides()
