"""The audit: arithmetic by hand, and that true metrics are never flagged."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.audit import audit


def flags(n_items: int | None = 40, n_users: int | None = 7, **metrics: str) -> list[str]:
    values = {f"{name}_at_10": Decimal(text) for name, text in metrics.items()}
    return [finding.metric for finding in audit(values, n_items, n_users)]


@pytest.mark.parametrize(
    ("metrics", "flagged"),
    [
        ({"coverage": "0.325"}, []),  # 13 of 40
        ({"coverage": "0.33"}, []),  # 13.2 +- 0.2
        ({"coverage": "0.330"}, ["coverage"]),  # 13.2 +- 0.02
        ({"hit_rate": "0.428571"}, []),  # 3 of 7
        ({"hit_rate": "0.4285714285714286"}, []),  # 3 / 7 in float64, to its last digit
        ({"hit_rate": "0.428581"}, ["hit_rate"]),
        ({"hit_rate": "0.43", "precision": "0.2857142857142857"}, []),  # 20 of 70
        ({"hit_rate": "0.428571", "precision": "0.292857"}, ["precision"]),  # 20.5 of 70
        ({"hit_rate": "0", "coverage": "1"}, []),
        ({"hit_rate": "4.285714E-1"}, []),
        ({"hit_rate": "0.142857", "precision": "0.157143"}, ["precision"]),  # 11 of 70 > 1 of 7
        ({"hit_rate": "0.142857", "ndcg": "0.2"}, ["ndcg"]),
        ({"hit_rate": "0.142857", "map": "0.2", "recall": "0.2"}, ["map", "recall"]),
        ({"hit_rate": "0.142857", "ndcg": "0.14", "recall": "0.1428571"}, []),
        ({"ndcg": "0.2"}, []),  # no hit rate to compare with
    ],
)
def test_by_hand(metrics: dict[str, str], flagged: list[str]) -> None:
    assert flags(**metrics) == flagged


def test_without_counts_nothing_is_counted() -> None:
    assert (
        flags(None, None, coverage="0.3333333", hit_rate="0.3333333", precision="0.3333333") == []
    )
    assert flags(None, 7, coverage="0.3333333", hit_rate="0.3333333") == ["hit_rate"]


def test_the_note_has_the_arithmetic() -> None:
    (coverage,) = audit({"coverage_at_5": Decimal("0.03315")}, n_items=4000)
    assert coverage.note.startswith("coverage_at_5 0.03315 x 4,000 items = 132.60, no whole number")
    (precision,) = audit({"precision_at_5": Decimal("0.14321")}, n_users=20)
    assert "0.14321 x 20 users x 5 places = 14.32" in precision.note


def test_lists_of_other_lengths_are_not_compared() -> None:
    assert audit({"hit_rate_at_5": Decimal("0.2"), "ndcg_at_10": Decimal("0.3")}) == []


@given(
    n_users=st.integers(1, 7000),
    n_items=st.integers(10, 70_000),
    digits=st.sampled_from([4, 6, 17]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=100)
def test_true_metrics_are_never_flagged(n_users: int, n_items: int, digits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    hits = rng.integers(0, 11, n_users)
    metrics = {
        "hit_rate_at_10": np.mean(hits > 0),
        "precision_at_10": np.mean(hits / 10),
        "coverage_at_10": rng.integers(10, n_items + 1) / n_items,
    }
    printed = {name: Decimal(repr(round(float(v), digits))) for name, v in metrics.items()}
    assert audit(printed, n_items, n_users) == []
