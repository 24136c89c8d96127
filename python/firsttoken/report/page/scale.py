"""Axes in percent of the plot's width, round ticks, and figures with their units as people write them."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

# rounder first
ROUND_RATIOS = (1, 2, 0.5, 10, 0.1, 100, 0.01, 5, 0.2, 1.5, 0.75, 3, 0.3, 1.2, 0.8, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98, 50, 0.02)
CLOSEST_TICKS = 13.0  # percent of the width
BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


@dataclass(frozen=True)
class Axis:
    """A line of numbers from ``low`` to ``high``, linear or logarithmic, with ticks ``(percent, text)``."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Returns where ``value`` lies, in percent; a value outside lies at the edge."""
        low, high, value = (math.log(v) for v in (self.low, self.high, value)) if self.logarithmic else (self.low, self.high, value)
        return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 3)


def linear_axis(low: float, high: float, name: Callable[[float], str], about: int = 5) -> Axis:
    """Returns an axis over ``low`` to ``high`` that ends on round ticks, about as many as asked; ``name`` makes their text."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    step = _round_step((high - low) / about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    low, high = first * step, last * step
    ticks = tuple((round(100 * (n - first) / (last - first), 3), name(n * step)) for n in range(first, last + 1))
    return Axis(low, high, ticks)


def ratio_axis(values: Iterable[float]) -> Axis:
    """Returns a logarithmic axis that holds ``values`` and 1, at most a factor of 100 either way; rounder ticks come first."""
    values = [min(max(value, 0.01), 100.0) for value in values]
    axis = Axis(min([0.97, *(value / 1.03 for value in values)]), max([1.03, *(value * 1.03 for value in values)]), (), logarithmic=True)
    ticks: list[float] = []
    for mark in ROUND_RATIOS:
        if axis.low <= mark <= axis.high and all(abs(axis.at(mark) - axis.at(other)) >= CLOSEST_TICKS for other in ticks):
            ticks.append(mark)
    return Axis(axis.low, axis.high, tuple((axis.at(mark), f"{mark:g}×") for mark in sorted(ticks)), logarithmic=True)


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next((step * power for step in (1, 2, 2.5, 5) if step * power >= least * (1 - 1e-9)), 10 * power)


def time_text(nanoseconds: float | None) -> str:
    """Returns a time with three digits and its unit: 840 µs, 13.2 ms, 1.07 s."""
    if nanoseconds is None:
        return "–"
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if nanoseconds >= size * 0.9995:
            return f"{three_digits(nanoseconds / size)} {unit}"
    return f"{nanoseconds:.0f} ns"


def axis_time_text(nanoseconds: float) -> str:
    """Returns a tick's time without digits that say nothing: 0, 250 ms, 1.5 s."""
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if nanoseconds >= size * 0.9995:
            return f"{nanoseconds / size:.6g} {unit}"
    return f"{nanoseconds:.6g}" + (" ns" if nanoseconds else "")


def bytes_text(count: float | None) -> str:
    """Returns bytes with three digits in the unit that fits."""
    if count is None:
        return "–"
    unit = 0
    while count >= 1023.5 and unit < len(BYTE_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{three_digits(count) if unit else int(count)} {BYTE_UNITS[unit]}"


def three_digits(value: float) -> str:
    """Returns a number with three significant digits, never in exponents below a million."""
    size = abs(value)
    if size >= 99.95:
        return f"{value:.0f}" if size < 1e6 else f"{value:.3g}"
    return f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"


def plain(value: float) -> str:
    """Returns a tick's number without digits that say nothing."""
    return f"{value:.6g}"
