"""What a sample of users can tell: intervals of means and differences, and a paired test of two.

All models are evaluated on the same users, so a difference is one of each user. Users count as a
sample of the users that the models are for; the chance in training is not seen here, only more
seeds show it.

Intervals are studentised, since tests may have few users: at 20 users the percentile bootstrap
covers .75 to .97 where it should cover .95, BCa .70 to .98 (``python -m benchmarks.coverage``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]

LEVEL = 0.95
"""Of the intervals."""
ALPHA = 0.05
"""Below which a p-value counts."""
POWER = 0.8
"""The chance to find a difference that is called large enough to be found."""


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
        repeats different ones make it, as if who comes again always said the same.
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


def p_words(p: float) -> str:
    """A p-value as it is written: p = .43, p = .012, p < .001."""
    if p < 0.001:
        return "p < .001"
    if p > 0.99:
        return "p > .99"
    return f"p = {p:.2f}".replace("0.", ".") if p >= 0.1 else f"p = {p:.3f}".replace("0.", ".")


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
