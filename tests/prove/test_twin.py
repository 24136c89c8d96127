"""Whether an artifact is its twin, by figures made up for it."""

import numpy as np
import pytest

from firsttoken.prove.twin import SCALE, Fit, Twin, figures, fit, missed, twin_windows
from firsttoken.prove.windows import CHAT, WALK, Window

POSITIONS = 200


def twin(noise=1e-4, damage=1e-3) -> Twin:
    chance = np.random.default_rng(0)
    return Twin(np.zeros((POSITIONS, 8)), np.arange(POSITIONS), noise * chance.exponential(size=POSITIONS), np.full(POSITIONS, damage))


def fits(kld=1e-4, scale=1.0, seed=1) -> list[Fit]:
    return [Fit(float(value), scale) for value in kld * np.random.default_rng(seed).exponential(size=POSITIONS)]


def misses(found, expected, groups=None):
    return missed(figures(found, expected), found, expected, groups or {})


@pytest.mark.parametrize("seed", range(20))
def test_what_differs_by_its_kernels_rounding_alone_passes(seed):
    assert misses(fits(seed=seed), twin(), {"the decode calls": np.arange(POSITIONS) % 2 == 0}) == []


def test_what_is_twice_as_far_does_not():
    [miss] = [miss for miss in misses(fits(2.2e-4), twin()) if "mean divergence" in miss]
    assert miss.startswith("not built as the plan says: mean divergence 0.000") and "rounding explains 0.000" in miss


def test_where_nothing_has_been_rounded_another_way_both_agree_to_the_last_digits():
    """Half the positions of the noisy twin agree exactly, as those of short texts do; those of a faulty artifact do not."""
    noise = np.where(np.arange(POSITIONS) < 120, 1e-13, 3e-4)
    expected = Twin(np.zeros((POSITIONS, 8)), np.arange(POSITIONS), noise, np.full(POSITIONS, 1e-3))
    same = [Fit(float(value), 1.0) for value in noise]
    assert misses(same, expected) == []
    [miss] = misses([Fit(one.kld + 1e-6, 1.0) for one in same], expected)
    assert "where it agrees best" in miss


@pytest.mark.parametrize("scale", [1 + 1.5 * SCALE, 1 - 1.5 * SCALE])
def test_logits_of_another_size(scale):
    assert ["times those of the plan" in miss for miss in misses(fits(scale=scale), twin())] == [True]


def test_one_kind_of_call_alone():
    found = fits()
    for n in range(8):
        found[n] = Fit(4e-3, 1.0)
    assert any("over the first calls" in miss for miss in misses(found, twin(), {"the first calls": np.arange(POSITIONS) < 8}))


def test_a_fit_has_the_scale_of_the_logits():
    logits = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert fit(logits, logits) == Fit(0.0, pytest.approx(1.0))
    assert fit(logits * np.float32(1.05) + 3, logits).scale == pytest.approx(1.05, abs=1e-5)
    assert fit(np.full_like(logits, np.nan), logits).scale == 0


def test_the_twin_is_run_on_the_chat_and_the_first_texts_but_not_on_the_walk():
    def window(length, name="", walk=()):
        return Window(np.zeros(length, np.int32), ((1,),), length - 2, walk, name)

    windows = [window(2000, WALK, ((5, 5),)), window(341), window(280), window(42), window(58), window(500), window(126, CHAT)]
    assert twin_windows(windows) == [1, 3, 4, 6]
    assert twin_windows([window(5000)]) == [0], "one at least, whatever its length"


def test_noise_on_both_sides_is_no_other_size():
    """A slope of one on the other would be 1 / (1 + the noise's share)."""
    random = np.random.default_rng(5)
    true = random.normal(size=(200, 4096)) * 3
    ours, theirs = ((true + random.normal(size=true.shape)).astype(np.float32) for _ in range(2))
    assert np.mean([fit(a, b).scale for a, b in zip(ours, theirs, strict=True)]) == pytest.approx(1, abs=0.002)
