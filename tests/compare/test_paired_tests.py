"""All pairs at once: against SciPy, values by hand, false alarms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.compare.paired_tests import holm, paired_tests, permutation_p, wilcoxon_p
from tests.evaluation.test_significance import make_values

Floats = npt.NDArray[np.float64]


def test_holm_by_hand() -> None:
    # sorted .005 .01 .03 .04 times 4 3 2 1 is .02 .03 .06 .04, and none below the one before
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]
    assert holm(np.array([0.2])).tolist() == [0.2]


@given(st.lists(st.floats(1e-4, 1), min_size=1, max_size=30))
def test_holm_is_between_the_p_value_and_bonferroni(values: list[float]) -> None:
    p = np.array(values)
    corrected = holm(p)
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(1, len(p) * p) + 1e-15).all()
    assert (np.diff(corrected[np.argsort(p)]) >= 0).all()


@pytest.mark.parametrize("seed", range(6))
def test_permutation_agrees_with_scipy(seed: int) -> None:
    """SciPy goes through all 2^10 changes of signs."""
    rng = np.random.default_rng(seed)
    values = make_values(rng, 10, [0.0, 0.4, 1.2])
    found = permutation_p(values, rng, 20_000)[:, :, 0]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        exact = stats.permutation_test(
            (values[:, one, 0], values[:, other, 0]),
            lambda x, y, axis: (x - y).mean(axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=np.inf,
        ).pvalue
        assert found[one, other] == pytest.approx(exact, abs=0.015)
        assert found[other, one] == found[one, other]


def test_permutation_counts_the_observed_signs_as_one_of_them() -> None:
    """All differences are 1, so that hardly a random change reaches their sum: p = 1 / (m + 1)."""
    values = np.zeros((60, 2, 1))
    values[:, 0] = 1.0
    assert permutation_p(values, np.random.default_rng(0), 99)[0, 1, 0] == 1 / 100


def test_equal_sums_count_as_reached_in_spite_of_rounding() -> None:
    """Only one user differs: each change of signs gives the same absolute sum."""
    values = np.full((50, 2, 1), 0.1)
    values[7, 1] = 0.1 + 0.2
    assert permutation_p(values, np.random.default_rng(0), 500)[0, 1, 0] == 1.0


def test_wilcoxon_is_scipys() -> None:
    values = make_values(np.random.default_rng(3), 80, [0.0, 0.3, 0.6], n_metrics=2)
    found = wilcoxon_p(values)
    for metric in range(2):
        for one, other in ((0, 1), (0, 2), (1, 2)):
            difference = (values[:, one, metric] - values[:, other, metric]).round(12)
            assert found[one, other, metric] == pytest.approx(stats.wilcoxon(difference).pvalue)
            assert found[other, one, metric] == found[one, other, metric]


@pytest.mark.filterwarnings("error")
def test_the_same_model_twice_does_not_differ() -> None:
    values = make_values(np.random.default_rng(0), 40, [0.0, 1.0])
    values = values[:, [0, 0, 1]]
    tests = paired_tests(values, np.random.default_rng(0), permutations=400)
    assert tests.p_permutation[0, 1, 0] == tests.p_wilcoxon[0, 1, 0] == tests.p_holm[0, 1, 0] == 1
    assert tests.difference_low[0, 1, 0] == tests.difference_high[0, 1, 0] == 0
    assert tests.p_holm[0, 2, 0] < 0.05


def test_intervals_stay_within_the_bounds_of_a_metric() -> None:
    values = np.zeros((6, 2, 1))
    values[:3, 0], values[3:, 0] = 1.0, 0.6
    open_tests = paired_tests(values, np.random.default_rng(0), permutations=10)
    assert open_tests.high[0, 0] > 1
    assert open_tests.difference_high[0, 1, 0] > 1
    tests = paired_tests(
        values, np.random.default_rng(0), bounds=np.array([[0.0, 1.0]]), permutations=10
    )
    assert tests.high[0, 0] == tests.difference_high[0, 1, 0] == -tests.difference_low[1, 0, 0] == 1
    assert tests.low[0, 0] == open_tests.low[0, 0]


def test_differences_are_paired() -> None:
    """A model that gives each user .1 more has an interval of the difference without width."""
    values = make_values(np.random.default_rng(0), 100, [0.0])
    values = np.concatenate([values, values + 0.1], axis=1)
    tests = paired_tests(values, np.random.default_rng(0), permutations=500)
    assert tests.high[0, 0] - tests.low[0, 0] > 0.05
    bounds = tests.difference_low[1, 0, 0], tests.difference_high[1, 0, 0]
    assert bounds == pytest.approx((0.1, 0.1))


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 5), st.integers(2, 30), st.integers(0, 99))
def test_one_minus_other_is_the_opposite_of_other_minus_one(
    n_models: int, n_users: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    tests = paired_tests(make_values(rng, n_users, [0.2] * n_models, 2), rng, permutations=50)
    assert np.array_equal(tests.difference, -tests.difference.transpose(1, 0, 2))
    assert np.array_equal(tests.difference_low, -tests.difference_high.transpose(1, 0, 2))
    assert (tests.difference_low <= tests.difference_high).all()
    assert (tests.low <= tests.high).all()
    for p in (tests.p_permutation, tests.p_wilcoxon, tests.p_holm):
        assert np.array_equal(p, p.transpose(1, 0, 2))
        assert ((p > 0) & (p <= 1)).all()
        assert (p[np.diag_indices(n_models)] == 1).all()
    assert (tests.p_holm >= tests.p_permutation).all()


def test_users_without_a_value_are_left_out_of_that_metric_alone() -> None:
    values = make_values(np.random.default_rng(0), 60, [0.0, 0.8], n_metrics=2)
    holed = values.copy()
    holed[:20, 1, 1] = np.nan
    tests = paired_tests(holed, np.random.default_rng(0), permutations=4000)
    fewer = paired_tests(values[20:], np.random.default_rng(1), permutations=4000)
    assert tests.mean[:, 0] == pytest.approx(values[:, :, 0].mean(axis=0))
    assert tests.mean[:, 1] == pytest.approx(fewer.mean[:, 1])
    assert tests.low[:, 1] == pytest.approx(fewer.low[:, 1])
    assert tests.high[:, 1] == pytest.approx(fewer.high[:, 1])
    assert tests.p_permutation[0, 1, 1] == pytest.approx(fewer.p_permutation[0, 1, 1], abs=0.02)
    assert tests.p_wilcoxon[0, 1, 1] == fewer.p_wilcoxon[0, 1, 1]


def test_a_metric_without_any_complete_user_is_refused() -> None:
    values = np.full((3, 2, 1), np.nan)
    with pytest.raises(ValueError, match="no user with a value for every model"):
        paired_tests(values, np.random.default_rng(0))


def test_blocks_of_one_row_permute_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into memory at once."""
    values = make_values(np.random.default_rng(0), 30, [0.0, 0.9])
    whole = paired_tests(values, np.random.default_rng(0), permutations=3000)
    monkeypatch.setattr("pipeline.compare.paired_tests.BLOCK_BYTES", 1)
    blocks = paired_tests(values, np.random.default_rng(0), permutations=3000)
    assert blocks.p_permutation == pytest.approx(whole.p_permutation, abs=0.02)


