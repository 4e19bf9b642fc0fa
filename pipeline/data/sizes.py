"""How large a split is, whether that is enough to compare models, and what would give more."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.data.split_settings import WARM, SplitSettings

if TYPE_CHECKING:
    from pipeline.data.dataset import Dataset

Counts = npt.NDArray[np.int64]

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
        return cls(users, dataset.held_out.nnz, larger)

    def __str__(self) -> str:
        return f"{self.users:,} users, {self.interactions:,} held out"


def statistics(dataset: Dataset) -> dict[str, Any]:
    """What one wants to know at first sight: counts, density, moments, segments."""
    rows: Counter[str] = Counter()
    users: dict[str, npt.NDArray[np.bool_]] = {}
    for later in dataset.chunks("later", ["user", "segment"]):
        for segment, part in later.groupby("segment")["user"]:
            rows[name := str(segment)] += len(part)
            users.setdefault(name, np.zeros(len(dataset.users), np.bool_))[part] = True
    begins, ends = _moments(dataset, "train")
    return {
        "train_interactions": dataset.n_interactions,
        "train_users": dataset.n_users,
        "catalogue_items": dataset.n_items,
        "density": dataset.n_interactions / (dataset.n_users * dataset.n_items),
        "test_interactions": rows[WARM],
        "test_users": int(users[WARM].sum()) if WARM in users else 0,
        "train_from": begins,
        "train_until": ends,
        "later_until": _moments(dataset, "later")[1],
        **{f"{name}_interactions": rows[name] for name in sorted(users)},
        **{f"{name}_users": int(users[name].sum()) for name in sorted(users)},
    }


def span(dataset: Dataset, table: str) -> tuple[int, int] | None:
    """The first and the last moment of a table's rows; None where there are none."""
    pieces = (rows["timestamp"].to_numpy() for rows in dataset.chunks(table, ["timestamp"]))
    ends = [(int(times.min()), int(times.max())) for times in pieces if len(times)]
    return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None


def _moments(dataset: Dataset, table: str) -> tuple[str, str]:
    ends = span(dataset, table)
    if ends is None:
        return "NaT", "NaT"
    begins, until = (pd.Timestamp(end, unit="s", tz="UTC").isoformat() for end in ends)
    return begins, until


def larger_tests(
    training: Counts, held_out: Counts, settings: SplitSettings, is_window: bool
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
    training: Counts, held_out: Counts, settings: SplitSettings, is_window: bool
) -> list[tuple[SplitSettings, int]]:
    """Smaller settings with the number of test users that each would give, the fewest first.

    Exact, because ``min_held_out`` and ``min_warm_training`` change neither what trains nor what
    is held out. Settings are halved, then set to the least, until there are ``ENOUGH`` users.

    Args:
        training: training rows of each user, [users].
        held_out: held-out rows of each that can be part of the test, [users].
        settings: of the split.
        is_window: whether it is a validation window, for which settings may mean less.
    """

    def users(rules: SplitSettings) -> int:
        rules = rules.in_window() if is_window else rules
        warm = training >= rules.least_training
        return int(np.count_nonzero(warm & (held_out >= rules.least_held_out)))

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
