from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse
from sklearn.metrics import ndcg_score

from pipeline.evaluation.lists import Evaluation, evaluate_lists
from pipeline.evaluation.metrics import BUILT_IN
from pipeline.evaluation.ranking import top_k
from tests.evaluation.slow_metrics import slow_list, slow_lists_together, slow_mean, slow_user


def int32(rows: list[list[int]]) -> npt.NDArray[np.int32]:
    return np.array(rows, np.int32)


def example(**changes: Any) -> Evaluation:
    """Three users, six items, eight training users; lists of at most four items."""
    arguments: dict[str, Any] = {
        "lists": int32([[0, 1, 2, 3], [0, 4, 1, -1], [5, -1, -1, -1]]),
        "held_out": sparse.csr_matrix([[1, 0, 1, 0, 1, 0], [0, 5, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0]]),
        "popular": int32([[0, 1, 2, 4], [0, 1, 2, 3], [0, 5, 1, 2]]),
        "popularity": np.array([8, 4, 2, 1, 1, 0]),
        "n_training_users": 8,
        "ks": [4],
    }
    return evaluate_lists(**(arguments | changes))


def column(name: str, **changes: Any) -> list[float]:
    return example(**changes).per_user[name].tolist()


def test_known_accuracy() -> None:
    # User 0 hits at ranks 1 and 3 of 3 relevant, user 1 at rank 3 of 1, user 2 never of 5.
    assert column("hit_rate_at_4") == [1, 1, 0]
    assert column("precision_at_4") == [2 / 4, 1 / 4, 0]  # divided by k, short list or not
    assert column("recall_at_4") == pytest.approx([2 / 3, 1 / 1, 0])
    # Gains at ranks 1, 2, 3: 1, 1 / log2(3), 1 / 2.
    ideal_of_three = 1 + 1 / math.log2(3) + 1 / 2
    assert column("ndcg_at_4") == pytest.approx([(1 + 1 / 2) / ideal_of_three, (1 / 2) / 1, 0])
    assert column("map_at_4") == pytest.approx([(1 / 1 + 2 / 3) / 3, (1 / 3) / 1, 0])
    assert column("mrr_at_4") == pytest.approx([1 / 1, 1 / 3, 0])


def test_known_accuracy_with_more_held_out_items_than_places() -> None:
    # At k = 2 user 0 hits at rank 1 of 3 relevant: both ideals hold only two items.
    assert column("ndcg_at_2", ks=[2])[0] == pytest.approx(1 / (1 + 1 / math.log2(3)))
    assert column("map_at_2", ks=[2])[0] == pytest.approx((1 / 1) / 2)
    assert column("recall_at_2", ks=[2])[0] == pytest.approx(1 / 3)


def test_known_popularity_overlap() -> None:
    # {0, 1, 2} of 4; {0, 1} of 3; {5} of 1: divided by the length of the list.
    assert column("popularity_overlap_at_4") == pytest.approx([3 / 4, 2 / 3, 1])
    # At k = 1 the popular list is cut too: user 2's only popular item is then 0.
    assert column("popularity_overlap_at_1", ks=[1]) == [1, 1, 0]


def test_known_novelty() -> None:
    # Shares 8/8, 4/8, 2/8, 1/8, 1/8 are 0, 1, 2, 3, 3 bits; item 5, unknown, counts as 1/8.
    assert column("novelty_at_4") == pytest.approx([6 / 4, 4 / 3, 3])


def test_known_average_popularity() -> None:
    # 8, 4, 2, 1 training users; 8, 1, 4; none.
    assert column("average_popularity_at_4") == pytest.approx([15 / 4, 13 / 3, 0])


def test_known_coverage_gini_and_personalization() -> None:
    summary = example().summary
    assert summary["coverage_at_4"] == 1.0
    # Items are in 2, 2, 1, 1, 1, 1 lists: (1, 1, 1, 1, 2, 2) . (-5, -3, -1, 1, 3, 5) = 8.
    assert summary["gini_at_4"] == pytest.approx(8 / (6 * 8))
    # Pairs share {0, 1}, nothing, nothing.
    assert summary["personalization_at_4"] == pytest.approx(1 - (2 / 4) / 3)
    # At k = 1: items 0, 0, 5.
    summary = example(ks=[1]).summary
    assert summary["coverage_at_1"] == pytest.approx(2 / 6)
    assert summary["gini_at_1"] == pytest.approx((2 * 5 + 1 * 3) / (6 * 3))
    assert summary["personalization_at_1"] == pytest.approx(1 - 1 / 3)


