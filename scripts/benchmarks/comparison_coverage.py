#!/usr/bin/env python3
"""How often `firsttoken report --diff` calls two equally fast bundles different, by simulation.

    .venv/bin/python scripts/benchmarks/comparison_coverage.py [--repeats 4000]

Every repeat draws the runs of two sides from the same distribution and compares them; the interval promises that at most
5 % come out as faster or slower. The last rows let both sides slow down by up to 30 %: while they take turns, as in one
`firsttoken bench`, and one side after the other, as in two.
"""

import argparse

import numpy

from firsttoken.measure import compare

RESAMPLES = 1000  # of the real 10 000, to save time; the shares move by less than their own error
RUNS = (4, 5, 6, 7, 10, 11, 20, 51)
DRAWS = {
    "normal, sd 3 %": lambda random, count: random.normal(100, 3, count),
    "log-normal, sigma 0.3": lambda random, count: random.lognormal(0, 0.3, count),
    "exponential tail": lambda random, count: 50 + random.exponential(10, count),
    "hiccups: 10 % of the runs 30 % slower": lambda random, count: random.normal(100, 1, count) + 30 * (random.random(count) < 0.1),
    "two modes, 10 % apart": lambda random, count: random.normal(100, 1, count) + 10 * (random.random(count) < 0.5),
}


def called_different(draw, count: int, repeats: int, drift: str | None = None) -> float:
    """Returns the share of ``repeats`` in which two sides of ``count`` runs from ``draw`` are called different."""
    random = numpy.random.default_rng(count)
    times = numpy.linspace(1, 1.3, 2 * count)
    slow = {None: (1, 1), "turns": (times[0::2], times[1::2]), "after": (times[:count], times[count:])}[drift]
    wrong = 0
    for number in range(repeats):
        a, b = (draw(random, count) * factor for factor in slow)
        compared = compare.compare_values(a, b, larger_is_faster=False, seed=number, resamples=RESAMPLES, fewest=1)
        wrong += compared.verdict != "cannot tell"
    return wrong / repeats


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=4000)
    repeats = parser.parse_args().repeats
    print("| runs on each side | " + " | ".join(map(str, RUNS)) + " |\n|" + "---|" * (len(RUNS) + 1))
    rows = [(name, draw, None) for name, draw in DRAWS.items()]
    normal = DRAWS["normal, sd 3 %"]
    rows += [("normal, both slow down, taking turns", normal, "turns"), ("normal, both slow down, one after the other", normal, "after")]
    for name, draw, drift in rows:
        print(f"| {name} | " + " | ".join(f"{called_different(draw, count, repeats, drift):.1%}" for count in RUNS) + " |", flush=True)


if __name__ == "__main__":
    main()
