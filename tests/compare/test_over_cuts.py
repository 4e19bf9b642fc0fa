"""Tests over several cuts: what is tested, and false alarms where the same users come again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.compare.over_cuts import clustered_tests
from pipeline.compare.paired_tests import paired_tests

Floats = npt.NDArray[np.float64]


def make_values(
    rng: np.random.Generator,
    n_users: int,
    n_cuts: int,
    gain: float = 0.0,
    *,
    tested: float = 0.7,
    own: float = 0.3,
) -> Floats:
    """Values [users, 2, cuts] in which a user likes one of two models at all cuts.

    ``own`` is the spread of a user's taste for the first, ``gain`` its mean; users are tested at
    a share of the cuts.
    """
    ease = rng.normal(0.5, 0.2, (n_users, 1, n_cuts))
    taste = rng.normal(gain, own, (n_users, 1)) + rng.normal(0, 0.05, (n_users, n_cuts))
    values = np.concatenate([ease, ease], axis=1)
    values[:, 0] += taste
    seen = rng.random((n_users, n_cuts)) < tested
    seen[:n_cuts][np.eye(n_cuts, dtype=bool)] = True
    return np.where(seen[:, None], values, np.nan)


def naive_p(values: Floats) -> float:
    """Every user at every cut as if it were a user of their own."""
    rows = values.transpose(0, 2, 1).reshape(-1, values.shape[1])
    rows = rows[~np.isnan(rows).any(axis=1)]
    return float(paired_tests(rows[:, :, None], np.random.default_rng(0)).p_permutation[0, 1, 0])


@settings(max_examples=10, deadline=None)
@given(st.integers(5, 25), st.integers(1, 5), st.integers(0, 99))
def test_it_is_the_mean_over_cuts_of_the_mean_over_users(
    n_users: int, n_cuts: int, seed: int
) -> None:
    values = make_values(np.random.default_rng(seed), n_users, n_cuts)
    tests = clustered_tests(values, np.random.default_rng(0))
    expected = np.nanmean(values, axis=0).mean(axis=1)
    assert tests.mean[:, 0] == pytest.approx(expected)
    assert tests.difference[0, 1, 0] == pytest.approx(expected[0] - expected[1])


def test_at_one_cut_it_is_the_test_of_that_cut() -> None:
    values = make_values(np.random.default_rng(1), 40, 1, 0.1, tested=1.0)
    one = clustered_tests(values, np.random.default_rng(0))
    plain = paired_tests(values, np.random.default_rng(0))
    assert one.p_permutation == pytest.approx(plain.p_permutation)
    assert one.low == pytest.approx(plain.low, abs=0.01)
    assert one.difference_high == pytest.approx(plain.difference_high, abs=0.01)


def test_the_same_values_at_every_cut_tell_no_more_than_once() -> None:
    """Four times the same is no four times as many users: neither p nor intervals get better."""
    once = make_values(np.random.default_rng(2), 60, 1, 0.05, tested=1.0)
    again = np.repeat(once, 4, axis=2)
    one, four = (clustered_tests(each, np.random.default_rng(0)) for each in (once, again))
    assert four.p_permutation == pytest.approx(one.p_permutation)
    assert four.low == pytest.approx(one.low)
    assert four.difference_low == pytest.approx(one.difference_low)
    assert naive_p(again) < 0.5 * one.p_permutation[0, 1, 0]


def test_how_often_users_are_tested_does_not_widen_the_interval() -> None:
    """All values of a model are the same: its mean is known, whoever is tested where."""
    values = make_values(np.random.default_rng(3), 50, 3)
    values[~np.isnan(values)] = 0.4
    tests = clustered_tests(values, np.random.default_rng(0))
    assert tests.low == pytest.approx(0.4)
    assert tests.high == pytest.approx(0.4)


def test_false_alarms_stay_at_their_level_where_a_pooled_test_raises_many() -> None:
    """100 times two equal models, users who come again with a taste that stays."""
    rng = np.random.default_rng(2024)
    alarms = pooled = missed = 0
    for _ in range(100):
        values = make_values(rng, 30, 4)
        tests = clustered_tests(values, rng)
        alarms += bool(tests.p_permutation[0, 1, 0] < 0.05)
        missed += not tests.difference_low[0, 1, 0] <= 0 <= tests.difference_high[0, 1, 0]
        pooled += naive_p(values) < 0.05
    assert 0.01 <= alarms / 100 <= 0.11
    assert missed / 100 <= 0.1
    assert pooled / 100 > 0.15


def test_a_difference_at_every_cut_is_found() -> None:
    found = [
        clustered_tests(make_values(np.random.default_rng(seed), 60, 4, 0.25), rng).p_holm[0, 1, 0]
        for seed, rng in enumerate(np.random.default_rng(5).spawn(10))
    ]
    assert max(found) < 0.05


@pytest.mark.parametrize(
    ("hole", "told"), [((slice(None), slice(None), 1), "no user"), ((3, 0, 0), "some of the")]
)
def test_values_that_are_no_test_are_refused(hole: tuple[slice | int, ...], told: str) -> None:
    values = make_values(np.random.default_rng(0), 10, 2, tested=1.0)
    values[hole] = np.nan
    with pytest.raises(ValueError, match=told):
        clustered_tests(values, np.random.default_rng(0))