def test_one_list_for_all_is_neither_spread_nor_personal() -> None:
    summary = example(lists=int32([[3, 2]] * 3), ks=[2]).summary
    assert summary["gini_at_2"] == pytest.approx(1 - 2 / 6)
    assert summary["personalization_at_2"] == 0


def test_disjoint_lists_over_the_whole_catalogue_are_spread_and_personal() -> None:
    summary = example(lists=int32([[0, 1], [2, 3], [4, 5]]), ks=[2]).summary
    assert (summary["coverage_at_2"], summary["gini_at_2"]) == (1, 0)
    assert summary["personalization_at_2"] == 1


def test_a_single_user_is_not_personalised() -> None:
    one = example(
        lists=int32([[1, 2]]), held_out=sparse.csr_matrix([[0, 1, 0, 0, 0, 0]]),
        popular=int32([[0, 1]]), ks=[2],
    )  # fmt: skip
    assert one.summary["personalization_at_2"] == 0


def test_a_user_with_an_empty_list_fails_in_accuracy_only() -> None:
    lists = int32([[0, 1, 2, 3], [-1] * 4, [5, -1, -1, -1]])
    full, part = example(), example(lists=lists)
    user = part.per_user.iloc[1]
    assert user[["hit_rate_at_4", "precision_at_4", "recall_at_4"]].tolist() == [0, 0, 0]
    assert user[["ndcg_at_4", "map_at_4"]].tolist() == [0, 0]
    assert user[["popularity_overlap_at_4", "novelty_at_4"]].isna().all()
    assert part.summary["hit_rate_at_4"] == pytest.approx(1 / 3)
    assert part.summary["novelty_at_4"] == pytest.approx(
        full.per_user["novelty_at_4"].iloc[[0, 2]].mean()
    )


