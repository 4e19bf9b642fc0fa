from __future__ import annotations

import threading
import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse
from torch import Tensor

from pipeline.evaluation.ranking import CACHE_BYTES, first_unseen, rank, top_k
from tests.evaluation.slow_metrics import slow_list


class Table:
    """A scorer whose scores are a table, one row per user."""

    def __init__(self, table: npt.NDArray[np.float32]) -> None:
        self.table = table

    def scores(self, users: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        return self.table[users]


class TensorTable(Table):
    """The same as a tensor, as a model on a GPU has it; here it lies on the CPU."""

    def scores(self, users: npt.NDArray[np.int32]) -> Tensor:  # type: ignore[override]
        return torch.from_numpy(self.table[users])


def float32(rows: list[list[float]]) -> npt.NDArray[np.float32]:
    return np.array(rows, np.float32)


SHAPES = st.tuples(st.integers(1, 8), st.integers(1, 12))
TIED = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 2.0])
ANY = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def ranking_cases(draw: st.DrawFn) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], int]:
    shape = draw(SHAPES)
    scores = draw(hnp.arrays(np.float32, shape, elements=TIED | ANY))
    return scores, draw(hnp.arrays(bool, shape)), draw(st.integers(1, 15))


def test_best_first_seen_items_left_out() -> None:
    scores = float32([[0.1, 0.9, 0.5, 0.7], [3, 1, 2, 0]])
    seen = sparse.csr_matrix([[0, 1, 0, 0], [0, 0, 0, 0]])
    assert top_k(scores, seen, 2).tolist() == [[3, 2], [0, 2]]


def test_short_lists_are_padded_at_the_end() -> None:
    scores = float32([[1, 2, 3], [1, 2, 3]])
    seen = sparse.csr_matrix([[1, 0, 1], [1, 1, 1]])
    lists = top_k(scores, seen, 4)
    assert lists.tolist() == [[1, -1, -1, -1], [-1, -1, -1, -1]]
    assert lists.dtype == np.int32


def test_without_a_mask_seen_items_are_recommended() -> None:
    assert top_k(float32([[1, 3, 2]]), None, 2).tolist() == [[1, 2]]
    table = Table(float32([[1, 3, 2], [9, 8, 7]]))
    assert rank(table, np.array([1, 0], np.int32), None, 2, 3).tolist() == [[0, 1], [1, 2]]


def test_a_stored_zero_masks_its_item() -> None:
    seen = sparse.csr_matrix((np.zeros(1), np.array([1]), np.array([0, 1, 1])), shape=(2, 3))
    scores = float32([[1, 3, 2], [1, 3, 2]])
    expected = [[2, 0], [1, 2]]
    assert top_k(scores, seen, 2).tolist() == expected
    assert rank(Table(scores), np.arange(2, dtype=np.int32), seen, 2, 3).tolist() == expected


def test_ties_go_to_the_lower_index_and_the_two_zeros_are_equal() -> None:
    assert top_k(float32([[0.0, -0.0, 1, 0.0, -0.0]]), None, 5).tolist() == [[2, 0, 1, 3, 4]]
    assert top_k(float32([[-0.0, 0.0, -1e-45, 1e-45]]), None, 4).tolist() == [[3, 0, 1, 2]]
    assert top_k(np.full((1, 1000), 7, np.float32), None, 3).tolist() == [[0, 1, 2]]


def test_extreme_scores_keep_their_order() -> None:
    low, high = (float(bound) for bound in (np.finfo("f4").min, np.finfo("f4").max))
    seen = sparse.csr_matrix([[0, 0, 0, 1]])
    assert top_k(float32([[low, 0, high, high]]), seen, 4).tolist() == [[2, 1, 0, -1]]


