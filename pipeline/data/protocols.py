"""Which interactions are held out: those after a moment, a share of each user's, or the latest.

    time            one moment for all users: what comes later is held out
    random          of each user a share, drawn: what is held out lies among what trains
    leave_one_out   of each user the latest: others train on what came after it

Only the first knows nothing of the future. The others are for data without times, and for
comparison with what was published under them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.data.raw.numbering import Mask, Numbers

SPANS = 1 << 16  # into which times are counted
FAR = 0.25
"""A part is far from what was asked where a quarter of it is missing or too much."""


class Moments(ABC):
    """The times of many rows, wherever they are [s]."""

    @abstractmethod
    def __len__(self) -> int:
        """How many rows there are."""

    @abstractmethod
    def at(self, place: int) -> int:
        """The time at a place from 0 in their order."""

    @abstractmethod
    def until(self, moment: int) -> int:
        """How many rows are at or before a moment."""

    def before(self, moment: int) -> int:
        """The latest time before a moment; there has to be one."""
        return self.at(self.until(moment - 1) - 1)


@dataclass(frozen=True)
class Times(Moments):
    """Those of rows in memory, int64 [rows]."""

    timestamps: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.timestamps)

    def at(self, place: int) -> int:
        if place in (0, len(self.timestamps) - 1):
            return int(self.timestamps.max() if place else self.timestamps.min())
        return int(np.partition(self.timestamps, place)[place])

    def until(self, moment: int) -> int:
        return int(np.count_nonzero(self.timestamps <= moment))


class StreamedTimes(Moments):
    """Those of rows that come in pieces, as often as they are asked for."""

    def __init__(self, stream: Callable[[], Iterable[npt.NDArray[np.int64]]]) -> None:
        self._stream = stream
        ends = [(len(each), each.min(), each.max()) for each in stream() if len(each)]
        self._rows = sum(rows for rows, _, _ in ends)
        self._low = int(min(low for _, low, _ in ends))
        self._high = int(max(high for _, _, high in ends))

    def __len__(self) -> int:
        return self._rows

    def at(self, place: int) -> int:
        """Found by counting: in which of some thousand spans it is, and in which of the parts of
        that one, until it is a second."""
        low, high = self._low, self._high
        while low < high:
            width = -(-(high - low + 1) // SPANS)
            counts = np.zeros(SPANS, np.int64)
            for times in self._stream():
                within = times[(times >= low) & (times <= high)]
                counts += np.bincount((within - low) // width, minlength=SPANS)
            reached = counts.cumsum()
            span = int(np.searchsorted(reached, place, side="right"))
            place -= int(reached[span] - counts[span])
            low = low + span * width
            high = min(high, low + width - 1)
        return low

    def until(self, moment: int) -> int:
        return sum(int(np.count_nonzero(times <= moment)) for times in self._stream())


def cut_moment(moments: Moments, quantile: float) -> int:
    """The latest timestamp [s] that trains when a share ``quantile`` of the rows is to train.

    It is the timestamp at ``quantile``, the nearest one that occurs, as in pandas' quantile; rows
    at it train. Where so many rows share it that one part is ``FAR`` from what was asked, and the
    boundary before it is nearer, it is the timestamp before. A part is left empty only where all
    rows share one timestamp.
    """
    moment, n_rows = nearest(moments, quantile), len(moments)
    until = moments.until(moment)
    if not is_far(until / n_rows, quantile):
        return moment
    earlier = moments.until(moment - 1)
    shared = until - earlier > 1
    nearer = until == n_rows or until + earlier > 2 * quantile * n_rows
    return moments.before(moment) if earlier and shared and nearer else moment


def nearest(moments: Moments, quantile: float) -> int:
    """The timestamp at ``quantile`` by NumPy's rule "nearest"."""
    return moments.at(int(np.around((len(moments) - 1) * quantile)))


def is_far(share: float, asked: float) -> bool:
    """Whether a training part with this share of the rows is ``FAR`` from the one asked for."""
    return abs(share - asked) > FAR * min(asked, 1 - asked)


class Draw:
    """What random or leave_one_out hold out, whatever the order of the rows.

    Rows come in blocks of users, the users of each after those of the one before: all are drawn
    alike, however they are cut into blocks.
    """

    def __init__(
        self, share: float | None, n_users: int, seeds: Sequence[int],
        *, pairs_go_together: bool, is_window: bool,
    ) -> None:  # fmt: skip
        """
        Args:
            share: of each user's units that is held out; none: the latest row of each.
            n_users: in all blocks.
            seeds: of the draw.
            pairs_go_together: whether all rows of a user and item are on one side.
            is_window: whether the latest row is held out of half of the users only: without a draw
                all windows would be the same.
        """
        self.share, self.pairs_go_together = share, pairs_go_together
        self.generator = np.random.default_rng(seeds)
        if share is None:
            self.among = self.generator.random(n_users) < (0.5 if is_window else 1)

    def held_out(self, ratings: pd.DataFrame) -> Mask:
        """What is held out of the next block, whose users and items are numbers, [rows]."""
        user, item = ratings["user"].to_numpy(), ratings["item"].to_numpy()
        both = pairs(user, item)
        if self.share is not None and self.pairs_go_together:
            unit = np.unique(both, return_inverse=True)[1]
            return share_of_each(user, unit, self.share, self.generator)
        order = np.lexsort((ratings["rating"], ratings["timestamp"], both))
        if self.share is not None:
            found = share_of_each(user[order], np.arange(len(user)), self.share, self.generator)
        else:
            timestamp = ratings["timestamp"].to_numpy()[order]
            found = latest_of_each(user[order], timestamp, self.among, self.generator)
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
    several = np.bincount(user, minlength=len(among)) > 1
    chosen = np.zeros(len(user), np.bool_)
    chosen[last] = (several & among)[user[last]]
    return chosen
