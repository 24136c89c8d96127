import pytest

from firsttoken.backends.tflite.pieces import LEAST, WHOLE, largest_calls, piece_at


@pytest.mark.parametrize(("most", "cache_length"), [(256, 1280), (256, 8448), (256, 40000), (64, 200), (48, 3000), (1, 9000), (512, 511)])
def test_every_call_fits_what_is_reserved(most, cache_length):
    calls = largest_calls(most, cache_length)
    assert calls[0][1] == cache_length, "decode looks at all rows"
    position = 0
    while position < cache_length - 1:
        tokens = min(piece_at(most, position), cache_length - position)
        assert any(tokens <= t and position <= rows for t, rows in calls), (position, tokens)
        position += tokens


@pytest.mark.parametrize("most", [256, 300, 64, 40])
def test_scores_stay_as_large_as_those_of_a_whole_call(most):
    pieces = [piece_at(most, position) for position in range(0, 50000, 7)]
    assert pieces[0] == most and sorted(pieces, reverse=True) == pieces and pieces[-1] < 2 * LEAST
    for position, tokens in zip(range(0, 50000, 7), pieces, strict=True):
        assert tokens * (position + tokens) <= most * WHOLE or tokens < 2 * LEAST


def test_a_cache_as_long_as_the_whole_is_reserved_once():
    assert largest_calls(256, 1280) == [(256, 1280)]
    assert largest_calls(256, 8448) == [(32, 8448), (64, 8192), (128, 4096), (256, 2048)]
