"""Measurements that were made before, a phone's too, held against a budget."""

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from firsttoken.errors import FirstTokenError
from firsttoken.measure.budget import load_budget
from firsttoken.measure.budget_verdict import LimitVerdict, check_budget
from firsttoken.measure.measurement import Measurement
from firsttoken.safe_text import visible


def hold(budget: Path, measured: Mapping[str, Measurement], baseline: Measurement | None = None) -> list[LimitVerdict]:
    """Returns how every measurement keeps the budget; of several each verdict says which, by its name in ``measured``.

    Raises `FirstTokenError` for a budget that cannot be read, a limit that is for no bundle, and relative limits that ``baseline`` does not answer.
    """
    limits = load_budget(budget)
    names = {result.bundle.name for one in measured.values() for result in one.results}
    for each in limits.budgets:
        if not any(fnmatchcase(name, each.bundle) for name in names):
            raise FirstTokenError(
                f"budget {budget}: no bundle of the files is called {each.bundle!r}; nothing was held against it, they have {visible(', '.join(sorted(names)))}"
            )
    verdicts = [(name, verdict) for name, one in measured.items() for verdict in check_budget(limits, one, baseline)]
    if len(measured) == 1:
        return [verdict for _, verdict in verdicts]
    return [
        replace(verdict, line=f"{visible(name)}: {verdict.line}", bundle=f"{visible(name)}: {verdict.bundle}") for name, verdict in verdicts
    ]
