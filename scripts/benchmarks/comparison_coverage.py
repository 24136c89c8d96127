#!/usr/bin/env python3
"""How often `firsttoken report --diff` calls two equally fast bundles different, and how often it finds a bundle a tenth faster, by simulation.

    .venv/bin/python scripts/benchmarks/comparison_coverage.py [--repeats 2000]

Every repeat draws processes of some runs each for two sides, from the same distribution, and compares them; at most 5 % should come out as faster or
slower, and where one side is a tenth faster, 80 % or more. "bootstrap of two levels" resamples processes and their runs in the place of what the
product does. The last rows let both sides slow down by up to 30 %: while they take turns, as in one `firsttoken bench`, and one side after the other, as in two.
"""

import argparse
from collections.abc import Callable

import numpy

from firsttoken.measure.compare import compare_values

PROCESSES, RUNS = (3, 5, 8, 20), 3
Draw = Callable[[numpy.random.Generator, tuple[int, int]], numpy.ndarray]
DRAWS: dict[str, Draw] = {
    "runs alone vary, sd 3 %": lambda random, shape: random.normal(100, 3, shape),
    "a level per process, sd 3 %, runs 1 %": lambda random, shape: (
        100 * (1 + random.normal(0, 0.03, (shape[0], 1))) * (1 + random.normal(0, 0.01, shape))
    ),
    "two levels, 10 % apart": lambda random, shape: (
        100 * (1 + 0.1 * (random.random((shape[0], 1)) < 0.5)) * (1 + random.normal(0, 0.01, shape))
    ),
    "log-normal runs, sigma 0.3": lambda random, shape: random.lognormal(0, 0.3, shape),
    "hiccups: 10 % of the runs 30 % slower": lambda random, shape: random.normal(100, 1, shape) + 30 * (random.random(shape) < 0.1),
    "a run depends on the one before": lambda random, shape: 100 + numpy.cumsum(random.normal(0, 2, shape), axis=1),
}


def compared(a: numpy.ndarray, b: numpy.ndarray, _random: numpy.random.Generator) -> bool:
    """Whether the sides ``[processes, runs]`` are called different."""
    return compare_values(a.tolist(), b.tolist(), larger_is_faster=False).verdict != "cannot tell"


def resampled(a: numpy.ndarray, b: numpy.ndarray, random: numpy.random.Generator) -> bool:
    """The same by a percentile bootstrap of processes, and of the runs within each."""

    def levels(side: numpy.ndarray) -> numpy.ndarray:
        count, runs = side.shape
        drawn = numpy.log(side)[random.integers(0, count, (500, count))]
        return numpy.median(numpy.take_along_axis(drawn, random.integers(0, runs, (500, count, runs)), 2), 2).mean(1)

    low, high = numpy.quantile(levels(a) - levels(b), [0.025, 0.975])
    return bool(low > 0 or high < 0)


def share(draw: Draw, processes: int, repeats: int, ratio: float = 1.0, drift: str | None = None, by: Callable = compared) -> float:
    """Returns the share of ``repeats`` in which two sides are called different; B is ``ratio`` times as fast."""
    random = numpy.random.default_rng(processes)
    times = numpy.linspace(1, 1.3, 2 * processes)[:, None]
    slow = {None: (1, 1), "turns": (times[0::2], times[1::2]), "after": (times[:processes], times[processes:])}[drift]
    told = 0
    for _ in range(repeats):
        a, b = (draw(random, (processes, RUNS)) * factor for factor in slow)
        told += by(a, b / ratio, random)
    return told / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000)
    repeats = parser.parse_args().repeats
    heads = [f"{count} processes" for count in PROCESSES]
    print(f"| of equal sides called different; a tenth found | {' | '.join(heads)} |\n|:--|{'--:|' * len(PROCESSES)}")
    for name, draw in DRAWS.items():
        cells = [f"{share(draw, count, repeats):.1%}; {share(draw, count, repeats, 1.1):.0%}" for count in PROCESSES]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    for name, draw in list(DRAWS.items())[1:5:3]:
        cells = [
            f"{share(draw, count, repeats, by=resampled):.1%}; {share(draw, count, repeats, 1.1, by=resampled):.0%}" for count in PROCESSES
        ]
        print(f"| {name}: bootstrap of two levels | {' | '.join(cells)} |", flush=True)
    for name, drift in (("taking turns", "turns"), ("one after the other", "after")):
        cells = [f"{share(DRAWS['runs alone vary, sd 3 %'], count, repeats, drift=drift):.1%}" for count in PROCESSES]
        print(f"| runs alone vary, both slow down, {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
