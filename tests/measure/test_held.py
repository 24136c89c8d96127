"""A bench against a budget: again where other work ran beside it, and no longer than asked."""

from typing import ClassVar

import pytest
from budget_fixtures import measurement

from firsttoken.errors import FirstTokenError
from firsttoken.measure import held
from firsttoken.measure.bench import BenchSettings
from firsttoken.measure.budget import Budget, Budgets

LIMITS = Budgets(budget=(Budget(prompt_tokens=8, first_token_ms=45),))


class Played:
    """A bench whose measurements are given: what is tried here is what happens around it."""

    given: ClassVar[list] = []

    def __init__(self, bundles, settings, report):
        self.measurement = Played.given[0]
        self.results = self.measurement.results

    def run(self):
        return Played.given.pop(0)


@pytest.mark.parametrize(
    ("busy", "retries", "left"), [((0.9, 0.9, 0.0), 2, 0), ((0.9, 0.0, 0.0), 1, 1), ((0.0, 0.0, 0.0), 2, 2), ((0.9, 0.9, 0.9), 0, 2)]
)
def test_what_was_disturbed_is_measured_again(monkeypatch, busy, retries, left):
    monkeypatch.setattr(held, "Bench", Played)
    Played.given, said = [measurement(busy=one) for one in busy], []
    found = held.measure_held([], BenchSettings((8,)), LIMITS, None, retries, say=said.append)
    assert len(Played.given) == left and len(said) == 2 - left and not found.verdicts[0].kept


def test_what_is_kept_is_not(monkeypatch):
    monkeypatch.setattr(held, "Bench", Played)
    Played.given = [measurement(times=(30, 30), busy=2.0)]
    assert held.measure_held([], BenchSettings((8,)), LIMITS, None).verdicts[0].kept


def test_a_baseline_without_a_budget(tmp_path):
    with pytest.raises(FirstTokenError, match="a baseline is for the limits of a budget"):
        held.measure_held([], BenchSettings((8,)), None, tmp_path / "m.json")


def test_a_damaged_baseline_is_refused(tmp_path):
    damaged = measurement(times=(10, 10**101, 10))
    damaged.write(tmp_path / "m.json")
    with pytest.raises(FirstTokenError, match="expected a finite number below 1e18"):
        held.measure_held([], BenchSettings((8,)), LIMITS, tmp_path / "m.json")
