"""Which differences between models are real: intervals and paired tests over users.

All models are evaluated on the same users, so everything here is paired: a difference is one of
each user, and a user has the sign changed for all models and metrics together. Users count as a
sample of the users that the models are for; the chance in training is not seen here, only more
seeds show it.

Intervals are studentised, since tests may have few users: at 20 users the percentile bootstrap
covers .75 to .97 where it should cover .95, BCa .70 to .98 (``python -m benchmarks.coverage``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]

LEVEL = 0.95
"""Of the intervals."""
PERMUTATIONS = 10_000
"""Of signs, unless there are so many pairs that more are needed."""
PERMUTATIONS_PER_PAIR = 100  # so that Holm's smallest possible p-value is below .01
BLOCK_BYTES = 32 * 2**20  # of signs in memory at a time
ALPHA = 0.05
"""Below which a p-value counts."""
POWER = 0.8
"""The chance to find a difference that is called large enough to be found."""


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


@dataclass(frozen=True)
class Gain:
    """Sums over users of what one has and what another has: four numbers that can be kept.

    They are enough for a paired test, and those of several windows add up.
    """

    users: float
    one: float
    other: float
    squares: float
    """Of the differences"""

    @classmethod
    def of(cls, one: Floats, other: Floats) -> Gain:
        """Of paired values, both float64[users]."""
        return cls(
            len(one), float(one.sum()), float(other.sum()), float(((one - other) ** 2).sum())
        )

    def __add__(self, more: Gain) -> Gain:
        return Gain(
            self.users + more.users,
            self.one + more.one,
            self.other + more.other,
            self.squares + more.squares,
        )

    @property
    def mean(self) -> float:
        """Of the differences, one minus other."""
        return (self.one - self.other) / self.users

    @property
    def words(self) -> str:
        """Both means."""
        return f"{self.one / self.users:.4f} against {self.other / self.users:.4f}"

    def p(self, repeats: float = 1.0) -> float:
        """The two-sided p-value of Student's paired test.

        ``repeats`` is how many times a user is among the users: the test is as sure as users /
        repeats different ones make it, as if who comes again always told the same.
        """
        n, error = self.users / repeats, self._error(repeats)
        if n <= 1 or self.squares == 0:
            return 1.0  # nobody to tell, or nothing
        return float(2 * special.stdtr(n - 1, -abs(self.mean) / error)) if error > 0 else 0.0

    def most(self, repeats: float = 1.0) -> float:
        """The upper end of the interval of the mean difference; infinite for one user."""
        n = self.users / repeats
        if n <= 1:
            return float("inf")
        return self.mean + float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * self._error(repeats)

    def _error(self, repeats: float) -> float:
        """Standard error of the mean difference."""
        variance = max(self.squares / self.users - self.mean**2, 0.0)
        return float(np.sqrt(variance / max(self.users / repeats - 1, 1e-9)))


def mean_interval(values: Floats) -> Floats:
    """Lower and upper ends, [2, n], of the means of float64[users, n] at ``LEVEL``.

    mean + s / sqrt(users) (kappa (1 + 2 t^2) -+ t), where s is the standard deviation, t the
    quantile of Student's distribution and kappa = skewness / (6 sqrt(users)): metrics of few
    users are skewed, and an even interval misses on one side. Values that are all 0 or 1, as a
    hit rate has and every metric of accuracy where nobody has a hit, get Wilson's interval, which
    has a width then, too. Other values that are all equal have none; one user alone has NaN.

    Covers .93 to .97 from 20 users on where half of them have a hit. Where one in eight has, it
    is .91 at 20 users and .93 at 70: two or three values that are not 0 cannot tell the rest.

    Sources: Johnson, "Modified t tests and confidence intervals for asymmetrical populations",
    1978, in the form of Hesterberg, "What teachers should know about the bootstrap", 2015; Wilson,
    "Probable inference, the law of succession, and statistical inference", 1927.
    """
    n_users = len(values)
    if n_users < 2:
        return np.full((2, values.shape[1]), np.nan)
    mean, t = values.mean(axis=0), _student(n_users)
    deviation = values - mean
    spread = values.std(axis=0, ddof=1)
    cubed, root = (deviation**3).mean(axis=0), (deviation**2).mean(axis=0) ** 1.5
    skewness = np.divide(cubed, root, out=np.zeros_like(mean), where=root > 0)
    shift = skewness / (6 * np.sqrt(n_users)) * (1 + 2 * t**2)
    ends = mean + spread / np.sqrt(n_users) * (shift + np.array([[-t], [t]]))
    is_share = ((values == 0) | (values == 1)).all(axis=0)
    ends[:, is_share] = _wilson(mean[is_share], n_users)
    return np.asarray(ends)


def difference_interval(differences: Floats) -> Floats:
    """Lower and upper ends, [2, n], of the means of paired float64[users, n] at ``LEVEL``.

    mean -+ t s / sqrt(users), Student's: differences of two models are nearly even, and what
    skewness a few users show is noise (correcting for it covers .53 to .94 at 20 users, this .94
    to .96 for values like real ones). Differences that are all equal have no width; one user
    alone has NaN.
    """
    n_users = len(differences)
    if n_users < 2:
        return np.full((2, differences.shape[1]), np.nan)
    half = _student(n_users) * differences.std(axis=0, ddof=1) / np.sqrt(n_users)
    mean = differences.mean(axis=0)
    return np.stack([mean - half, mean + half])


def smallest_difference(spread: float, n_users: int) -> float:
    """The smallest mean difference that a test of so many users would find, in the metric's unit.

    (t_{1 - ALPHA / 2} + t_POWER) spread / sqrt(users): the true difference that a two-sided paired
    test at ``ALPHA`` finds with the chance ``POWER``, where ``spread`` is the standard deviation
    of a user's difference between two models. Infinite for fewer than two users.
    Source: Cohen, "Statistical power analysis for the behavioral sciences", 1988.
    """
    if n_users < 2:
        return float("inf")
    freedom = n_users - 1
    reach = special.stdtrit(freedom, 1 - ALPHA / 2) + special.stdtrit(freedom, POWER)
    return float(reach * spread / np.sqrt(n_users))


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


def p_words(p: float) -> str:
    """A p-value as it is written: p = .43, p = .012, p < .001."""
    if p < 0.001:
        return "p < .001"
    if p > 0.99:
        return "p > .99"
    return f"p = {p:.2f}".replace("0.", ".") if p >= 0.1 else f"p = {p:.3f}".replace("0.", ".")


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


def _student(n_users: int) -> float:
    """The quantile of Student's distribution at the upper end of ``LEVEL``."""
    return float(special.stdtrit(n_users - 1, (1 + LEVEL) / 2))


def _wilson(share: Floats, n_users: int) -> Floats:
    """Wilson's interval, [2, n], of shares of ``n_users``."""
    z = special.ndtri((1 + LEVEL) / 2)
    centre = share + z**2 / (2 * n_users)
    half = z * np.sqrt(share * (1 - share) / n_users + z**2 / (4 * n_users**2))
    low, high = np.stack([centre - half, centre + half]) / (1 + z**2 / n_users)
    return np.stack([np.minimum(low, share), np.maximum(high, share)])  # equal but for rounding


def _blocks(rows: int, n_users: int) -> Iterator[int]:
    """Sizes that sum up to ``rows``, each of so many rows as memory allows."""
    size = max(1, BLOCK_BYTES // (8 * n_users))
    for start in range(0, rows, size):
        yield min(size, rows - start)
