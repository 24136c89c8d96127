"""Student's t distribution, for whole degrees of freedom: the sums of Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4."""

import math

LARGEST = 200  # degrees of freedom; beyond, it is the normal distribution to three digits


def within(t: float, freedom: int) -> float:
    """Returns the probability that ``|T| <= t`` for a T with ``freedom`` degrees of freedom, 1 or more."""
    angle = math.atan(abs(t) / math.sqrt(freedom))
    cosine, odd = math.cos(angle), freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for step in range(1 + odd, freedom, 2):
        total += term
        term *= cosine * cosine * step / (step + 1)
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


def quantile(probability: float, freedom: int) -> float:
    """Returns the t that a T stays below with ``probability``, 0.5 to less than 1."""
    low, high = 0.0, 1.0
    while 0.5 + within(high, freedom) / 2 < probability:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 + within(middle, freedom) / 2 < probability else (low, middle)
    return high
