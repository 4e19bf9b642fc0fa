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
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.data.parts import Divided, can_count, divide
from pipeline.data.protocols import (
    Draw,
    Moments,
    Times,
    cut_moment,
    is_far,
    nearest,
)
from pipeline.data.raw.numbering import Mask
from pipeline.data.sizes import RULES, Counts, larger_tests, looser
from pipeline.data.split_settings import COLD, LOW_ACTIVITY, REPEAT, UNUSED, WARM, SplitSettings
from pipeline.errors import UserError

FEWER = (
    "{0}: nobody has {1.least_training} training and {1.least_held_out} held-out interactions, as "
    "is asked for by default: the {2:,} users with {3.least_training} and {3.least_held_out} are "
    "evaluated. --min_warm_training and --min_held_out say otherwise."
)
CUT_NOTE, PROTOCOL_NOTE = "cut_note", "protocol_note"  # tags under which runs carry them
NO_TIMES = "{} has no times, or one for all rows: {} drawn at random, per user (protocol random)."
FUTURE = (
    "The protocol {} knows the future: what is held out lies among what trains, so figures are "
    "higher than in use and models may come in another order (Meng, McCreadie, Macdonald and "
    "Ounis, 2020). They are not comparable with those of a split in time."
)


AS_GIVEN = SplitSettings(min_training=1, min_warm_training=1, min_held_out=1)
"""Who trains and is evaluated in a split that came with the data: everybody."""


@dataclass(frozen=True)
class Counted:
    """How many rows users have: all that decides who is evaluated. Each is [users]."""

    activity: Counts
    """Training rows, before users with few of them were dropped."""
    training: Counts
    """Training rows."""
    held_out: Counts
    """Held-out rows that can be part of the test."""

    @classmethod
    def of(cls, activity: Counts, held_out: Counts, settings: SplitSettings) -> Counted:
        """From training rows before, and held-out rows."""
        trains = activity >= settings.min_training
        return cls(activity, np.where(trains, activity, 0), held_out)

    def warm(self, rules: SplitSettings) -> Mask:
        """The users who are evaluated, [users]."""
        enough = self.held_out >= rules.least_held_out
        return np.asarray((self.activity >= rules.least_training) & enough)


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


@dataclass(frozen=True)
class Cut:
    """How rows are divided: at a moment, or by a draw."""

    settings: SplitSettings
    """As they were asked for, with the protocol settled."""
    held_out: Callable[[pd.DataFrame], Mask]
    """Of rows with numbers, all of some users: which are held out, [rows]. Where users come in
    blocks, those of each come after those of the one before."""
    note: str | None
    """What a person should know of it."""


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
    n_users = int(ratings["user"].max()) + 1
    cut = find_cut(name, Times(ratings["timestamp"].to_numpy()), n_users, settings, window)
    divided = divide(ratings, cut.held_out(ratings), cut.settings)
    return _evaluated(name, divided, cut, window is not None)


def find_cut(
    name: str,
    moments: Moments,
    n_users: int,
    settings: SplitSettings,
    window: float | None = None,
) -> Cut:
    """How rows with these times and so many users are divided; arguments as ``split_ratings``.

    Raises:
        UserError: there are no times to cut at.
    """
    asked, low, high = settings.protocol, moments.at(0), moments.at(len(moments) - 1)
    settings = settings.settled(low < high)
    if settings.protocol == "time":
        quantile = settings.test_cut if window is None else window
        moment, note = _moment(name, moments, low < high, quantile)
        return Cut(settings, lambda rows: np.asarray(rows["timestamp"] > moment), note)
    repetition = 0 if window is None else round(window * 1e9)
    draw = Draw(
        None if settings.protocol == "leave_one_out" else 1 - settings.test_cut,
        n_users,
        [settings.split_seed, repetition],
        pairs_go_together=settings.repeats == "drop",
        is_window=window is not None,
    )
    note = NO_TIMES.format(name, "what is held out is") if asked == "auto" else None
    return Cut(settings, draw.held_out, note)


def settle_rules(
    name: str, counted: Counted, cut: Cut, repeats: int, is_window: bool
) -> tuple[SplitSettings, SplitSettings, str | None]:
    """The settings of a split, the rules by which users are evaluated, and what to say of both.

    Args:
        repeats: held-out rows of pairs that are in the training part.

    Raises:
        UserError: nobody trains, or nobody can be evaluated.
    """
    settings = cut.settings
    rules = settings.in_window() if is_window else settings
    if counted.warm(rules).any():
        return settings, rules, cut.note
    defaults = SplitSettings()
    if all(getattr(settings, rule) == getattr(defaults, rule) for rule in RULES):
        for fewer, users in looser(counted.training, counted.held_out, settings, is_window)[-1:]:
            rules = fewer.in_window() if is_window else fewer
            note = FEWER.format(name, settings, users, rules)
            return fewer, rules, " ".join(filter(None, [cut.note, note]))
    raise UserError(_empty(name, counted, repeats, settings, is_window))


