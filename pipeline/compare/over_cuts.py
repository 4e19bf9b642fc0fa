"""Which differences hold over several cuts in time, where the same users come again.

    users   | cut 1 | cut 2 | cut 3
    one     |   x       x       x       tested at every cut: three values, one user
    two     |   x       x
    three   |                   x       too new for the cuts before
          --+-------+-------+------>  time

A user who likes what one model does is likely to like it at the next cut, too, so values of one
user are no independent ones, the less as what is later than one cut is later than those before it.
Pooled, n users at c cuts would count as n c users, and false alarms would be many. Users are
therefore clusters (Liang and Zeger, "Longitudinal data analysis using generalized linear models",
1986): a user is one row, with all that they have at all cuts.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pipeline.compare.paired_tests import PairedTests, paired_tests

Floats = npt.NDArray[np.float64]


def clustered_tests(values: Floats, rng: np.random.Generator) -> PairedTests:
    """Compare all pairs of models on the mean over cuts of the mean over users.

    Every cut counts the same, however many users it has: it is a moment at which somebody could
    have deployed the models.

    With v_uc the value of user u at cut c, n_c the users of the cut, N those of all C cuts and m_c
    the mean of the cut, the mean over cuts is the mean over users of both

        x_u = N / C sum_c v_uc / n_c            z_u = mean_c m_c + N / C sum_c (v_uc - m_c) / n_c

    (sums over the cuts at which u is tested). The permutation test changes the sign of x_u, which
    turns round all differences of a user together: were the models equally good for a user, that
    would be as likely. Intervals are those of the mean of z_u, the linearised ratio: x_u alone
    would add how often users are tested to how well they are served (Särndal, Swensson and
    Wretman, "Model Assisted Survey Sampling", 1992, section 5.7).

    Args:
        values: float64[users, models, cuts]; NaN where a user is not tested at a cut, which is so
            for all models alike.
        rng: draws signs.

    Returns:
        Tests of the n models on one metric, the mean over cuts; ``values`` of it are z.

    Raises:
        ValueError: a cut has no user, or a user has values of some models alone.
    """
    tested = ~np.isnan(values)
    if (tested != tested[:, :1]).any():
        raise ValueError("A user is tested at a cut with some of the models alone")
    counts = tested[:, 0].sum(axis=0)
    if not counts.all():
        raise ValueError("A cut has no user")
    filled = np.where(tested, values, 0.0)
    means = filled.sum(axis=0) / counts
    share = len(values) / (len(counts) * counts)
    sums = filled @ share
    linear = means.mean(axis=1) + np.where(tested, values - means, 0.0) @ share
    signs = paired_tests(sums[:, :, None], rng)
    intervals = paired_tests(linear[:, :, None], rng)
    return replace(intervals, p_permutation=signs.p_permutation, p_holm=signs.p_holm)
