"""What running on the software GPU will take, held against what was measured (docs/gpu.md): never too little memory, and not twice as much."""

import pytest

from firsttoken.backends.gpu.cost import running_cost

MIB = 1 << 20


@pytest.mark.parametrize(
    ("weights", "lengths", "measured"),
    [(3_800_000, (16, 64, 256), 363), (134_500_000, (16, 64, 256), 5312), (134_500_000, (16,), 2301), (494_000_000, (16,), 7129)],
)
def test_memory_covers_what_was_measured(weights, lengths, measured):
    assert measured * MIB < running_cost(weights, lengths, []).memory < 1.5 * measured * MIB


def test_seconds_follow_padded_prompts_and_decode():
    decode = running_cost(10**8, (16, 64), [("decode", 5, 6)]).seconds - running_cost(10**8, (16, 64), []).seconds
    short, padded, pieces = (running_cost(10**8, (16, 64), [("first", 0, n)]).seconds for n in (17, 18, 82))
    assert decode < short < padded < pieces
    assert padded == running_cost(10**8, (16, 64), [("first", 0, 65)]).seconds, "padded up to the next length"
