"""The steps at which trials are compared."""

import pytest

from firsttoken.distill.recipe_search.rungs import rungs_of


@pytest.mark.parametrize(
    "steps,halvings,keep,rungs",
    [(600, 2, 3, [67, 201, 600]), (60, 2, 3, [7, 21, 60]), (9, 2, 3, [1, 3, 9]), (6, 1, 2, [3, 6]), (2, 2, 3, [1, 2]), (1, 2, 3, [1])],
)
def test_rungs(steps, halvings, keep, rungs):
    assert rungs_of(steps, halvings, keep) == rungs
