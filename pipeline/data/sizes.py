"""Whether a split has enough users to tell models apart, and which settings would give more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from pipeline.data.dataset import Dataset
    from pipeline.data.split import SplitSettings

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


def larger_tests(
    training: pd.Series[int],
    held_out: pd.Series[int],
    settings: SplitSettings,
    is_window: bool,
) -> str | None:
    """Smaller settings with the number of test users that each would give, in words.

    Exact, because ``min_held_out`` and ``min_warm_training`` change neither what trains nor what
    is held out. Settings are halved, then set to the least, until there are ``ENOUGH`` users.

    Args:
        training: the user of each training row.
        held_out: the user of each held-out row that can be part of the test.
        settings: of the split.
        is_window: whether it is a validation window, for which settings may mean less.

    Returns:
        As "--min_held_out=5 would give 212 test users, --min_held_out=5 --min_warm_training=7 348";
        None where no such settings give more.
    """
    before = training.value_counts()
    after = held_out.value_counts().reindex(before.index, fill_value=0).to_numpy()
    activity = before.to_numpy()

    def users(min_held_out: int, min_warm_training: int) -> int:
        changed = {"min_held_out": min_held_out, "min_warm_training": min_warm_training}
        rules = settings.model_copy(update=changed)
        rules = rules.in_window() if is_window else rules
        warm = activity >= rules.least_training
        return int(np.count_nonzero(warm & (after >= rules.least_held_out)))

    least = settings.min_training
    now = settings.least_held_out, settings.least_training
    halves = max(now[0] // 2, 1), max(now[1] // 2, least)
    found: list[str] = []
    most = users(*now)
    for tried in ((halves[0], now[1]), halves, (1, now[1]), (1, halves[1]), (1, least)):
        if users(*tried) > most:
            most = users(*tried)
            told = f"{most:,}" if found else f"would give {most:,} test users"
            found.append(f"{_changes(now, tried)} {told}")
        if most >= ENOUGH:
            break
    return ", ".join(found) or None


def _changes(now: tuple[int, int], tried: tuple[int, int]) -> str:
    names = ("min_held_out", "min_warm_training")
    changed = zip(names, now, tried, strict=True)
    return " ".join(f"--{name}={new}" for name, old, new in changed if new != old)
