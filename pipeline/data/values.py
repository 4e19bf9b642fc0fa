"""What an interaction is worth to a model: one, its rating, or something made of its rating.

r is a rating, r_u the mean of its user's:

    binary    1
    ratings   r
    log       log2(1 + r / median of the ratings above 0); nothing for r of 0 and below
    centred   1 + (r - r_u) / (largest - smallest rating): in (0, 2), and 1 on a user's average
    positive  1 where r is at least a threshold, else nothing
    auto      binary, ratings or log, as the ratings look: see ``taken``

log, centred and positive do not depend on the unit of the ratings.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Values = Literal["auto", "binary", "ratings", "log", "centred", "positive"]
Taken = Literal["binary", "ratings", "log"]

Floats = npt.NDArray[np.float32]

TAIL = 10  # times the median: no scale that people rate on is used so far above it, counts are
RARE = 0.01  # share of the interactions below which something may be an accident


def worth(
    values: Values,
    ratings: Floats,
    users: npt.NDArray[np.int32],
    positive_from: float | None = None,
) -> Floats:
    """What each interaction is worth, float32 [n]; 0 is nothing.

    Args:
        ratings: of the interactions, [n].
        users: their users, [n].
        positive_from: the threshold of ``positive``; None: the median rating.
    """
    match taken(ratings) if values == "auto" else values:
        case "ratings":
            return ratings.astype(np.float32)
        case "log":
            shares = np.maximum(ratings, 0).astype(np.float64) / _middle(ratings)  # of any size
            return np.log2(1 + shares).astype(np.float32)
        case "centred":
            sums = np.bincount(users, ratings)
            means = sums / np.maximum(np.bincount(users), 1)
            width = float(ratings.max()) - float(ratings.min())
            return (1 + (ratings - means[users]) / (width or 1)).astype(np.float32)
        case "positive":
            least = np.median(ratings) if positive_from is None else positive_from
            return (ratings >= least).astype(np.float32)
        case _:
            return np.ones(len(ratings), np.float32)


def taken(ratings: Floats) -> Taken:
    """What ``auto`` is for these ratings.

    binary where all are equal, or where more than RARE of them are 0 or below, because a sum of
    such numbers does not tell how much somebody wanted. log where they are counts (hours, plays):
    more than RARE of them are above TAIL times the median. Otherwise they are ratings.
    """
    if ratings.min() == ratings.max() or (ratings <= 0).mean() > RARE:
        return "binary"
    return "log" if (ratings > TAIL * _middle(ratings)).mean() > RARE else "ratings"


def explained(ratings: Floats) -> str:
    """``taken`` in words."""
    low, high = float(ratings.min()), float(ratings.max())
    if low == high:
        return f"every rating is {low:,g}: every interaction counts one"
    spread = f"ratings range from {low:,g} to {high:,g}"
    match taken(ratings):
        case "binary":
            share = (ratings <= 0).mean()
            return (
                f"{spread} and {share:.0%} are 0 or below, which is no measure of an interaction: "
                f"with values=auto every one counts one"
            )
        case "log":
            return (
                f"{spread} with a median of {_middle(ratings):,g}: these are counts, not ratings; "
                f"with values=auto models take their logarithm"
            )
        case "ratings":
            return f"{spread}: with values=auto models take them as they are"


def distinct(ratings: Floats) -> tuple[Values, ...]:
    """The choices that are worth comparing for these ratings, ``binary`` first.

    Where all are equal nothing differs. Sums of counts are those of a few rows, so counts have
    neither ``ratings`` nor ``centred``.
    """
    if ratings.min() == ratings.max():
        return ("binary",)
    counts = taken(ratings) == "log"
    found: tuple[Values, ...] = (
        ("binary", "log") if counts else ("binary", "ratings", "log", "centred")
    )
    all_positive = bool((ratings >= np.median(ratings)).all())
    return found if all_positive else (*found, "positive")


def _middle(ratings: Floats) -> float:
    """The median of the ratings above 0; 1 where there is none."""
    above = ratings[ratings > 0]
    return float(np.median(above)) if len(above) else 1.0
