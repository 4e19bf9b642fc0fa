"""How large a split is, whether that is enough to compare models, and what would give more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from pipeline.data.split_settings import SplitSettings

if TYPE_CHECKING:
    from pipeline.data.dataset import Dataset

RULES = ("min_held_out", "min_warm_training")  # the settings that say who is evaluated
ENOUGH = 100
"""Users below which a test can hardly tell one model from another."""


@dataclass(frozen=True)
class Size:
    """How much a test or a validation window has to tell."""

    users: int
    interactions: int
    """Held out, of these users."""
    larger: str | None
    """Settings that would give more, where users are too few."""

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """The size of a dataset's test."""
        users = len(dataset.test_users)
        larger = dataset.larger_tests if users < ENOUGH else None
        return cls(users, len(dataset.test), larger)

    def __str__(self) -> str:
        return f"{self.users:,} users, {self.interactions:,} held out"


def statistics(dataset: Dataset) -> dict[str, Any]:
    """What one wants to know at first sight: counts, density, moments, segments."""
    segments = dataset.later.groupby("segment")["user"].agg(["size", "nunique"])
    return {
        "train_interactions": len(dataset.train),
        "train_users": dataset.n_users,
        "catalogue_items": dataset.n_items,
        "density": len(dataset.train) / (dataset.n_users * dataset.n_items),
        "test_interactions": len(dataset.test),
        "test_users": len(dataset.test_users),
        "train_from": _moment(dataset.train["timestamp"].min()),
        "train_until": _moment(dataset.train["timestamp"].max()),
        "later_until": _moment(dataset.later["timestamp"].max()),
        **{f"{name}_interactions": int(row["size"]) for name, row in segments.iterrows()},
        **{f"{name}_users": int(row["nunique"]) for name, row in segments.iterrows()},
    }


def _moment(timestamp: int) -> str:
    return pd.Timestamp(timestamp, unit="s", tz="UTC").isoformat()


def larger_tests(
    training: pd.Series[int],
    held_out: pd.Series[int],
    settings: SplitSettings,
    is_window: bool,
) -> str | None:
    """``looser``, in words.

    Returns:
        As "--min_held_out=5 would give 212 test users, --min_held_out=5 --min_warm_training=7 348";
        None where no such settings give more.
    """
    found = [
        (_changes(settings, rules), f"{users:,}")
        for rules, users in looser(training, held_out, settings, is_window)
    ]
    if not found:
        return None
    (changes, users), *more = found
    return ", ".join([f"{changes} would give {users} test users", *map(" ".join, more)])


def looser(
    training: pd.Series[int],
    held_out: pd.Series[int],
    settings: SplitSettings,
    is_window: bool,
) -> list[tuple[SplitSettings, int]]:
    """Smaller settings with the number of test users that each would give, the fewest first.

    Exact, because ``min_held_out`` and ``min_warm_training`` change neither what trains nor what
    is held out. Settings are halved, then set to the least, until there are ``ENOUGH`` users.

    Args:
        training: the user of each training row.
        held_out: the user of each held-out row that can be part of the test.
        settings: of the split.
        is_window: whether it is a validation window, for which settings may mean less.
    """
    before = training.value_counts()
    after = held_out.value_counts().reindex(before.index, fill_value=0).to_numpy()
    activity = before.to_numpy()

    def users(rules: SplitSettings) -> int:
        rules = rules.in_window() if is_window else rules
        warm = activity >= rules.least_training
        return int(np.count_nonzero(warm & (after >= rules.least_held_out)))

    least = settings.min_training
    now = settings.least_held_out, settings.least_training
    halves = max(now[0] // 2, 1), max(now[1] // 2, least)
    found: list[tuple[SplitSettings, int]] = []
    most = users(settings)
    for tried in ((halves[0], now[1]), halves, (1, now[1]), (1, halves[1]), (1, least)):
        rules = settings.model_copy(update=dict(zip(RULES, tried, strict=True)))
        if users(rules) > most:
            most = users(rules)
            found.append((rules, most))
        if most >= ENOUGH:
            break
    return found


def _changes(now: SplitSettings, other: SplitSettings) -> str:
    names = (name for name in RULES if getattr(now, name) != getattr(other, name))
    return " ".join(f"--{name}={getattr(other, name)}" for name in names)
