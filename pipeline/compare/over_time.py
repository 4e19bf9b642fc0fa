"""What a backtest found: experiments at every cut and over all of them, and what that says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.compare.entrants import Entrant
from pipeline.compare.over_cuts import clustered_tests
from pipeline.compare.paired_tests import SEED, PairedTests, paired_tests
from pipeline.evaluation.significance import ALPHA, p_words

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cut:
    """A moment at which training ends; the test is all that comes later."""

    quantile: float
    moment: int
    """Of the last training interaction [s since 1970]."""
    dataset: str
    """The name of the dataset that is prepared with it."""
    fingerprint: str
    """That dataset's."""

    @property
    def name(self) -> str:
        """As in 0.85."""
        return f"{self.quantile:g}"

    @property
    def date(self) -> str:
        """The day of the moment, UTC."""
        return f"{pd.Timestamp(self.moment, unit='s', tz='UTC'):%Y-%m-%d}"


@dataclass(frozen=True)
class Refitted:
    """An experiment at one cut: its runs there, and a value per tested user."""

    name: str
    model: str
    run_ids: list[str]
    entrants: list[Entrant]
    """Alike but for their seeds."""
    users: npt.NDArray[np.generic]
    """The ids of those tested, [n]."""
    values: Floats
    """[n], means over seeds."""


@dataclass(frozen=True)
class Backtest:
    """Experiments, best mean over cuts first."""

    metric: str
    cuts: list[Cut]
    rows: list[list[Refitted]]
    """An experiment at all cuts."""
    values: Floats
    """[users, rows, cuts]; NaN where a user is not tested."""
    baseline: int
    """The row that the others are compared with."""

    @classmethod
    def of(
        cls, metric: str, cuts: Sequence[Cut], rows: Sequence[list[Refitted]], baseline: str | None
    ) -> Backtest:
        """Of experiments in any order; without ``baseline`` the best is compared with."""
        users = np.unique(np.concatenate([each.users for each in rows[0]]))
        values = np.full((len(users), len(rows), len(cuts)), np.nan)
        for i, row in enumerate(rows):
            for c, each in enumerate(row):
                values[np.searchsorted(users, each.users), i, c] = each.values
        order = np.argsort(-np.nanmean(values, axis=0).mean(axis=1), kind="stable").tolist()
        ranked = [rows[i] for i in order]
        place = 0
        if baseline is not None:
            called = [any(e.is_called(baseline) for e in row[0].entrants) for row in ranked]
            place = called.index(True)
        return cls(metric, list(cuts), ranked, values[:, order], place)

    @cached_property
    def at(self) -> PairedTests:
        """Tests at each cut on its own: its metrics are the cuts."""
        return paired_tests(self.values, np.random.default_rng(SEED))

    @cached_property
    def over(self) -> PairedTests:
        """Tests of the mean over cuts, with users as clusters: one metric."""
        return clustered_tests(self.values, np.random.default_rng(SEED))

    @property
    def names(self) -> list[str]:
        """Of the experiments, in order."""
        return [row[0].name for row in self.rows]

    @property
    def tested(self) -> list[int]:
        """Users at each cut."""
        return [int(n) for n in (~np.isnan(self.values[:, 0])).sum(axis=0)]

    def differs(self, row: int, other: int) -> npt.NDArray[np.int64]:
        """At each cut 1 where ``row`` is better than ``other``, -1 where worse, 0 if unknown."""
        sure = self.at.p_holm[row, other] < ALPHA
        return np.where(sure, np.sign(self.at.difference[row, other]), 0).astype(np.int64)

    def holds(self, row: int, other: int) -> int:
        """The number of cuts at which the two differ, to the side of the mean over cuts."""
        sign = np.sign(self.over.difference[row, other, 0])
        return int((self.differs(row, other) == sign).sum()) if sign else 0

    def verdict(self, row: int) -> str:
        """How a row does against the baseline from cut to cut, in a few words."""
        if row == self.baseline:
            return "the baseline"
        name, signs = self.names[self.baseline], self.differs(row, self.baseline)
        found = [
            f"{word} {name} at {_at(self._cuts(signs == sign), len(signs))}"
            for word, sign in (("above", 1), ("below", -1))
            if (signs == sign).any()
        ]
        return " and ".join(found) or f"not distinguishable from {name} at any of {len(signs)} cuts"

    def in_words(self, row: int) -> str:
        """The verdict, and where a difference from another than the baseline holds once alone."""
        found = [self.verdict(row)]
        for other in range(len(self.rows)):
            signs = self.differs(row, other)
            if self.baseline not in (row, other) and len(signs) > 1 and np.abs(signs).sum() == 1:
                word = "above" if signs.sum() > 0 else "below"
                found.append(
                    f"{word} {self.names[other]} at {_at(self._cuts(signs != 0), len(signs))}"
                )
        return "; ".join(found)

    def sentences(self) -> Iterator[str]:
        """Differences that hold at one cut alone, or turn round; tests that are not unseen."""
        for row in range(len(self.rows)):
            for other in range(row + 1, len(self.rows)):
                signs = self.differs(row, other)
                one, two = self.names[row], self.names[other]
                if (signs == 1).any() and (signs == -1).any():
                    yield (
                        f"{one} and {two}: {one} is better at {_list(self._cuts(signs == 1))}, "
                        f"worse at {_list(self._cuts(signs == -1))}."
                    )
                elif len(signs) > 1 and np.abs(signs).sum() == 1:
                    yield self._alone(row, other, int(np.flatnonzero(signs)[0]))
        yield from self._seen()

    def _alone(self, row: int, other: int, cut: int) -> str:
        differences = self.at.difference[row, other]
        rest = [i for i in range(len(self.cuts)) if i != cut]
        others = _list([f"{differences[i]:+.4f} at {self.cuts[i].name}" for i in rest])
        return (
            f"{self.names[row]} and {self.names[other]}: a difference at cut "
            f"{self.cuts[cut].name} alone, {differences[cut]:+.4f} "
            f"({p_words(float(self.at.p_holm[row, other, cut]))}); not distinguishable at the "
            f"others, {others}."
        )

    def _cuts(self, chosen: npt.NDArray[np.bool_]) -> list[str]:
        return [cut.name for cut, yes in zip(self.cuts, chosen, strict=True) if yes]

    def _seen(self) -> Iterator[str]:
        """Cuts whose tests lie in part within what settings may have been chosen on."""
        for cut in self.cuts:
            ends: dict[float, list[str]] = {}
            for row in self.rows:
                for end in {each.experiment.split.test_cut for each in row[0].entrants}:
                    if cut.quantile < end:
                        ends.setdefault(end, []).append(row[0].name)
            for end, names in sorted(ends.items()):
                yield (
                    f"Cut {cut.name} is earlier than {end:g}, where the training part of "
                    f"{_list(names)} ends: what they were tuned on, if they were, is in part this "
                    f"cut's test."
                )


def _at(cuts: Sequence[str], n_cuts: int) -> str:
    """As in 3 of 4 cuts, or cut 0.8 alone."""
    if len(cuts) == 1 < n_cuts:
        return f"cut {cuts[0]} alone"
    return f"{len(cuts)} of {n_cuts} cuts"


def _list(words: Sequence[str]) -> str:
    """As in a, b and c."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
