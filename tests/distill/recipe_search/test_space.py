"""What is searched of a recipe: only what it has, in ranges that hold its own values, and values that make a recipe."""

import pytest

from firsttoken.distill.recipe_search.space import rounded, space_of, with_values
from firsttoken.errors import FirstTokenError

INSIDE = {
    "loss": [
        {"kind": "forward_kl", "weight": 0.7},
        {"kind": "cross_entropy", "weight": 0.3},
        {"kind": "hidden_l2", "weight": {"start": 0.1, "end": 0.02}},
        {"kind": "attention", "weight": 0},
    ]
}


def test_what_the_recipe_has_is_searched_and_the_rest_is_said(make_recipe):
    space = space_of(make_recipe(INSIDE), {}, ("temperature_end",))
    # the student's one layer is paired with the last of the teacher's two
    assert space.own == {"learning_rate": 1e-3, "temperature_start": 5, "weight_cross_entropy": 0.3, "weight_hidden_l2": 0.1, "pair_0": 1}
    assert space.absent == {
        "weight_forward_kl": "the other weights are searched against it",
        "weight_attention": "it is 0",
        "temperature_end": "fixed",
    }
    assert all(d.low <= d.own <= d.high and d.low < d.high for d in space.dimensions)
    assert any("pair_0: 0 to 1 (the recipe's: 1)" in line for line in space.shown())


@pytest.mark.parametrize(
    "changes,absent",
    [
        ({"temperature": None}, {"temperature": "the recipe has no temperature"}),
        (
            {"loss": [{"kind": "cross_entropy"}]},
            {"temperature": "no loss of the recipe is softened by it", "weight_cross_entropy": "it is the only loss"},
        ),
        ({}, {"pairs": "no loss of the recipe looks inside the models"}),
    ],
)
def test_what_is_absent_is_said_to_be(make_recipe, changes, absent):
    assert absent.items() <= space_of(make_recipe(changes), {}, ()).absent.items()


@pytest.mark.parametrize(
    "ranges,fixed,message",
    [
        ({"learning_rat": (1, 2)}, (), "'learning_rat' is not searched here.*did you mean 'learning_rate'"),
        ({"learning_rate": (2e-3, 1e-3)}, (), "range of learning_rate is 0.002 to 0.001; expected the lower end first"),
        ({"learning_rate": (0, 1)}, (), "0 to 1; expected both ends above 0"),
        ({"learning_rate": (2e-3, 1e-2)}, (), "without the recipe's own 0.001, which is the first trial"),
        ({"pair_0": (0, 2)}, (), "range of pair_0 is 0 to 2; expected layers of the teacher, whole numbers from 0 to 1"),
        ({"pair_0": (0.5, 1)}, (), "whole numbers from 0 to 1"),
        ({"weight_forward_kl": (0.1, 1)}, (), "'weight_forward_kl' is not searched here, the other weights are searched against it"),
        (
            {},
            ("learning_rate", "temperature_start", "temperature_end", "weight_cross_entropy", "weight_hidden_l2", "pair_0"),
            "nothing is left to search",
        ),
    ],
)
def test_ranges_that_cannot_be_are_refused(make_recipe, ranges, fixed, message):
    with pytest.raises(FirstTokenError, match=message) as error:
        space_of(make_recipe(INSIDE), ranges, fixed)
    assert "\n" not in str(error.value)


def test_values_make_a_recipe_and_its_own_values_make_itself(make_recipe):
    recipe = make_recipe(INSIDE)
    space = space_of(recipe, {}, ())
    assert with_values(recipe, space, space.own).what_decides() == recipe.what_decides()
    drawn = {
        "learning_rate": 0.00123456,
        "temperature_start": 2.0,
        "temperature_end": 3.0,
        "weight_cross_entropy": 1.0,
        "weight_hidden_l2": 0.2,
        "pair_0": 0,
    }
    made = with_values(recipe, space, rounded(space, drawn))
    assert made.training.learning_rate == 0.001235 and (made.temperature.start, made.temperature.end) == (2, 3)
    assert [loss.weight.start for loss in made.losses] == [0.7, 1.0, 0.2, 0] and made.losses[2].weight.end == 0.04
    # the attention loss has the same pair, which moves in both
    assert made.losses[2].pairs == made.losses[3].pairs == ((0, 0),) and made.losses[0] == recipe.losses[0]


def test_one_temperature_stays_one(make_recipe):
    recipe = make_recipe({"temperature": 3})
    space = space_of(recipe, {"temperature": (1, 4)}, ())
    assert space.own["temperature"] == 3 and with_values(recipe, space, {"temperature": 2.0}).temperature.at(0.7) == 2
