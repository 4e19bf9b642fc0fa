"""Rows in two parts, what trains and what is held out, each with one row per user and item.

Rows are deduplicated after the cut, each part for itself: a training row that went because its
pair comes again later would tell what comes later. Nothing here looks from one user at another,
so that users can come in blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.data.protocols import pairs
from pipeline.data.raw.numbering import Mask, Numbers
from pipeline.data.sizes import Counts
from pipeline.data.split_settings import SplitSettings


@dataclass(frozen=True)
class Divided:
    """Rows in two parts, each with one row per user and item; all rows of some users."""

    train: pd.DataFrame
    """The latest row of each user and item, the last in the file on a tie."""
    superseded: pd.DataFrame
    """Earlier rows of the same pairs."""
    later: pd.DataFrame
    """What is held out; ``repeat`` says of which the user has the item in the training part, and
    that counts: repeats are not kept."""
    activity: Counts
    """Training rows of each user, [users], before those with few of them were dropped."""
    duplicates: int
    """Rows that repeat another of the same part."""


def divide(ratings: pd.DataFrame, held_out: Mask, settings: SplitSettings) -> Divided:
    """Each part with one row per user and item, and without users who have too few training rows.

    Args:
        ratings: all rows of some users, which are numbers, as items are; in the order of the file.
        held_out: which of them are held out, [rows].
        settings: of the split.
    """
    user, item = ratings["user"].to_numpy(), ratings["item"].to_numpy()
    superseded, again = _repeated(user, item, held_out, ratings["timestamp"].to_numpy())
    once = np.ones(len(user), np.bool_)
    once[superseded] = False
    before = ~held_out
    activity = np.bincount(user[before & once], minlength=int(user.max(initial=0)) + 1)
    before &= (activity >= settings.min_training)[user]
    repeat = np.zeros(len(user), np.bool_)
    if settings.repeats == "drop":
        repeat[again] = True
    after = held_out & once
    later = _rows(ratings, after)
    later["repeat"] = repeat[after]
    train, earlier = _rows(ratings, before & once), _rows(ratings, before & ~once)
    return Divided(train, earlier, later, activity, len(superseded))


def can_count(later: pd.DataFrame, catalogue: Mask) -> Mask:
    """Which rows of ``later`` can be part of the test, [rows].

    Args:
        catalogue: which items train, [items].
    """
    return np.asarray(catalogue[later["item"].to_numpy()] & ~later["repeat"].to_numpy())


def _repeated(
    user: Numbers, item: Numbers, held_out: Mask, timestamp: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The rows that a later one of the same part and pair supersedes (on a tie, the last of the
    file stays), and the held-out rows of pairs that are in the training part."""
    ordered = pairs(user, item)
    ordered.sort()
    several = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if len(several) == 0:
        nothing = np.empty(0, np.intp)
        return nothing, nothing
    del ordered  # before there is another of its size
    numbers = pairs(user, item)
    rows = np.flatnonzero(pd.Series(numbers, copy=False).isin(several))
    # By pair, the training part first; stable, so in the order of the file on a tie.
    rows = rows[np.lexsort((timestamp[rows], held_out[rows], numbers[rows]))]
    pair, side = numbers[rows], held_out[rows]
    same = pair[1:] == pair[:-1]
    superseded = rows[:-1][same & (side[1:] == side[:-1])]
    begins = np.append(True, ~same)
    is_in_training = ~side[begins][np.cumsum(begins) - 1]
    return superseded, rows[side & is_in_training]


def _rows(table: pd.DataFrame, chosen: Mask) -> pd.DataFrame:
    """``table[chosen]``, numbered anew; pandas would copy all of it together first."""
    columns = {name: column.array[chosen] for name, column in table.items()}
    return pd.DataFrame(columns, copy=False)
