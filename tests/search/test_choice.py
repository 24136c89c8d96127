"""The choice of candidates against all choices there are."""

import itertools
import random

import pytest

from firsttoken.search.candidates import Candidate
from firsttoken.search.choice import Bounds, Cost, Costs, choose, front

FP16, INT8, INT4 = Candidate("fp16"), Candidate("int8"), Candidate("int4", "gptq", 32)


def made(seed, layers=5, shared=False):
    numbers = random.Random(seed)
    names = [f"layers.{n}.mlp.up" for n in range(layers - 2)] + ["embedding", "head"]
    table = {}
    for name in names:
        size = numbers.uniform(1, 5) if name != "head" or not shared else table["embedding"][FP16].bytes / 2
        own = {
            FP16: Cost(numbers.uniform(0, 1e-6), 2 * size, 3 * size, 2 * size),
            INT8: Cost(numbers.uniform(1e-5, 1e-4), size, size, size),
            INT4: Cost(numbers.uniform(1e-3, 1e-2), size / 2, 1.2 * size, size / 2),
        }
        table[name] = own
    return Costs(table, Cost(0, 1.0, 0.5, 0.25), ("embedding", "head") if shared else None)


def every(costs):
    for choice in itertools.product(*costs.layers.values()):
        chosen = dict(zip(costs.layers, choice, strict=True))
        yield chosen, costs.total(chosen)


def within(cost, bounds):
    return all(getattr(cost, what) <= getattr(bounds, what) for what in bounds.given)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_the_best_of_all(seed, shared):
    costs = made(seed, shared=shared)
    sizes = sorted(cost.bytes for _, cost in every(costs))
    times = sorted(cost.prefill for _, cost in every(costs))
    for bounds in (Bounds(bytes=sizes[len(sizes) // 2]), Bounds(bytes=sizes[len(sizes) // 4]), Bounds(bytes=sizes[-40], prefill=times[60])):
        best = min(cost.damage for _, cost in every(costs) if within(cost, bounds))
        found = costs.total(choose(costs, bounds))
        assert within(found, bounds)
        assert found.damage == pytest.approx(best, rel=2e-4)


@pytest.mark.parametrize("least", ["bytes", "prefill", "decode"])
def test_the_least_of_something_else_within_a_damage(least):
    costs = made(9, shared=True)
    bounds = Bounds(damage=5e-3)
    best = min(getattr(cost, least) for _, cost in every(costs) if within(cost, bounds))
    found = costs.total(choose(costs, bounds, least))
    assert within(found, bounds)
    assert getattr(found, least) == pytest.approx(best, rel=2e-4)


def test_of_two_as_good_the_smaller_one():
    costs = Costs({"core": {FP16: Cost(0, 1, 2, 1), INT8: Cost(0, 1, 1, 1)}}, Cost(0, 0))
    assert choose(costs, Bounds(bytes=10)) == {"core": INT8}


def test_nothing_within_the_bounds():
    costs = made(3)
    assert choose(costs, Bounds(bytes=1.5)) is None
    assert choose(costs, Bounds(damage=1e-12)) is None


def test_what_overflows_is_never_chosen():
    costs = made(4)
    broken = {name: {**own, FP16: Cost(float("inf"), 0.0)} for name, own in costs.layers.items()}
    assert FP16 not in choose(Costs(broken, costs.fixed), Bounds()).values()


def test_a_shared_table_is_stored_once():
    costs = made(5, shared=True)
    same = dict.fromkeys(costs.layers, INT8)
    apart = {**same, "head": FP16}
    once = sum(costs.layers[name][INT8].bytes for name in same if name != "head")
    assert costs.total(same).bytes == pytest.approx(costs.fixed.bytes + once)
    assert costs.total(apart).bytes == pytest.approx(costs.fixed.bytes + once + costs.layers["head"][FP16].bytes)


def test_along_the_front_damage_falls_as_size_grows():
    costs = made(6, layers=7, shared=True)
    points = [costs.total(choice) for choice in front(costs)]
    assert len(points) > 5
    assert all(a.bytes < b.bytes and a.damage > b.damage for a, b in itertools.pairwise(points))
    assert points[0].bytes == pytest.approx(min(cost.bytes for _, cost in every(costs)))


def test_a_head_with_its_outliers_apart_still_shares_the_table():
    apart = Candidate("int8", outliers="apart")
    table = {
        "embedding": {FP16: Cost(0, 200), INT8: Cost(1e-5, 100)},
        "head": {FP16: Cost(0, 200), INT8: Cost(7e-3, 100), apart: Cost(2e-3, 101)},
    }
    costs = Costs(table, Cost(0, 10), ("embedding", "head"))
    found = choose(costs, Bounds(bytes=112))
    assert found == {"embedding": INT8, "head": apart}
    assert costs.total(found).bytes == 111
