"""Full ranking: every item of the catalogue is scored, seen items are masked, the best k stay.

Scores that are equal as float32 are ordered by item index, lower first, so that a list depends
on the scores alone and not on the block size, the sorting algorithm or the device.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

if TYPE_CHECKING:  # models without a network do without torch
    from torch import Tensor

Scores: TypeAlias = "npt.NDArray[np.float32] | Tensor"
"""float32 [n_users, n_items], higher is better: NumPy's, or a tensor, ranked where it lies."""

MEMORY_BUDGET = 32 * 2**20
"""Bytes for the blocks of users in work: their scores, or in ``first_unseen`` their masks."""

DEVICE_BUDGET = 256 * 2**20
"""The same for scores that are tensors: small blocks would leave most of a GPU idle."""
DEVICE_SHARE = 1 / 16
"""Of a GPU's free memory, that these may take; ranking takes several times as much beside them."""

BLOCKS_AT_ONCE = 2  # one is ranked in a thread of its own while the next is scored
SCORE_BYTES = 4
CACHE_BYTES = 2 * 2**20
"""Bytes of scores that are ranked at a time, so that they stay in the cache."""

_GROUPS = 64  # more make fewer candidates, and more maxima to order
_RARE = 16  # candidates are up to one in so many scores before ties among them are thinned out
_NOTHING = np.iinfo(np.int64).max  # after every real key; its low 32 bits read as item -1


class Scorer(Protocol):
    """What can be ranked: a model that scores the whole catalogue for a block of users."""

    def scores(self, users: npt.NDArray[np.int32]) -> Scores:
        """Scores, float32[len(users), n_items], of every item; higher is better."""
        ...


def top_k(scores: Scores, seen: sparse.csr_matrix | None, k: int) -> npt.NDArray[np.int32]:
    """The k best unseen items of each row of ``scores``.

    Args:
        scores: float32[n_users, n_items]; not changed.
        seen: [n_users, n_items]; every stored entry, explicit zeros included, is an item that
            is not recommended to the user of that row. None masks nothing.
        k: length of the lists, at least 1.

    Returns:
        int32[n_users, k], best first; -1 fills the end where fewer than k unseen items exist.

    Raises:
        ValueError: a score is NaN or infinite, ``seen`` has another shape, or k < 1.
    """
    if seen is not None and seen.shape != scores.shape:
        raise ValueError(f"seen has shape {seen.shape}, scores have shape {scores.shape}")
    return _rank_block(scores, np.arange(len(scores), dtype=np.int32), seen, k)


