"""A sample of the users of a test or window, for where ranking for all of them takes too long."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.data.dataset import Segment

SAMPLE = "test_sample"
"""The tag of a run whose test is one: how many users, of how many."""
ERROR = "standard_error"


def drawn(segment: Segment, users: int | None, seed: int) -> Segment:
    """So many users of a segment, drawn; all of them if it has no more or None is given.

    The same seed draws the same users, and more of them contain fewer: whatever is evaluated on
    one segment can be paired by user.
    """
    if users is None or users >= len(segment.users):
        return segment
    order = np.random.default_rng(seed).permutation(len(segment.users))
    places = np.sort(order[:users])
    return Segment(segment.users[places], segment.held_out[places])


def sample_words(users: int, of: int) -> str | None:
    """A sample in words, as "1,000 of 24,858 users"; None where it is everybody."""
    return None if users == of else f"{users:,} of {of:,} users"


def standard_errors(per_user: pd.DataFrame, of: int) -> dict[str, float]:
    """The standard error of each metric's mean over the users of a sample, as an estimate of that
    over all ``of`` users it was drawn from; by the metric's name and ``ERROR``.

    s / sqrt(n) sqrt(1 - n / of), s the standard deviation over n users without NaN. Source:
    Cochran, "Sampling Techniques", 1977, section 2.6. There are none where it is everybody.
    """
    if len(per_user) == of:
        return {}
    share = 1 - len(per_user) / of
    found = {
        f"{name}_{ERROR}": float(np.sqrt(values.var(ddof=1) / len(values) * share))
        for name, column in per_user.items()
        if len(values := column.dropna()) > 1
    }
    return found
