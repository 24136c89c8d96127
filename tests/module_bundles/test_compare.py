"""The figures of a proof, on numbers whose answer is known."""

import numpy as np
import pytest

from firsttoken.module_bundles.compare import accuracy_of, figures_of_output, missed_bounds
from firsttoken.quant.module_plan import ModuleGate

GATE = ModuleGate(same_top=0.9, max_error=0.5, cosine=0.99, magnitude=0.05, accuracy_drop=0.02)


def test_known_figures():
    reference = np.array([[3.0, 4.0], [4.0, -3.0]])
    got = figures_of_output("x", reference, np.array([[3.0, 4.0], [-3.0, -4.0]]), classes=True)
    assert got.same_top == 1.0 and got.max_error == pytest.approx(7 / 12.5**0.5) and got.magnitude_ratio == pytest.approx(1)
    assert (got.cosine, got.worst_cosine) == (pytest.approx(0.5), pytest.approx(0.0))
    assert figures_of_output("x", np.zeros((2, 3)), np.zeros((2, 3)), classes=False).cosine == 1


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        (lambda x: x, []),
        (lambda x: x * 1.1, ["magnitude"]),
        (lambda x: np.where(x == x.max(), 0, x), ["largest error"]),
        (lambda x: x[:, ::-1], ["same class", "largest error", "cosine"]),
    ],
)
def test_each_bound(change, missed):
    reference = np.random.default_rng(0).standard_normal((100, 12))
    lines = missed_bounds(GATE, [figures_of_output("x", reference, change(reference), classes=True)])
    assert len(lines) == len(missed) and all(word in line for word, line in zip(missed, lines, strict=True)), lines


def test_random_inputs_have_no_class():
    reference = np.random.default_rng(0).standard_normal((100, 3))
    figures = figures_of_output("x", reference, reference, classes=True).model_copy(update={"same_top": 0.1})
    assert missed_bounds(GATE, [figures]) and not missed_bounds(GATE, [figures], random=True)


def test_accuracy_leaves_out_what_has_no_label():
    assert accuracy_of(np.eye(3)[[0, 1, 1, 2]], np.array([0, 1, 2, -1])) == pytest.approx(2 / 3)
