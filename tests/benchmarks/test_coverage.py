"""Intervals of made values: the true means are true, and every kind of interval is there."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import coverage
from benchmarks.coverage import NDCG, SHARED, coverages, covered, draw


def test_the_true_means_are_those_of_what_is_drawn() -> None:
    one, other = draw(0.5, 100, 1000, np.random.default_rng(0))
    assert (one > 0).mean() == pytest.approx(0.5, abs=0.01)
    assert one.mean() == pytest.approx(0.5 * NDCG[0] / sum(NDCG), abs=0.005)
    expected = (1 - SHARED) * 0.1 * one.mean()
    assert (one - other).mean() == pytest.approx(expected, abs=0.005)


def test_an_interval_holds_what_lies_in_it() -> None:
    def intervals(values: coverage.Floats) -> coverage.Floats:
        return np.stack([values.min(axis=0), values.max(axis=0)])

    assert covered(intervals, np.array([[0.0, 2.0], [1.0, 3.0]]), 0.5) == 0.5


def test_a_row_for_every_data_set_and_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "RESAMPLES", 50)
    rows = coverages(20, 10, np.random.default_rng(0))
    assert len(rows) == 9
    assert all(0 <= float(row[kind]) <= 1 for row in rows for kind in ("ours", "BCa"))
    assert float(rows[0]["ours"]) > 0.5