def split_as_given(ratings: pd.DataFrame, n_training: int, repeats: str) -> Split:
    """A split that came with the data: every held-out row of a known user and item is the test.

    ``ratings`` are ``Numbered``; the first ``n_training`` of them train.
    """
    is_held_out = np.arange(len(ratings)) >= n_training
    settings = AS_GIVEN.model_copy(update={"repeats": repeats})
    divided = divide(ratings, is_held_out, settings)
    counted, countable = _counted(divided, settings)
    later = with_segments(divided.later, countable, counted, settings)
    return Split(divided.train, divided.superseded, later, _counts(divided), settings, None)


def _evaluated(name: str, divided: Divided, cut: Cut, is_window: bool) -> Split:
    counted, countable = _counted(divided, cut.settings)
    counts = _counts(divided)
    settings, rules, note = settle_rules(name, counted, cut, counts["repeats_left_out"], is_window)
    later = with_segments(divided.later, countable, counted, rules)
    return Split(divided.train, divided.superseded, later, counts, settings, note)


def _counts(divided: Divided) -> dict[str, int]:
    repeats = int(divided.later["repeat"].sum())
    return {"duplicates_dropped": divided.duplicates, "repeats_left_out": repeats}


def _counted(divided: Divided, settings: SplitSettings) -> tuple[Counted, Mask]:
    """How many rows users have, and which rows of ``later`` can be part of the test."""
    train, later = divided.train["item"].to_numpy(), divided.later
    catalogue = np.zeros(1 + max(train.max(initial=0), later["item"].max()), np.bool_)
    catalogue[train] = True
    countable = can_count(later, catalogue)
    users = later["user"].to_numpy()[countable]
    held_out = np.bincount(users, minlength=len(divided.activity))
    return Counted.of(divided.activity, held_out, settings), countable


def _moment(name: str, moments: Moments, is_timed: bool, quantile: float) -> tuple[int, str | None]:
    """The last moment that trains, and what to say where it is far from where it was asked for."""
    if not is_timed:
        raise UserError(
            f"{name} has no times, or one for all rows: a split in time cannot be made. Give "
            f"--protocol random (per user, a share held out) or --protocol leave_one_out (per "
            f"user, one); both let a model know the future, so their figures are not comparable "
            f"with those of a split in time."
        )
    moment, n_rows = cut_moment(moments, quantile), len(moments)
    share = 1 - (n_rows - moments.until(moment)) / n_rows
    if is_far(share, quantile) or moment != nearest(moments, quantile):
        return moment, (
            f"{name}: many rows share the moment of the cut, which is therefore made at the "
            f"nearest moment where it can be: {share:.1%} of the rows train, {quantile:.1%} were "
            f"asked for. If that is no split to learn from, --protocol random needs no times."
        )
    return moment, None


def _empty(
    name: str, counted: Counted, repeats: int, settings: SplitSettings, is_window: bool
) -> str:
    """That nothing is left, and what would leave something."""
    rules = settings.in_window() if is_window else settings
    larger = larger_tests(counted.training, counted.held_out, settings, is_window)
    others = "" if settings.protocol == "random" else ", or --protocol random"
    left_out = (
        f" {repeats:,} held-out rows repeat what the user has in training: they are only counted "
        f"with --repeats keep." if repeats else ""
    )  # fmt: skip
    return (
        f"{name}: the split {settings.word} leaves {counted.training.sum():,} training rows and no "
        f"user with at least {rules.least_training} training and {rules.least_held_out} held-out "
        f"interactions.{left_out} "
        + (f"{larger}." if larger else f"Use more data, another --test_cut{others}.")
    )


def with_segments(
    later: pd.DataFrame, countable: Mask, counted: Counted, rules: SplitSettings
) -> pd.DataFrame:
    """``later`` with the segment of each row, from its user and whether it is ``countable``."""
    user, activity = later["user"].to_numpy(), counted.activity
    kinds = np.select([activity >= rules.least_training, activity > 0], [0, 1], 2)
    evaluated = countable & (counted.held_out >= rules.least_held_out)[user]
    names = pd.array([WARM, LOW_ACTIVITY, COLD, UNUSED, REPEAT], dtype="str")
    segment = names.take(np.where(evaluated, kinds[user], np.where(later["repeat"], 4, 3)))
    return later.drop(columns="repeat").assign(segment=segment)


def notes_of(settings: SplitSettings, cut: str | None, *, given: bool = False) -> dict[str, str]:
    """What a person should know of a split that was made or ``given``, of its cut and protocol."""
    notes = {} if cut is None else {CUT_NOTE: cut}
    if settings.protocol != "time" and not given:
        notes[PROTOCOL_NOTE] = FUTURE.format(settings.protocol)
    return notes
