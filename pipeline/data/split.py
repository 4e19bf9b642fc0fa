"""The split: what trains, and what is held out for whom.

    users                   | cut
    warm          o--o-o--o-|-x--x-x--x     trains, and is evaluated
    low activity         o--|--x-x-x-x      too little training to be judged among the warm
    cold                    |  x-x--x-x     first seen after the cut
                time -------+--------->

Where there are times, by default one cut for all users, so that no model learns from what happens
after the moment at which it would have been asked; ``protocols`` has what else there is. Validation
windows are the same split, made inside the training part.

    rows -> held out or not -> each part with one row per user and item -> segments

Rows are deduplicated after the cut, each part for itself: a training row that went because its
pair comes again later would tell what comes later.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.data.protocols import Mask, Numbers, cut_moment, drawn, is_far, pairs
from pipeline.data.sizes import RULES, larger_tests, looser
from pipeline.data.split_settings import SplitSettings
from pipeline.errors import UserError

WARM, LOW_ACTIVITY, COLD, UNUSED = "warm", "low_activity", "cold", "unused"
REPEAT = "repeat"

FEWER = (
    "{0}: nobody has {1.least_training} training and {1.least_held_out} held-out interactions, as "
    "is asked for by default: the {2:,} users with {3.least_training} and {3.least_held_out} are "
    "evaluated. --min_warm_training and --min_held_out say otherwise."
)
NO_TIMES = "{} has no times, or one for all rows: {} drawn at random, per user (protocol random)."
FUTURE = (
    "The protocol {} knows the future: what is held out lies among what trains, so figures are "
    "higher than in use and models may come in another order (Meng, McCreadie, Macdonald and "
    "Ounis, 2020). They are not comparable with those of a split in time."
)


AS_GIVEN = SplitSettings(min_training=1, min_warm_training=1, min_held_out=1)
"""Who trains and is evaluated in a split that came with the data: everybody."""


@dataclass(frozen=True)
class Split:
    """Rows with the columns of the ratings that were split."""

    train: pd.DataFrame
    """Training rows, one per user and item: the latest, the last in the file on a tie."""
    superseded: pd.DataFrame
    """Earlier training rows of the same pairs, for the windows, which are cut before them."""
    later: pd.DataFrame
    """Held-out rows, one per user and item, with a column ``segment``."""
    counts: dict[str, int]
    """duplicates_dropped: rows that repeat another of the same part. repeats_left_out: held-out
    rows of pairs that are in the training part, too."""
    settings: SplitSettings
    """As they were asked for, with what the data left open settled."""
    note: str | None
    """What a person should know of the cut."""
    activity: npt.NDArray[np.int64]
    """Training rows of each user, [users], before those with few of them were dropped."""
    countable: Mask
    """Which rows of ``later`` can be part of the test."""

    @property
    def is_empty(self) -> bool:
        """Whether nobody trains, or nobody can be evaluated."""
        return len(self.train) == 0 or not (self.later["segment"] == WARM).any()

    @property
    def counted(self) -> tuple[pd.Series[int], pd.Series[int]]:
        """The users of training rows, and those of held-out rows that can be part of the test."""
        return self.train["user"], self.later["user"][self.countable]

    def evaluated_by(self, rules: SplitSettings) -> Split:
        """The same with the segments of other rules on who is evaluated."""
        user, is_repeat = self.later["user"].to_numpy(), self.later["segment"] == REPEAT
        segment = _segments(self.activity, user, self.countable, is_repeat.to_numpy(), rules)
        return replace(self, later=self.later.assign(segment=segment))


def split_ratings(
    name: str, ratings: pd.DataFrame, settings: SplitSettings, window: float | None = None
) -> Split:
    """Split ``ratings`` (user, item, rating, timestamp) as ``settings`` say.

    Users and items are numbers, as of ``Numbered``. The parts are:

    training rows of users with ``min_training`` of them;
    held-out rows in segments. Rows of items in the training catalogue, of users with
    ``min_held_out`` of them, are ``warm`` (the test), ``low_activity`` or ``cold``, as the user
    has enough, some or no training interactions; what the user has in the training part is
    ``repeat``, unless ``repeats`` are kept; the rest is ``unused``. Where nobody has as many as
    the defaults ask for, and nobody asked for others, fewer are enough.

    Args:
        name: of the data, for messages.
        ratings: the rows as they are, not deduplicated.
        settings: how to split.
        window: makes a validation window of training rows. In time it is the quantile to cut at.
            Otherwise it does no more than name a repetition, drawn by itself: random holds out
            the same share again, for which ``in_window`` says who is evaluated; leave_one_out
            the latest row of half of the users, as without a draw all windows would be the same.

    Raises:
        UserError: nothing is left to train on or to evaluate, or there are no times to cut at.
    """
    timestamp = ratings["timestamp"].to_numpy()
    asked, settings = settings.protocol, settings.settled(ratings["timestamp"])
    draws = settings.protocol != "time"
    user, item = ratings["user"].to_numpy(), ratings["item"].to_numpy()
    note = NO_TIMES.format(name, "what is held out is") if draws and asked == "auto" else None
    if draws:
        repetition = 0 if window is None else round(window * 1e9)
        generator = np.random.default_rng([settings.split_seed, repetition])
        share = None if settings.protocol == "leave_one_out" else 1 - settings.test_cut
        pairs_go_together = settings.repeats == "drop"
        held_out = drawn(
            ratings, user, item, share, generator, pairs_go_together, window is not None
        )
    else:
        quantile = settings.test_cut if window is None else window
        held_out, note = _after_the_cut(name, timestamp, quantile)
    rules = settings if window is None else settings.in_window()
    split = _divided(ratings, user, item, held_out, rules, note)
    if not split.is_empty:
        return replace(split, settings=settings)
    defaults = SplitSettings()
    if all(getattr(settings, rule) == getattr(defaults, rule) for rule in RULES):
        for fewer, users in looser(*split.counted, settings, window is not None)[-1:]:
            rules = fewer if window is None else fewer.in_window()
            fewer_note = FEWER.format(name, settings, users, rules)
            note = " ".join(filter(None, [note, fewer_note]))
            return replace(split.evaluated_by(rules), settings=fewer, note=note)
    raise UserError(_empty(name, split, settings, window is not None))


def split_as_given(ratings: pd.DataFrame, n_training: int, repeats: str) -> Split:
    """A split that came with the data: every held-out row of a known user and item is the test.

    ``ratings`` are ``Numbered``; the first ``n_training`` of them train.
    """
    user, item = ratings["user"].to_numpy(), ratings["item"].to_numpy()
    is_held_out = np.arange(len(ratings)) >= n_training
    settings = AS_GIVEN.model_copy(update={"repeats": repeats})
    return _divided(ratings, user, item, is_held_out, settings, None)


def _after_the_cut(
    name: str, timestamp: npt.NDArray[np.int64], quantile: float
) -> tuple[Mask, str | None]:
    """Rows after the cut, and what to say where it is far from where it was asked for."""
    if timestamp.min() == timestamp.max():
        raise UserError(
            f"{name} has no times, or one for all rows: a split in time cannot be made. Give "
            f"--protocol random (per user, a share held out) or --protocol leave_one_out (per "
            f"user, one); both let a model know the future, so their figures are not comparable "
            f"with those of a split in time."
        )
    moment = cut_moment(timestamp, quantile)
    held_out: Mask = timestamp > moment
    share = 1 - held_out.mean()
    if is_far(share, quantile) or moment != np.quantile(timestamp, quantile, method="nearest"):
        return held_out, (
            f"{name}: many rows share the moment of the cut, which is therefore made at the "
            f"nearest moment where it can be: {share:.1%} of the rows train, {quantile:.1%} were "
            f"asked for. If that is no split to learn from, --protocol random needs no times."
        )
    return held_out, None


def _divided(
    ratings: pd.DataFrame,
    user: Numbers,
    item: Numbers,
    held_out: Mask,
    settings: SplitSettings,
    note: str | None,
) -> Split:
    superseded, again = _repeated(user, item, held_out, ratings["timestamp"].to_numpy())
    once = np.ones(len(user), np.bool_)
    once[superseded] = False
    before = ~held_out
    activity = np.bincount(user[before & once], minlength=int(user.max(initial=0)) + 1)
    before &= (activity >= settings.min_training)[user]
    catalogue = np.zeros(int(item.max(initial=0)) + 1, np.bool_)
    catalogue[item[before]] = True
    after = held_out & once
    repeat = np.zeros(len(user), np.bool_)
    if settings.repeats == "drop":
        repeat[again] = True
    later = _rows(ratings, after)
    countable = catalogue[item[after]] & ~repeat[after]
    later["segment"] = _segments(activity, user[after], countable, repeat[after], settings)
    counts = {
        "duplicates_dropped": len(superseded),
        "repeats_left_out": int(np.count_nonzero(repeat & after)),
    }
    train, earlier = _rows(ratings, before & once), _rows(ratings, before & ~once)
    return Split(train, earlier, later, counts, settings, note, activity, countable)


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


def _empty(name: str, split: Split, settings: SplitSettings, is_window: bool) -> str:
    """That nothing is left, and what would leave something."""
    rules = settings.in_window() if is_window else settings
    larger = larger_tests(*split.counted, settings, is_window)
    others = "" if settings.protocol == "random" else ", or --protocol random"
    repeats = split.counts["repeats_left_out"]
    left_out = (
        f" {repeats:,} held-out rows repeat what the user has in training: they are only counted "
        f"with --repeats keep." if repeats else ""
    )  # fmt: skip
    return (
        f"{name}: the split {settings.word} leaves {len(split.train):,} training rows and no user "
        f"with at least {rules.least_training} training and {rules.least_held_out} held-out "
        f"interactions.{left_out} "
        + (f"{larger}." if larger else f"Use more data, another --test_cut{others}.")
    )


def _segments(
    activity: npt.NDArray[np.int64],
    user: Numbers,
    countable: Mask,
    repeat: Mask,
    settings: SplitSettings,
) -> pd.api.extensions.ExtensionArray:
    """The segment of each held-out row, from its user and whether it can be part of the test."""
    held_out = np.bincount(user[countable], minlength=len(activity))
    kinds = np.select([activity >= settings.least_training, activity > 0], [0, 1], 2)
    evaluated = countable & (held_out >= settings.least_held_out)[user]
    names = pd.array([WARM, LOW_ACTIVITY, COLD, UNUSED, REPEAT], dtype="str")
    return names.take(np.where(evaluated, kinds[user], np.where(repeat, 4, 3)))


def _rows(table: pd.DataFrame, chosen: Mask) -> pd.DataFrame:
    """``table[chosen]``, numbered anew; pandas would copy all of it together first."""
    columns = {name: column.array[chosen] for name, column in table.items()}
    return pd.DataFrame(columns, copy=False)
