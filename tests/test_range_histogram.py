"""Ranges from counted values: against exact percentiles and errors of the values themselves."""

import numpy as np
import pytest

from firsttoken.range_histogram import CLIPS, Histogram, Seen


def values(outliers: int = 3) -> np.ndarray:
    found = np.random.default_rng(0).standard_normal(200_000).astype(np.float32) * 0.3
    found[:outliers] = [250, -40, 90][:outliers]
    return found


def counted(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    return histogram


def rounded(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """What int8 with a zero point makes of float64 values, by PyTorch's fake quantization."""
    import torch

    scale = (max(high, 0) - min(low, 0)) / 255
    zero = int(np.clip(round(-128 - min(low, 0) / scale), -128, 127))
    return torch.fake_quantize_per_tensor_affine(torch.from_numpy(x), scale, zero, -128, 127).numpy()


def test_counts_are_the_same_in_any_order_and_any_pieces():
    x = values()
    whole, pieces = counted(x), counted(*np.split(x[::-1], 8))
    assert np.array_equal(whole.counts, pieces.counts) and (whole.low, whole.high) == (pieces.low, pieces.high) == (-40.0, 250.0)
    assert whole.counts.sum() == len(x)


def test_points_stand_for_the_values_to_a_hundredth():
    points, weights = counted(x := values()).points()
    for power in (1, 2):
        assert (points**power * weights).sum() == pytest.approx((x.astype(np.float64) ** power).sum(), rel=0.01, abs=3)


def test_min_max_covers_all_and_percentile_what_it_says():
    histogram, x = counted(values()), np.abs(values())
    assert histogram.range("min-max", "int8") == (-40.0, 250.0)
    low, high = histogram.range("percentile", "int8")
    assert -low == high == pytest.approx(np.quantile(x, 0.99999), rel=0.03)
    assert histogram.saturated(low, high) == pytest.approx(1e-5, abs=1e-5) and histogram.saturated(-40, 250) == 0


def test_the_error_is_pytorchs():
    histogram, x = counted(values()), values()
    for ends in (histogram.range(method, "int8") for method in ("min-max", "percentile", "mse")):
        exact = np.sqrt(np.square(rounded(x, *ends).astype(np.float64) - x).mean() / np.square(x.astype(np.float64)).mean())
        assert histogram.error(*ends, "int8") == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize(("outliers", "least", "most"), [(0, 0.99, 2), (3, 8, 300)])
def test_mse_finds_the_clip_with_the_least_error_of_the_values_themselves(outliers, least, most):
    histogram, x = counted(values(outliers)), values(outliers)
    _, high = histogram.range("mse", "int8")
    largest = max(-histogram.low, histogram.high)
    errors = [np.square(rounded(x, max(histogram.low, -largest * c), min(histogram.high, largest * c)) - x).mean() for c in CLIPS[:120]]
    assert errors[int(np.argmin([abs(min(histogram.high, largest * c) - high) for c in CLIPS[:120]]))] <= 1.02 * min(errors)
    assert least < high < most


def test_what_never_is_negative_has_no_steps_below_zero():
    histogram = counted(np.abs(values(0)))
    low, high = histogram.range("min-max", "int8")
    assert low >= 0 and histogram.error(low, high, "int8") < 0.52 * counted(values(0)).error(-high, high, "int8")
    assert histogram.error(low, high, "int16") < histogram.error(low, high, "int8") / 100


def test_zeros_have_a_range_too():
    histogram = counted(np.zeros(9, np.float32))
    for method in ("min-max", "percentile", "mse"):
        assert histogram.range(method, "int8") == (0.0, 0.0)
    assert histogram.error(0, 0, "int8") == 0


def test_outlier_channels_are_named_the_largest_first():
    largest = np.ones(100, np.float32)
    largest[[7, 40, 3]] = 6.5, 90, 5.9
    assert Seen(largest=largest).outlier_channels == [40, 7]