def test_the_same_generator_gives_the_same_numbers() -> None:
    values = make_values(np.random.default_rng(0), 50, [0.0, 0.1])
    one, two = (paired_tests(values, np.random.default_rng(5), permutations=200) for _ in range(2))
    assert np.array_equal(one.low, two.low)
    assert np.array_equal(one.p_permutation, two.p_permutation)


def test_many_pairs_get_more_permutations() -> None:
    """Or Holm's correction alone would make every difference insignificant."""
    values = make_values(np.random.default_rng(0), 30, [0.0] * 19 + [3.0])
    tests = paired_tests(values, np.random.default_rng(0), permutations=100)
    assert (tests.p_holm[19, :19, 0] < 0.05).all()


def test_false_alarms_stay_rare_and_a_true_difference_is_found() -> None:
    """200 comparisons of five equal models: 5 % +- 3 % with any alarm, many more uncorrected."""
    rng = np.random.default_rng(2024)
    alarms = uncorrected = found = 0
    for _ in range(200):
        tests = paired_tests(make_values(rng, 200, [0.0] * 5), rng, permutations=500)
        alarms += bool((tests.p_holm < 0.05).any())
        uncorrected += bool((tests.p_permutation < 0.05).any())
    for _ in range(20):
        tests = paired_tests(make_values(rng, 200, [0.0] * 4 + [0.4]), rng, permutations=500)
        found += bool((tests.p_holm[4, :4, 0] < 0.05).all())
    assert alarms / 200 <= 0.08
    assert uncorrected / 200 > 0.15
    assert found == 20
