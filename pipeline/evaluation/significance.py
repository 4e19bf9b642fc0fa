"""Which differences between models are real: intervals and paired tests over users.

All models are evaluated on the same users, so everything here is paired: a user is drawn, or has
the sign changed, for all models and metrics together. Users count as a sample of the users that
the models are for; the chance in training is not seen here, only more seeds show it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEVEL = 0.95
"""Of the intervals."""
RESAMPLES = 10_000
"""Bootstrap samples; permutations too, unless there are so many pairs that more are needed."""
PERMUTATIONS_PER_PAIR = 100  # so that Holm's smallest possible p-value is below .01
BLOCK_BYTES = 32 * 2**20  # of weights or signs in memory at a time


@dataclass(frozen=True)
class PairedTests:
    """Means and differences of n models on m metrics, with intervals at ``LEVEL`` and p-values.

    Entry [i, j] of a difference is model i minus model j. P-values are symmetric, 1 on the
    diagonal.
    """

    values: Floats
    """What was compared, [users, n, m]"""
    mean: Floats
    """[n, m]"""
    low: Floats
    """[n, m]"""
    high: Floats
    """[n, m]"""
    difference: Floats
    """[n, n, m]"""
    difference_low: Floats
    """[n, n, m]"""
    difference_high: Floats
    """[n, n, m]"""
    p_permutation: Floats
    """[n, n, m]"""
    p_holm: Floats
    """``p_permutation`` corrected over all pairs of models, each metric on its own, [n, n, m]"""
    permutations: int
    """Behind ``p_permutation``; none is below 1 / (permutations + 1)."""

    @cached_property
    def p_wilcoxon(self) -> Floats:
        """[n, n, m]; whoever does without it does without the import of SciPy's statistics."""
        return wilcoxon_p(self.values)


def paired_tests(
    values: Floats, rng: np.random.Generator, resamples: int = RESAMPLES
) -> PairedTests:
    """Compare all pairs of models on all metrics.

    Args:
        values: float64[users, models, metrics], a value per user. A user with NaN for any model
            is left out of that metric for all of them.
        rng: draws users and signs.
        resamples: bootstrap samples, and at least as many permutations.

    Raises:
        ValueError: a metric has no user with a value for every model.
    """
    complete = np.asarray(~np.isnan(values).any(axis=1))
    if not complete.any(axis=0).all():
        raise ValueError("A metric has no user with a value for every model: nothing to compare")
    filled = np.where(complete[:, None, :], values, 0.0)
    mean = filled.sum(axis=0) / complete.sum(axis=0)
    resampled = bootstrap_means(filled, complete, rng, resamples)
    low, high = _interval(resampled)
    difference = mean[:, None, :] - mean[None, :, :]
    difference_low, difference_high = np.zeros_like(difference), np.zeros_like(difference)
    for one in range(len(mean) - 1):
        bounds = _interval(resampled[one] - resampled[one + 1 :])
        difference_low[one, one + 1 :], difference_high[one, one + 1 :] = bounds
        difference_high[one + 1 :, one], difference_low[one + 1 :, one] = -bounds
    n_pairs = len(mean) * (len(mean) - 1) // 2
    n_permutations = max(resamples, PERMUTATIONS_PER_PAIR * n_pairs)
    p_permutation = permutation_p(filled, rng, n_permutations)
    return PairedTests(
        values,
        mean,
        low,
        high,
        difference,
        difference_low,
        difference_high,
        p_permutation,
        _corrected(p_permutation),
        n_permutations,
    )


def bootstrap_means(
    filled: Floats, complete: npt.NDArray[np.bool_], rng: np.random.Generator, resamples: int
) -> Floats:
    """Means over users drawn with replacement, [models, metrics, resamples].

    How often each user is drawn is a row of weights, so a product of matrices gives the means of
    all models and metrics for the same draws. ``filled``, [users, models, metrics], is 0 where
    ``complete``, [users, metrics], is False.
    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993 (percentile interval).
    """
    n_users, n_models, n_metrics = filled.shape
    columns = np.concatenate([filled.reshape(n_users, -1), complete], axis=1).T
    means = []
    for size in _blocks(resamples, n_users):
        drawn = rng.integers(n_users, size=(size, n_users)) + n_users * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * n_users).reshape(size, n_users)
        sums = columns @ weights.astype(np.float64).T
        totals = sums[:-n_metrics].reshape(n_models, n_metrics, size)
        means.append(totals / np.maximum(sums[-n_metrics:], 1))
    return np.concatenate(means, axis=2)


