"""What a comparison has found: rows, best first, each with metrics and tests, and all apart."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.compare.contenders import Protocol
from pipeline.compare.looks import Looks
from pipeline.compare.paired_tests import PairedTests
from pipeline.evaluation.metrics import BY_NAME
from pipeline.evaluation.significance import ALPHA

OF_ROW = ("mean", "low", "high")  # what cells take from tests of rows, and of pairs
OF_PAIR = (
    "difference", "difference_low", "difference_high", "p_permutation", "p_wilcoxon", "p_holm"
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A metric of a row; None where it does not apply, as without per-user values."""

    mean: float
    seed_std: float | None = None
    """Standard deviation between the means of several seeds."""
    low: float | None = None
    high: float | None = None
    difference: float | None = None
    """To the baseline, as all that follows."""
    difference_low: float | None = None
    difference_high: float | None = None
    p_permutation: float | None = None
    p_wilcoxon: float | None = None
    p_holm: float | None = None

    @property
    def significant(self) -> bool:
        """Whether it differs from the baseline."""
        return self.p_holm is not None and self.p_holm < ALPHA


@dataclass(frozen=True)
class Standing:
    """An experiment and its metrics, by name without k."""

    name: str
    model: str
    run_ids: list[str]
    k: int
    cells: dict[str, Cell]
    sentences: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """Experiments on one protocol, best first, and those that cannot be ranked with them."""

    metric: str
    """What they are ranked by, without k."""
    protocol: Protocol
    rows: list[Standing]
    baseline: int
    """The row that the others are compared with."""
    tested: list[str]
    """Metrics with a value per user."""
    values: npt.NDArray[np.float64]
    """[users, rows, tested]"""
    tests: PairedTests
    """Of rows and tested metrics, in their order."""
    ledger: list[Standing]
    apart: dict[str, list[Standing]]
    """By what makes them incomparable."""
    refused: list[Standing]
    """Runs whose results do not fit together, with what does not."""
    smallest: float | None
    """The smallest difference that this test can be expected to find; None without a pair."""
    sentences: list[str]
    """On all of it: what it cannot tell."""
    findings: list[str]
    """What it can: who differs from the baseline."""
    looks: dict[str, Looks] = field(default_factory=dict)
    """By experiment, how often the test was looked at, where that is known."""

    @property
    def n_pairs(self) -> int:
        """Pairs of rows, over which p-values are corrected."""
        return len(self.rows) * (len(self.rows) - 1) // 2

    def is_best(self, row: Standing, name: str) -> bool:
        """Whether no other row has more of a metric of which more is better."""
        metric = BY_NAME[name]
        if not (metric.accuracy or metric.more_is_better):
            return False
        means = [each.cells[name].mean for each in self.rows if name in each.cells]
        return len(means) > 1 and row.cells[name].mean == max(means)
