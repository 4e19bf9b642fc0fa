"""The audit: arithmetic by hand, and that true metrics are never flagged."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from pipeline.evaluation.audit import audit, audit_evaluation
from pipeline.evaluation.lists import evaluate_lists


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


def evaluation(
    seed: int, ks: list[int], n_users: int = 12, n_items: int = 60
) -> tuple[dict[str, float], pd.DataFrame, pd.DataFrame]:
    """Metrics, values per user and lists of made lists, some of them short, one empty."""
    rng = np.random.default_rng(seed)
    held_out = sparse.random(n_users, n_items, 0.2, format="lil", rng=rng)
    held_out[np.arange(n_users), rng.integers(n_items, size=n_users)] = 1  # everybody has some
    lists = np.stack([rng.permutation(n_items)[: max(ks)] for _ in range(n_users)]).astype(np.int32)
    lists[0, 3:] = lists[1] = -1
    popularity = rng.integers(0, 50, n_items)
    found = evaluate_lists(
        lists, held_out.tocsr(), popular=lists, popularity=popularity, n_training_users=50, ks=ks
    )
    rows, places = np.nonzero(lists >= 0)
    items = lists[rows, places]
    table = pd.DataFrame(
        {
            "user": rows + 100,
            "rank": places + 1,
            "item": items,
            "hit": held_out.toarray()[rows, items] > 0,
        }
    )
    per_user = found.per_user.set_index(np.arange(n_users) + 100)
    return found.summary, per_user, table


@given(st.integers(0, 1000), st.sampled_from([[10], [5, 10], [3]]))
@settings(max_examples=40, deadline=None)
def test_true_evaluations_are_never_flagged(seed: int, ks: list[int]) -> None:
    metrics, per_user, lists = evaluation(seed, ks)
    assert audit_evaluation(metrics, per_user, lists, 60) == []
    assert audit_evaluation(metrics, per_user) == []


@pytest.mark.parametrize("name", ["hit_rate", "precision", "recall", "ndcg", "map"])
def test_every_value_of_accuracy_is_that_of_the_list(name: str) -> None:
    """Even where the mean was made to fit: two users have changed places."""
    metrics, per_user, lists = evaluation(3, [10])
    column = f"{name}_at_10"
    one, other = per_user[column].idxmax(), per_user[column].idxmin()
    per_user.loc[[one, other], column] = per_user.loc[[other, one], column].to_numpy()
    notes = [finding.note for finding in audit_evaluation(metrics, per_user, lists, 60)]
    assert any(f"{column} of user {min(one, other)} is" in note for note in notes)


@pytest.mark.parametrize("name", ["coverage", "gini", "personalization"])
def test_what_belongs_to_all_lists_is_computed_again(name: str) -> None:
    metrics, per_user, lists = evaluation(3, [10])
    metrics[f"{name}_at_10"] *= 0.9
    notes = [finding.note for finding in audit_evaluation(metrics, per_user, lists, 60)]
    assert any(f"{name}_at_10 is " in note and "of the lists it is" in note for note in notes)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1])
def test_numbers_outside_of_their_bounds(value: float) -> None:
    metrics, per_user, _ = evaluation(3, [10])
    (first, *_) = audit_evaluation(metrics | {"recall_at_10": value}, per_user)
    assert first.note == f"recall_at_10 {value:.6g} is outside of 0 to 1"


def test_a_metric_whose_values_per_user_are_gone() -> None:
    metrics, per_user, lists = evaluation(3, [10])
    (found,) = audit_evaluation(metrics, per_user.drop(columns="ndcg_at_10"), lists, 60)
    assert found.note == "ndcg_at_10 has no values per user"


def test_rows_of_lists_that_cannot_be() -> None:
    metrics, per_user, lists = evaluation(3, [10])
    strangers = lists.assign(user=lists["user"] + 7)
    (found,) = audit_evaluation(metrics, per_user, strangers, 60)
    assert "rows of users without values" in found.note
    (found,) = audit_evaluation(metrics, per_user, pd.concat([lists, lists[:2]]), 60)
    assert found.note == "the lists have 2 rows twice"
    notes = [each.note for each in audit_evaluation(metrics, per_user, lists, 20)]
    assert any("items of a catalogue of 20" in note for note in notes)