def test_padding_is_no_item() -> None:
    # A pad of user 1 must not count as the last item of user 0, in any of the inputs.
    held_out = sparse.csr_matrix([[0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
    lists = int32([[5, 0], [-1, -1], [0, -1]])
    popular = int32([[0, 1], [-1, -1], [0, -1]])
    per_user = example(lists=lists, held_out=held_out, popular=popular, ks=[2]).per_user
    assert per_user["hit_rate_at_2"].tolist() == [1, 0, 1]
    assert per_user["popularity_overlap_at_2"].tolist()[::2] == [1 / 2, 1]


def test_a_stored_zero_is_not_relevant() -> None:
    held_out = sparse.csr_matrix(
        (np.array([0, 1, 1, 1]), np.array([0, 5, 1, 0]), np.array([0, 2, 3, 4])), shape=(3, 6)
    )
    assert column("recall_at_4", held_out=held_out) == [0, 1, 0]


def test_names_and_types_are_those_of_the_tracked_metrics() -> None:
    result = example(ks=[1, 3])
    assert {"ndcg_at_1", "ndcg_at_3", "map_at_3", "coverage_at_1"} <= set(result.summary)
    assert len(result.summary) == 2 * len(BUILT_IN)
    assert all(type(value) is float for value in result.summary.values())
    assert set(result.per_user.dtypes) == {np.dtype(np.float64)}


@st.composite
def evaluation_cases(draw: st.DrawFn) -> dict[str, Any]:
    n_users, n_items = draw(st.integers(1, 7)), draw(st.integers(1, 10))
    shape = (n_users, n_items)
    seen = draw(hnp.arrays(bool, shape))
    seen[0, draw(st.integers(0, n_items - 1))] = False  # at least one list with an item
    held_out = draw(hnp.arrays(bool, shape))
    relevant = draw(hnp.arrays(int, n_users, elements=st.integers(0, n_items - 1)))
    held_out[np.arange(n_users), relevant] = True  # at least one item for every user
    return {
        "scores": draw(hnp.arrays(np.float32, shape, elements=st.integers(-2, 2))),
        "seen": seen,
        "held_out": held_out,
        "popularity": draw(hnp.arrays(np.int64, n_items, elements=st.integers(0, 5))),
        "n_training_users": draw(st.integers(5, 9)),
        "ks": draw(st.lists(st.integers(1, 13), min_size=1, max_size=3, unique=True)),
    }


@given(evaluation_cases())
@settings(max_examples=200, deadline=None)
def test_agrees_with_the_slow_reference(case: dict[str, Any]) -> None:
    scores, seen, popularity, ks = case["scores"], case["seen"], case["popularity"], case["ks"]
    mask, counts = sparse.csr_matrix(seen), np.broadcast_to(popularity, seen.shape)
    result = evaluate_lists(
        top_k(scores, mask, max(ks)),
        sparse.csr_matrix(case["held_out"].astype(np.float32)),
        popular=top_k(counts.astype(np.float32), mask, max(ks)),
        popularity=popularity,
        n_training_users=case["n_training_users"],
        ks=ks,
    )

    seen_items = [set(np.flatnonzero(row).tolist()) for row in seen]
    lists = [slow_list(row, out, 99) for row, out in zip(scores.tolist(), seen_items, strict=True)]
    expected: dict[str, list[float]] = {}
    for user, items in enumerate(lists):
        relevant = set(np.flatnonzero(case["held_out"][user]).tolist())
        popular = slow_list(popularity.tolist(), seen_items[user], 99)
        for k in ks:
            one = slow_user(
                items, relevant, popular, popularity.tolist(), case["n_training_users"], k
            )
            for name, value in one.items():
                expected.setdefault(name, []).append(value)
    summary = {name: slow_mean(values) for name, values in expected.items()}
    for k in ks:
        summary |= slow_lists_together(lists, seen.shape[1], k)

    assert set(result.per_user.columns) == set(expected)
    for name, values in expected.items():
        found = result.per_user[name].tolist()
        assert found == pytest.approx(values, abs=1e-9, nan_ok=True)
    assert result.summary == pytest.approx(summary, abs=1e-9)


@pytest.mark.parametrize("k", [1, 3, 10, 40])
def test_ndcg_agrees_with_scikit_learn(k: int) -> None:
    generator = np.random.default_rng(7)
    scores = generator.permuted(np.tile(np.arange(40, dtype=np.float32), (60, 1)), axis=1)
    relevant = generator.random((60, 40)) < 0.2
    relevant[:, 0] = True
    lists = top_k(scores, None, k)
    result = evaluate_lists(
        lists, sparse.csr_matrix(relevant), popular=lists, popularity=np.ones(40, np.int64),
        n_training_users=60, ks=[k],
    )  # fmt: skip
    theirs = [
        ndcg_score(relevant[[row]].astype(int), scores[[row]], k=k) for row in range(len(scores))
    ]
    np.testing.assert_allclose(result.per_user[f"ndcg_at_{k}"], theirs, rtol=0, atol=1e-8)
    assert 0.1 < result.summary[f"ndcg_at_{k}"] < 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out": sparse.csr_matrix([[1] * 6, [0] * 6, [1] * 6])}, "Row 1 of held_out"),
        ({"lists": int32([[0, 1, 2, 3]])}, r"lists has shape \(1, 4\): expected 3 rows"),
        ({"ks": [2, 5]}, r"lists has shape \(3, 4\).*at least 5 columns"),
        ({"popular": int32([[0], [0], [0]])}, r"popular has shape \(3, 1\).*4 columns"),
        ({"popularity": np.ones(5, np.int64)}, r"popularity has shape \(5,\).*6 items"),
        ({"n_training_users": 7}, "maximum 8.*7 users"),
        ({"lists": np.full((3, 4), -1, np.int32)}, "No list holds any item"),
        ({"ks": []}, "at least 1"),
        ({"ks": [0, 3]}, "at least 1"),
    ],
)
def test_inputs_that_cannot_be_evaluated_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        example(**changes)