def rank(
    scorer: Scorer,
    users: npt.NDArray[np.int32],
    seen: sparse.csr_matrix | None,
    k: int,
    n_items: int,
    memory_budget: int = MEMORY_BUDGET,
) -> npt.NDArray[np.int32]:
    """The k best unseen items of each of ``users``, in blocks of users that fit in memory.

    The scorer is always called from the thread that calls this; a second one ranks what it gave.

    Args:
        scorer: scores all items for a block of users.
        users: int32[n], user indices.
        seen: [all users, n_items], the row of a user at its index; masks as in ``top_k``.
        k: length of the lists, at least 1.
        n_items: size of the catalogue.
        memory_budget: bytes for the scores of the blocks in work. What ranking takes beside them
            is a few times ``CACHE_BYTES``, or one row of scores if that is more; what the scorer
            needs inside comes on top. Once scores have come as a tensor, blocks have the size that
            ``DEVICE_BUDGET`` and free memory allow, and half of it whenever a GPU has none left.
            The lists are the same for every budget.

    Returns:
        int32[n, k], row i for ``users[i]``, as from ``top_k``.

    Raises:
        ValueError: as ``top_k``, naming the user, or scores of another shape.
    """
    if seen is not None and seen.shape[1] != n_items:
        raise ValueError(f"seen has shape {seen.shape}, the catalogue has {n_items} items")
    of_a_row, left, on_device = BLOCKS_AT_ONCE * SCORE_BYTES * n_items, users, False
    ranked: list[Future[npt.NDArray[np.int32]]] = []
    with ThreadPoolExecutor(1) as ranker:
        while len(left):
            block, left = np.split(left, [max(1, memory_budget // of_a_row)])
            scores = _scores(scorer, block)
            if scores is None:
                memory_budget, left = of_a_row * len(block) // 2, np.concatenate([block, left])
                on_device = True
                continue
            if not isinstance(scores, np.ndarray) and not on_device:
                memory_budget, on_device = _device_budget(scores), True
            if scores.shape != (len(block), n_items):
                raise ValueError(
                    f"{type(scorer).__name__} returned scores of shape {scores.shape} for "
                    f"{len(block)} users and a catalogue of {n_items} items"
                )
            if ranked:
                ranked[-1].result()  # or blocks would queue up in memory
            ranked.append(ranker.submit(_rank_block, scores, block, seen, k))
    return np.concatenate([np.empty((0, k), np.int32), *(lists.result() for lists in ranked)])


def _scores(scorer: Scorer, users: npt.NDArray[np.int32]) -> Scores | None:
    """None where a GPU's memory is too small for scores of so many users."""
    try:
        return scorer.scores(users)
    except RuntimeError as error:  # of PyTorch, which is not imported for its name
        if len(users) == 1 or type(error).__name__ != "OutOfMemoryError":
            raise
    return None


def _device_budget(scores: Tensor) -> int:
    from pipeline.training.memory import free_memory

    return int(min(DEVICE_BUDGET, DEVICE_SHARE * free_memory(scores.device)))


def _rank_block(
    scores: Scores,
    users: npt.NDArray[np.int32],
    seen: sparse.csr_matrix | None,
    k: int,
) -> npt.NDArray[np.int32]:
    if k < 1:
        raise ValueError(f"k is {k}: a list needs at least one place")
    if not isinstance(scores, np.ndarray):
        return _on_device(scores, users, seen, k)
    lists = np.empty((len(users), k), np.int32)
    size = max(1, CACHE_BYTES // (SCORE_BYTES * max(1, scores.shape[1])))
    for start in range(0, len(users), size):
        rows = slice(start, start + size)
        _check_finite(scores[rows], users[rows])
        lists[rows] = _best(scores[rows], None if seen is None else seen[users[rows]], k)
    return lists


def _on_device(
    scores: Tensor, users: npt.NDArray[np.int32], seen: sparse.csr_matrix | None, k: int
) -> npt.NDArray[np.int32]:
    """As ``_rank_block``: the mask is copied there, the lists are copied back.

    By halves where there is no memory for all at once.
    """
    import torch

    from pipeline.evaluation import device_ranking

    masked = np.empty((2, 0), np.int64)
    if seen is not None:
        of_users = seen[users]
        rows = np.repeat(np.arange(len(users)), np.diff(of_users.indptr))
        masked = np.stack([rows, of_users.indices.astype(np.int64)])
    try:
        if not scores.isfinite().all():
            _check_finite(scores.cpu().numpy(), users)
        rows, items = torch.from_numpy(masked).to(scores.device)
        lists: npt.NDArray[np.int32] = device_ranking.top_k(scores, rows, items, k).cpu().numpy()
        return lists
    except torch.OutOfMemoryError:
        if len(users) == 1:
            raise
    halves = slice(None, len(users) // 2), slice(len(users) // 2, None)
    return np.concatenate([_on_device(scores[half], users[half], seen, k) for half in halves])


def first_unseen(
    order: npt.NDArray[np.integer],
    seen: sparse.csr_matrix,
    k: int,
    memory_budget: int = MEMORY_BUDGET,
) -> npt.NDArray[np.int32]:
    """The first k unseen items of one order of the catalogue, which holds for everyone.

    The lists are those of ranking scores in that order, without a score being looked at.

    Args:
        order: int[n_items], every item once, best first.
        seen: [n_users, n_items]; masks as in ``top_k``.
        k: length of the lists, at least 1.
        memory_budget: bytes for a block of users. The lists are the same for every budget.

    Returns:
        int32[n_users, k], as from ``top_k``.
    """
    n_users, n_items = seen.shape
    place = np.empty(n_items, np.int32)
    place[order] = np.arange(n_items)
    lists = np.empty((n_users, k), np.int32)
    block_size = max(1, memory_budget // n_items)
    for start in range(0, n_users, block_size):
        ends = seen.indptr[start : start + block_size + 1]
        rows = np.arange(len(ends) - 1)
        left = np.ones(len(rows) * n_items, np.bool_)  # by place in the order
        taken = place[seen.indices[ends[0] : ends[-1]]]
        left[np.repeat(rows * n_items, np.diff(ends)) + taken] = False
        left = left.reshape(len(rows), n_items)
        for column in range(k):
            first = left.argmax(axis=1)
            found = left[rows, first]
            lists[start + rows, column] = np.where(found, order[first], -1)
            left[rows, first] = False
    return lists


def _check_finite(scores: npt.NDArray[np.float32], users: npt.NDArray[np.int32]) -> None:
    """A model that diverged would still yield lists; refuse it instead of ranking noise."""
    finite = np.isfinite(scores)
    if not finite.all():
        row, item = np.argwhere(~finite)[0]
        raise ValueError(
            f"The score of item {item} for user {users[row]} is {scores[row, item]}: scores must "
            f"be finite, so the model has diverged or computes them wrongly"
        )


def _best(
    scores: npt.NDArray[np.float32], seen: sparse.csr_matrix | None, k: int
) -> npt.NDArray[np.int32]:
    n_users, n_items = scores.shape
    found = min(k, n_items)
    if seen is not None:
        scores = np.array(scores, np.float32, order="C")  # popularity is one row, repeated
        scores[np.repeat(np.arange(n_users), np.diff(seen.indptr)), seen.indices] = -np.inf
    candidates = np.flatnonzero(_near_the_top(scores, found))
    counts = np.bincount(candidates // n_items, minlength=n_users)
    keys = np.full((n_users, max(found, counts.max(initial=0))), _NOTHING)
    filled = np.arange(keys.shape[1]) < counts[:, None]
    keys[filled] = _sort_keys(scores.ravel()[candidates], candidates % n_items)
    keys.partition(found - 1, axis=1)
    best = np.sort(keys[:, :found], axis=1)
    lists = np.full((n_users, k), -1, np.int32)
    lists[:, :found] = best.astype(np.int32)  # the low 32 bits
    return lists


def _near_the_top(scores: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.bool_]:
    """Where the k best of each row are, [n_users, n_items], and few others; never a masked one."""
    floor = _floor(scores, k)[:, None]
    near = scores >= floor
    if np.count_nonzero(near) * _RARE > scores.size:
        # Whole rows may be equal: of what is level with the floor, the first k are enough.
        level = scores == floor
        near &= ~level | (level.cumsum(axis=1, dtype=np.int32) <= k)
    return near


def _floor(scores: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.float32]:
    """A score that the k best of each row reach and few others do, [n_users]; never a masked one.

    Items are dealt into groups; k groups have a best item at or above the k-th best group's, so
    the k best items do as well. The groups' best come from halving rows: long rows are what NumPy
    compares fastest.
    """
    n_users, n_items = scores.shape
    groups = max(_GROUPS, 2 * k)
    if n_items < groups:
        return np.full(n_users, np.finfo(np.float32).min, np.float32)
    best = scores
    while (half := best.shape[1] // 2) >= groups:
        best = np.maximum(best[:, :half], best[:, half : 2 * half])  # an odd one is in no group
    floor = np.partition(best, best.shape[1] - k, axis=1)[:, best.shape[1] - k]
    return np.maximum(floor, np.finfo(np.float32).min)


def _sort_keys(
    scores: npt.NDArray[np.float32], items: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """int64 keys whose ascending order is score descending, then item index ascending.

    The bits of a float32 are a sign and a magnitude that grows with the absolute value, so
    the signed magnitude is an integer in the order of the scores, with -0.0 equal to 0.0. Its
    negative makes the upper half of a key and the item index the lower. All keys of a row
    differ, hence partitioning has one right answer.
    """
    bits = np.ascontiguousarray(scores, np.float32).view(np.int32)
    magnitude = bits & np.int32(0x7FFFFFFF)
    keys = np.where(bits < 0, magnitude, -magnitude).astype(np.int64)
    keys <<= 32
    keys |= items
    return keys
