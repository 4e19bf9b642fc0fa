"""Which interactions are held out: those after a moment, a share of each user's, or the latest.

    time            one moment for all users: what comes later is held out
    random          of each user a share, drawn: what is held out lies among what trains
    leave_one_out   of each user the latest: others train on what came after it

Only the first knows nothing of the future. The others are for data without times, and for
comparison with what was published under them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

Numbers = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]

FAR = 0.25
"""A part is far from what was asked where a quarter of it is missing or too much."""


def cut_moment(timestamps: npt.NDArray[np.int64], quantile: float) -> int:
    """The latest timestamp [s] that trains when a share ``quantile`` of the rows is to train.

    It is the timestamp at ``quantile``, the nearest one that occurs, as in pandas' quantile; rows
    at it train. Where so many rows share it that one part is ``FAR`` from what was asked, and the
    boundary before it is nearer, it is the timestamp before. A part is left empty only where all
    rows share one timestamp.
    """
    moment = int(np.quantile(timestamps, quantile, method="nearest"))
    n_rows, until = len(timestamps), np.count_nonzero(timestamps <= moment)
    if not is_far(until / n_rows, quantile):
        return moment
    earlier = timestamps[timestamps < moment]
    shared = until - len(earlier) > 1
    nearer = until == n_rows or until + len(earlier) > 2 * quantile * n_rows
    return int(earlier.max()) if len(earlier) and shared and nearer else moment


def is_far(share: float, asked: float) -> bool:
    """Whether a training part with this share of the rows is ``FAR`` from the one asked for."""
    return abs(share - asked) > FAR * min(asked, 1 - asked)


def drawn(
    ratings: pd.DataFrame,
    user: Numbers,
    item: Numbers,
    share: float | None,
    generator: np.random.Generator,
    pairs_go_together: bool,
    is_window: bool,
) -> Mask:
    """What random or leave_one_out hold out, whatever the order of the rows, [rows].

    Args:
        ratings: rating and timestamp of each row.
        user, item: [rows], numbers from 0 in the order of their ids.
        share: of each user's units that is held out; none: the latest row of each.
        generator: of the draw.
        pairs_go_together: whether all rows of a user and item are on one side.
        is_window: whether the latest row is held out of half of the users only: without a draw all
            windows would be the same.
    """
    both = pairs(user, item)
    if share is not None and pairs_go_together:
        return share_of_each(user, np.unique(both, return_inverse=True)[1], share, generator)
    order = np.lexsort((ratings["rating"], ratings["timestamp"], both))
    if share is not None:
        found = share_of_each(user[order], np.arange(len(user)), share, generator)
    else:
        among = generator.random(int(user.max(initial=-1)) + 1) < (0.5 if is_window else 1)
        found = latest_of_each(
            user[order], ratings["timestamp"].to_numpy()[order], among, generator
        )
    held_out = np.empty(len(user), np.bool_)
    held_out[order] = found
    return held_out


def pairs(user: Numbers, item: Numbers) -> npt.NDArray[np.int64]:
    """One number for each user and item together."""
    both: npt.NDArray[np.int64] = user.astype(np.int64)
    both *= int(item.max(initial=0)) + 1
    both += item
    return both


def share_of_each(
    user: Numbers, unit: Numbers, share: float, generator: np.random.Generator
) -> Mask:
    """Of the units of each user (rows, or pairs of user and item), a share, drawn.

    n units give round(n share), and never all of them.

    Args:
        user: [rows], numbers of users from 0.
        unit: [rows], numbers of units from 0, each of one user; in an order that does not depend
            on that of the file, or the draw would.
        share: of the units, between 0 and 1.
        generator: of the draw.
    """
    owner = np.zeros(int(unit.max(initial=-1)) + 1, np.int64)
    owner[unit] = user
    count = np.bincount(owner)
    order = np.lexsort((generator.random(len(owner)), owner))
    place = np.empty(len(owner), np.int64)
    place[order] = np.arange(len(owner)) - (np.cumsum(count) - count)[owner[order]]
    wanted = np.minimum(np.floor(count * share + 0.5), count - 1)
    drawn: Mask = (place < wanted[owner])[unit]
    return drawn


def latest_of_each(
    user: Numbers,
    timestamp: npt.NDArray[np.int64],
    among: Mask,
    generator: np.random.Generator,
) -> Mask:
    """Of each user with several rows the latest one; among the latest ones, one that is drawn.

    So it is any one row where there are no times.

    Args:
        user: [rows], numbers of users from 0, in an order that does not depend on the file's.
        timestamp: [rows], seconds.
        among: [users], the users of whom one is held out.
        generator: of the draw.
    """
    order = np.lexsort((generator.random(len(user)), timestamp, user))
    last = order[np.append(user[order][1:] != user[order][:-1], True)]
    several = np.bincount(user) > 1
    chosen = np.zeros(len(user), np.bool_)
    chosen[last] = (several & among)[user[last]]
    return chosen
