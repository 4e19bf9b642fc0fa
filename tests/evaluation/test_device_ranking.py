"""Scores that are tensors are ranked where they lie, as arrays are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from torch import Tensor

from pipeline.evaluation import device_ranking, ranking
from pipeline.evaluation.ranking import rank, top_k
from tests.evaluation.test_ranking import Table, TensorTable, ranking_cases
from tests.gpus import memory_left


@given(ranking_cases(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_tensor_is_ranked_as_an_array(
    case: tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], int], masked: bool
) -> None:
    scores, seen, k = case
    mask = sparse.csr_matrix(seen) if masked else None
    tensor = torch.from_numpy(scores.copy())
    lists = top_k(tensor, mask, k)
    np.testing.assert_array_equal(lists, top_k(scores, mask, k))
    assert lists.dtype == np.int32
    np.testing.assert_array_equal(tensor.numpy(), scores)
    # A part of a row, and features first: what lies elsewhere is not read.
    strided = torch.from_numpy(np.stack([scores, -scores], axis=1))[:, 0]
    np.testing.assert_array_equal(top_k(strided, mask, k), lists)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("n_values", [0, 3, 2**24])
@pytest.mark.parametrize("k", [1, 10, 700, 900])
def test_a_tensor_of_a_long_catalogue(k: int, n_values: int, device: str) -> None:
    generator = np.random.default_rng(5)
    scores = generator.integers(-n_values, n_values + 1, (40, 700)).astype(np.float32)
    scores[(scores == 0) & (generator.random(scores.shape) < 0.5)] = -0.0
    seen = sparse.random(*scores.shape, 0.3, format="csr", random_state=5)
    found = top_k(torch.from_numpy(scores).to(device), seen, k)
    np.testing.assert_array_equal(found, top_k(scores, seen, k))


def test_blocks_of_tensors_are_larger_once_it_is_known_that_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = list[int]()

    class Watched(TensorTable):
        def scores(self, users: npt.NDArray[np.int32]) -> Tensor:  # type: ignore[override]
            asked.append(len(users))
            return super().scores(users)

    table = np.random.default_rng(5).random((30, 50), np.float32)
    seen = sparse.random(30, 50, 0.2, format="csr", random_state=5)
    users = np.random.default_rng(6).permutation(30).astype(np.int32)
    monkeypatch.setattr(ranking, "DEVICE_BUDGET", 2 * 4 * 50 * 12)
    lists = rank(Watched(table), users, seen, 7, 50, memory_budget=2 * 4 * 50 * 3)
    assert asked == [3, 12, 12, 3]
    np.testing.assert_array_equal(lists, rank(Table(table), users, seen, 7, 50))


class Cramped(TensorTable):
    """Scores on a GPU whose memory is too small for more than three users."""

    def scores(self, users: npt.NDArray[np.int32]) -> Tensor:  # type: ignore[override]
        if len(users) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().scores(users)


def test_blocks_are_halved_where_a_gpu_has_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.random.default_rng(0).random((23, 40), np.float32)
    seen = sparse.random(23, 40, 0.2, format="csr", random_state=0)
    users = np.arange(23, dtype=np.int32)
    expected = rank(Table(table), users, seen, 5, 40)
    np.testing.assert_array_equal(rank(Cramped(table), users, seen, 5, 40), expected)

    whole = device_ranking.top_k

    def cramped(scores: Tensor, rows: Tensor, items: Tensor, k: int) -> Tensor:
        if len(scores) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(scores, rows, items, k)

    monkeypatch.setattr(device_ranking, "top_k", cramped)
    np.testing.assert_array_equal(rank(TensorTable(table), users, seen, 5, 40), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("mebibytes", [200, 400, 800])
def test_lists_are_the_same_however_little_memory_a_gpu_has(mebibytes: int) -> None:
    table = np.random.default_rng(0).random((2000, 20_000), np.float32)
    there = torch.from_numpy(table).cuda()

    class Lying:
        def scores(self, users: npt.NDArray[np.int32]) -> Tensor:
            return there[torch.from_numpy(users).long().cuda()]

    seen = sparse.random(2000, 20_000, 0.01, format="csr", random_state=0)
    users = np.arange(2000, dtype=np.int32)
    with memory_left(mebibytes * 2**20):
        lists = rank(Lying(), users, seen, 10, 20_000)
    np.testing.assert_array_equal(lists, rank(Table(table), users, seen, 10, 20_000))


def test_one_user_for_whom_a_gpu_has_no_memory_is_told() -> None:
    class Full(TensorTable):
        def scores(self, users: npt.NDArray[np.int32]) -> Tensor:  # type: ignore[override]
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        rank(Full(np.ones((4, 5), np.float32)), np.arange(4, dtype=np.int32), None, 2, 5)