@given(ranking_cases())
@settings(max_examples=150, deadline=None)
def test_agrees_with_sorting_everything(
    case: tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], int],
) -> None:
    scores, seen, k = case
    before = scores.copy()
    lists = top_k(scores, sparse.csr_matrix(seen), k)
    for row, items in enumerate(lists.tolist()):
        expected = slow_list(scores[row].tolist(), np.flatnonzero(seen[row]).tolist(), k)
        assert items == expected + [-1] * (k - len(expected))
    np.testing.assert_array_equal(scores, before)


@given(ranking_cases(), st.integers(1, 2000), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_rank_is_the_same_for_every_memory_budget(
    case: tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], int],
    memory_budget: int,
    seed: int,
) -> None:
    scores, seen, k = case
    users = np.random.default_rng(seed).permutation(len(scores)).astype(np.int32)
    mask = sparse.csr_matrix(seen)
    lists = rank(Table(scores), users, mask, k, scores.shape[1], memory_budget)
    np.testing.assert_array_equal(lists, top_k(scores[users], mask[users], k))
    for user, items in zip(users, lists, strict=True):
        found = items[items >= 0]
        assert not seen[user, found].any()
        assert len(set(found.tolist())) == len(found) == min(k, (~seen[user]).sum())
        assert (items[len(found) :] == -1).all()


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 300),
    st.integers(1, 160),
    st.sampled_from([0, 1, 5, 2**24]),
    st.sampled_from([0.0, 0.3, 0.97]),
    st.sampled_from([0.0, 0.9]),
)
@settings(max_examples=200, deadline=None)
def test_agrees_with_lexsort_around_the_number_of_groups(
    seed: int, n_items: int, k: int, n_values: int, share_seen: float, share_zero: float
) -> None:
    generator = np.random.default_rng(seed)
    shape = (6, n_items)
    scores = generator.integers(-n_values, n_values + 1, shape).astype(np.float32)
    scores[generator.random(shape) < share_zero] = 0
    scores[(scores == 0) & (generator.random(shape) < 0.5)] = -0.0
    seen = generator.random(shape) < share_seen
    lists = top_k(scores, sparse.csr_matrix(seen), k)
    for row, items in enumerate(lists.tolist()):
        order = np.lexsort((np.arange(n_items), -scores[row]))
        expected = order[~seen[row, order]][:k].tolist()
        assert items == expected + [-1] * (k - len(expected))


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 30),
    st.integers(1, 40),
    st.integers(1, 50),
    st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    st.integers(1, 40_000),
)
@settings(max_examples=150, deadline=None)
def test_the_walk_down_one_order_ranks_its_scores(
    seed: int, n_users: int, n_items: int, k: int, share_seen: float, memory_budget: int
) -> None:
    """Ties, users who have seen nearly all or all, k above what is unseen, blocks of any size."""
    generator = np.random.default_rng(seed)
    popularity = generator.integers(0, 1 + n_items // 3, n_items)
    seen = sparse.csr_matrix(generator.random((n_users, n_items)) < share_seen)
    if seen.nnz:
        seen.data = seen.data.astype(np.float32)
        seen.data[0] = 0  # stored, hence seen
    order = np.argsort(-popularity, kind="stable")
    lists = first_unseen(order, seen, k, memory_budget)
    scores = np.broadcast_to(popularity.astype(np.float32), seen.shape)
    np.testing.assert_array_equal(lists, top_k(scores, seen, k))
    assert lists.dtype == np.int32


@pytest.mark.parametrize("share_zero", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("k", [10, 100])
def test_ranking_takes_no_more_for_a_larger_block(share_zero: float, k: int) -> None:
    generator = np.random.default_rng(5)
    scores = generator.random((2000, 3000), np.float32)
    scores[generator.random(scores.shape) < share_zero] = 0
    seen = sparse.random(*scores.shape, 0.05, format="csr", random_state=5)
    peaks = []
    for n_users in (500, 2000):
        given = scores[:n_users], seen[:n_users]
        tracemalloc.start()
        lists = top_k(*given, k)
        peaks.append(tracemalloc.get_traced_memory()[1] - lists.nbytes)
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] < 5 * CACHE_BYTES


def test_blocks_wait_for_those_before_them() -> None:
    """However much slower ranking is than scoring, no more blocks are held than the budget has."""
    table = np.random.default_rng(5).random((20_000, 400), np.float32)
    users, budget = np.arange(len(table), dtype=np.int32), 2**21
    nothing = sparse.csr_matrix(table.shape)
    tracemalloc.start()
    lists = rank(Table(table), users, nothing, 10, table.shape[1], budget)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < budget + 5 * CACHE_BYTES + 2 * lists.nbytes < table.nbytes / 2
    np.testing.assert_array_equal(lists, top_k(table, None, 10))


def test_scores_are_asked_for_in_the_callers_thread() -> None:
    """PyTorch's number of threads, for one, is set per thread."""
    threads = set()

    class Watched(Table):
        def scores(self, users: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
            threads.add(threading.get_ident())
            return super().scores(users)

    users = np.arange(9, dtype=np.int32)
    rank(Watched(np.ones((9, 4), np.float32)), users, None, 2, 4, memory_budget=1)
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("k", [1, 10, 400, 700])
@pytest.mark.parametrize("n_values", [0, 3, 2**24])
@pytest.mark.parametrize("share_seen", [0.1, 0.995])
def test_long_catalogues(k: int, n_values: int, share_seen: float) -> None:
    # Short rows are sorted whole, so only long ones show a wrong floor or partition.
    generator = np.random.default_rng(5)
    scores = generator.integers(-n_values, n_values + 1, (5, 700)).astype(np.float32)
    scores[0, 3] = np.finfo(np.float32).min
    seen = generator.random(scores.shape) < share_seen
    for row, items in enumerate(top_k(scores, sparse.csr_matrix(seen), k).tolist()):
        expected = slow_list(scores[row].tolist(), set(np.flatnonzero(seen[row]).tolist()), k)
        assert items == expected + [-1] * (k - len(expected))


def test_neighbouring_floats_differ() -> None:
    one = np.ones(1, np.float32)
    above = np.nextafter(one, np.float32(2))
    assert top_k(np.stack([-above, -one, one, above], axis=1), None, 4).tolist() == [[3, 2, 1, 0]]


def test_no_users_no_lists() -> None:
    assert rank(Table(float32([[1, 2]])), np.empty(0, np.int32), None, 3, 2).shape == (0, 3)
    assert top_k(np.empty((0, 700), np.float32), None, 3).shape == (0, 3)
    assert top_k(torch.empty(0, 700), sparse.csr_matrix((0, 700)), 3).shape == (0, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    table = np.zeros((50, 4), np.float32)
    table[37, 2] = bad
    users = np.array([3, 12, 37, 40], np.int32)
    for scorer in (Table(table), TensorTable(table)):
        with pytest.raises(ValueError, match=rf"item 2 for user 37 is {bad}.*diverged"):
            rank(scorer, users, None, 2, 4, memory_budget=1)
    with pytest.raises(ValueError, match=rf"item 2 for user 37 is {bad}"):
        top_k(table, None, 2)


def test_shapes_that_disagree_are_refused() -> None:
    scores = float32([[1, 2, 3]])
    with pytest.raises(ValueError, match=r"seen has shape \(1, 4\), scores have shape \(1, 3\)"):
        top_k(scores, sparse.csr_matrix((1, 4)), 2)
    with pytest.raises(ValueError, match=r"Table returned scores of shape \(1, 3\).*5 items"):
        rank(Table(scores), np.zeros(1, np.int32), None, 2, 5)
    with pytest.raises(ValueError, match=r"seen has shape \(1, 4\), the catalogue has 3 items"):
        rank(Table(scores), np.zeros(1, np.int32), sparse.csr_matrix((1, 4)), 2, 3)
    with pytest.raises(ValueError, match="k is 0"):
        top_k(scores, None, 0)
