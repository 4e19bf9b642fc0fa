"""All pairs of models on all metrics: intervals, and tests that keep their level over the pairs.

Everything is paired by user: a user has the sign changed for all models and metrics together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.evaluation.significance import Floats, difference_interval, mean_interval

PERMUTATIONS = 10_000
"""Of signs, unless there are so many pairs that more are needed."""
PERMUTATIONS_PER_PAIR = 100  # so that Holm's smallest possible p-value is below .01
BLOCK_BYTES = 32 * 2**20  # of signs in memory at a time

SEED = 0  # of the permutations: the same runs give the same table again


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
    values: Floats,
    rng: np.random.Generator,
    *,
    bounds: Floats | None = None,
    permutations: int = PERMUTATIONS,
) -> PairedTests:
    """Compare all pairs of models on all metrics.

    Args:
        values: float64[users, models, metrics], a value per user. A user with NaN for any model
            is left out of that metric for all of them. Where users come again, as over several
            cuts in time, a row is the user's mean or sum: rows have to be independent.
        rng: draws signs.
        bounds: float64[metrics, 2], the least and the most that each metric can be; no interval
            reaches beyond. Without it they are open.
        permutations: of signs, at least.

    Raises:
        ValueError: a metric has no user with a value for every model.
    """
    complete = np.asarray(~np.isnan(values).any(axis=1))
    if not complete.any(axis=0).all():
        raise ValueError("A metric has no user with a value for every model: nothing to compare")
    n_models, n_metrics = values.shape[1:]
    if bounds is None:
        bounds = np.tile([-np.inf, np.inf], (n_metrics, 1))
    mean, low, high = np.zeros((3, n_models, n_metrics))
    difference, difference_low, difference_high = np.zeros((3, n_models, n_models, n_metrics))
    for metric in range(n_metrics):
        of_metric = values[complete[:, metric], :, metric]
        least, most = bounds[metric]
        mean[:, metric] = of_metric.mean(axis=0)
        difference[:, :, metric] = mean[:, None, metric] - mean[None, :, metric]
        low[:, metric], high[:, metric] = mean_interval(of_metric).clip(least, most)
        for one in range(n_models - 1):
            later = slice(one + 1, n_models)
            ends = difference_interval(of_metric[:, one, None] - of_metric[:, later])
            ends = ends.clip(least - most, most - least)
            difference_low[one, later, metric], difference_high[one, later, metric] = ends
            difference_high[later, one, metric], difference_low[later, one, metric] = -ends
    filled = np.where(complete[:, None, :], values, 0.0)
    n_pairs = n_models * (n_models - 1) // 2
    n_permutations = max(permutations, PERMUTATIONS_PER_PAIR * n_pairs)
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


def _blocks(rows: int, n_users: int) -> Iterator[int]:
    """Sizes that sum up to ``rows``, each of so many rows as memory allows."""
    size = max(1, BLOCK_BYTES // (8 * n_users))
    for start in range(0, rows, size):
        yield min(size, rows - start)
