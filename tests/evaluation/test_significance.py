"""Intervals and the test of one pair against SciPy, values by hand, and what they cover."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.compare.paired_tests import paired_tests
from pipeline.evaluation.significance import (
    Gain,
    difference_interval,
    mean_interval,
    smallest_difference,
)

Floats = npt.NDArray[np.float64]
PER_USER_HITS = 10


def make_values(
    rng: np.random.Generator, n_users: int, skills: list[float], n_metrics: int = 1
) -> Floats:
    """Shares of hits, [users, models, metrics]: some users are easy, models differ by skill."""
    ease = rng.normal(size=(n_users, 1, 1))
    chance = 1 / (1 + np.exp(-(ease + np.array(skills)[:, None] - 0.5)))
    chance = np.broadcast_to(chance, (n_users, len(skills), n_metrics))
    return rng.binomial(PER_USER_HITS, chance) / PER_USER_HITS


def test_intervals_of_many_users_agree_with_the_bootstrap() -> None:
    rng = np.random.default_rng(0)
    values = make_values(rng, 400, [0.0, 0.5])
    tests = paired_tests(values, rng)
    for model in (0, 1):
        expected = stats.bootstrap(
            (values[:, model, 0],), np.mean, method="BCa", rng=np.random.default_rng(1)
        ).confidence_interval
        assert tests.mean[model, 0] == pytest.approx(values[:, model, 0].mean())
        assert tests.low[model, 0] == pytest.approx(expected.low, abs=0.002)
        assert tests.high[model, 0] == pytest.approx(expected.high, abs=0.002)


def test_the_interval_of_a_difference_is_that_of_scipys_paired_t_test() -> None:
    values = make_values(np.random.default_rng(0), 25, [0.0, 0.5])[:, :, 0]
    tests = paired_tests(values[:, :, None], np.random.default_rng(0), permutations=10)
    expected = stats.ttest_rel(values[:, 1], values[:, 0]).confidence_interval()
    assert tests.difference_low[1, 0, 0] == pytest.approx(expected.low)
    assert tests.difference_high[1, 0, 0] == pytest.approx(expected.high)


def test_the_interval_of_a_share_is_wilsons() -> None:
    hits = np.zeros((20, 3))
    hits[:17, 0] = hits[:, 1] = 1.0
    low, high = mean_interval(hits)
    for place, count in enumerate((17, 20, 0)):
        expected = stats.binomtest(count, 20).proportion_ci(method="wilson")
        assert (low[place], high[place]) == pytest.approx((expected.low, expected.high))


def test_the_interval_of_a_mean_by_hand() -> None:
    """Hesterberg 2015: mean + s / sqrt(n) (kappa (1 + 2 t^2) -+ t), kappa = g / 6 sqrt(n)."""
    values = np.array([0.0, 0.0, 0.0, 0.4])
    low, high = mean_interval(values[:, None])[:, 0]
    t, skewness = 3.182446, 2 / np.sqrt(3)  # of one value out of four that differs
    shift = skewness / 12 * (1 + 2 * t**2)
    assert (low, high) == pytest.approx((0.1 + 0.1 * (shift - t), 0.1 + 0.1 * (shift + t)))


def test_skewed_values_have_more_room_above_their_mean() -> None:
    values = np.random.default_rng(0).beta(0.5, 4, size=(30, 1))
    (low,), (high,) = mean_interval(values)
    assert high - values.mean() > 1.2 * (values.mean() - low)
    (low,), (high,) = mean_interval(1 - values)
    assert high - 1 + values.mean() < (1 - values.mean() - low) / 1.2


@given(st.integers(2, 60), st.integers(0, 200))
def test_the_mean_lies_in_its_interval(n_users: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.where(rng.random((n_users, 4)) < rng.random(4), rng.beta(0.3, 1, (n_users, 4)), 0)
    values[0] += 1e3 * (rng.random(4) < 0.3)  # as skewed as can be
    low, high = mean_interval(values)
    assert ((low <= values.mean(axis=0)) & (values.mean(axis=0) <= high)).all()


@pytest.mark.filterwarnings("error")
def test_values_that_are_all_equal_have_no_width_and_one_user_has_no_interval() -> None:
    equal = np.full((20, 1), 0.3)
    assert mean_interval(equal).ravel() == pytest.approx([0.3, 0.3])
    assert difference_interval(0 * equal).ravel().tolist() == [0, 0]
    assert np.isnan(mean_interval(equal[:1])).all()
    alone = paired_tests(np.array([[[0.5], [0.2]]]), np.random.default_rng(0), permutations=10)
    assert np.isnan(alone.difference_low[0, 1, 0])
    assert alone.difference[0, 1, 0] == pytest.approx(0.3)


@pytest.mark.parametrize("n_users", [20, 70, 836])
def test_intervals_cover_what_they_should(n_users: int) -> None:
    """Zero-inflated values of two models that share their users: .93 to .97, within 2 errors."""
    rng, rounds = np.random.default_rng(n_users), 2000
    shape = (n_users, rounds)
    draw = rng.beta(1.2, 1.8, (2, *shape)) * (rng.random((2, *shape)) < [[[0.86]], [[0.8]]])
    shared = rng.random(shape) < 0.3
    draw[1] = np.where(shared, draw[0], draw[1])
    first, other = 0.86 * 0.4, 0.3 * 0.86 * 0.4 + 0.7 * 0.8 * 0.4
    hits = (draw[0] > 0).astype(float)
    for (low, high), true in (
        (mean_interval(draw[0]), first),
        (mean_interval(hits), 0.86),
        (difference_interval(draw[0] - draw[1]), first - other),
    ):
        covered = ((low <= true) & (true <= high)).mean()
        assert 0.92 <= covered <= 0.98


def test_the_smallest_difference_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(0)
    smallest = smallest_difference(0.2, 40)
    assert smallest == pytest.approx(0.2 * (2.0227 + 0.8512) / np.sqrt(40), rel=1e-4)
    drawn = rng.normal(smallest, 0.2, size=(40, 4000))
    found = stats.ttest_1samp(drawn, 0).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.03)
    assert smallest_difference(0.2, 1) == np.inf


def test_kept_sums_give_students_paired_test() -> None:
    rng = np.random.default_rng(0)
    one = rng.random(50)
    other = one + rng.normal(0.02, 0.1, 50)
    gain = Gain.of(one[:20], other[:20]) + Gain.of(one[20:], other[20:])
    assert gain.p() == pytest.approx(stats.ttest_rel(one, other).pvalue)
    assert gain.mean == pytest.approx((one - other).mean())
    assert gain.words == f"{one.mean():.4f} against {other.mean():.4f}"
    assert gain.p(repeats=2) > gain.p()
    twice = Gain.of(np.tile(one, 2), np.tile(other, 2))
    assert twice.p(repeats=2) == pytest.approx(gain.p())
    assert Gain.of(one, one).p() == 1
    assert Gain.of(one, one + 0.5).p() < 1e-9
    assert Gain.of(one[:1], other[:1]).p() == 1
    assert gain.most() == pytest.approx(stats.ttest_rel(one, other).confidence_interval().high)
    assert gain.most(repeats=2) > gain.most()
    assert Gain.of(one[:1], other[:1]).most() == np.inf
