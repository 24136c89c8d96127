"""How long work reports where it is, without knowing who shows it."""

from collections.abc import Callable

# (stage, done, total, unit): called as work proceeds; ``done == total`` ends a stage.
Report = Callable[[str, float, float, str], None]


def silent(stage: str, done: float, total: float, unit: str) -> None:
    """Shows nothing: the default of every function that takes a report."""