def permutation_p(filled: Floats, rng: np.random.Generator, permutations: int) -> Floats:
    """Two-sided p-values of the paired sign-flip test of the mean difference, [n, n, metrics].

    Were two models equally good, a user's difference could as well have the other sign. With b of
    m random changes of signs giving a sum at least as far from 0 as the true one,
    p = (b + 1) / (m + 1), which keeps its level and is never 0 (Phipson and Smyth, "Permutation
    p-values should never be zero", 2010). Sums of flipped differences are differences of flipped
    sums, so the signs are multiplied with models, not with pairs.

    ``filled``, [users, models, metrics], is 0 for users that are left out.
    """
    n_users, n_models, n_metrics = filled.shape
    columns = filled.reshape(n_users, -1)
    sums = filled.sum(axis=0)
    rounding = 1e-10 * np.abs(filled).sum(axis=0).max(axis=0)  # equal sums count as equal
    reached = np.ones((n_models, n_models, n_metrics))
    for size in _blocks(permutations, n_users):
        signs = rng.integers(2, size=(size, n_users), dtype=np.int8) * 2.0 - 1.0
        flipped = (signs @ columns).reshape(size, n_models, n_metrics)
        for one in range(n_models - 1):
            later = slice(one + 1, n_models)
            observed = np.abs(sums[one] - sums[later]) - rounding
            far = np.abs(flipped[:, one, None, :] - flipped[:, later]) >= observed
            reached[one, later] += far.sum(axis=0)
    return _symmetric(reached / (permutations + 1))


def wilcoxon_p(values: Floats) -> Floats:
    """Two-sided p-values of the Wilcoxon signed-rank test, [n, n, metrics]; 1 without differences.

    It looks at the order of the differences, not their mean: a second opinion where a few users
    decide the mean.
    """
    from scipy import stats  # .7 s, which whoever compares nothing does without

    n_models, n_metrics = values.shape[1:]
    p = np.ones((n_models, n_models, n_metrics))
    for metric in range(n_metrics):
        of_metric = values[:, :, metric]
        of_metric = of_metric[~np.isnan(of_metric).any(axis=1)]
        for one in range(n_models - 1):
            # Rounded, so that differences which are equal but for the last bits are ties.
            differences = (of_metric[:, one, None] - of_metric[:, one + 1 :]).round(12)
            differing = np.flatnonzero(differences.any(axis=0))
            if len(differing):
                found = stats.wilcoxon(differences[:, differing], axis=0).pvalue
                p[one, one + 1 + differing, metric] = found
    return _symmetric(p)


def holm(p: Floats) -> Floats:
    """P-values corrected so that the chance of any false alarm among them stays below the level.

    The i-th smallest of m becomes the largest of (m - j + 1) p_j over j <= i, at most 1.
    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    return np.minimum(corrected, 1.0)


def _corrected(p: Floats) -> Floats:
    pairs = np.triu_indices(len(p), k=1)
    corrected = np.ones_like(p)
    for metric in range(p.shape[2]):
        corrected[(*pairs, metric)] = holm(p[(*pairs, metric)])
    return _symmetric(corrected)


def _symmetric(p: Floats) -> Floats:
    """``p`` [n, n, m] with its upper triangle copied to the lower and 1 on the diagonal."""
    upper = np.triu(np.ones(p.shape[:2], np.bool_), k=1)[:, :, None]
    mirrored = np.where(upper, p, p.transpose(1, 0, 2))
    mirrored[np.diag_indices(len(p))] = 1.0
    return mirrored


def _interval(resampled: Floats) -> Floats:
    """Lower and upper bounds over the last axis, [2, ...]."""
    tail = (1 - LEVEL) / 2
    return np.asarray(np.quantile(resampled, (tail, 1 - tail), axis=-1))


def _blocks(rows: int, n_users: int) -> Iterator[int]:
    """Sizes that sum up to ``rows``, each of so many rows as memory allows."""
    size = max(1, BLOCK_BYTES // (8 * n_users))
    for start in range(0, rows, size):
        yield min(size, rows - start)
