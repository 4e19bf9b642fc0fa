"""A bias per item that brings every item of the catalogue into somebody's list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.models.costs import Cost, announce

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.data.dataset import Dataset

Dense: TypeAlias = npt.NDArray[np.float32]

BLOCK_BYTES = 64 * 2**20  # of the scores of one block of users
KEPT_BYTES = 512 * 2**20  # of the scores of all users, above which they are computed every round
CELL = 5e-9  # seconds to score an item for a user, or to look at it in a round
LEAST_SPREAD = 1e-12  # below which a user's scores are all the same
LOWEST = -1e30  # stands for the last place of a list that is not full
STEP = 1e-4  # beyond the last place of a list: at it, an item would only be as good as the last


class Exposure(NamedTuple):
    """What is added to the score of user u for item i: users[u] * items[i]."""

    users: Dense
    """Standard deviation of each user's scores, [n_users]."""
    items: Dense
    """Bias in those standard deviations, 0 or more, [n_items]."""


def exposure(
    scores_of: Callable[[npt.NDArray[np.int32]], Dense],
    dataset: Dataset,
    users_per_item: int,
    k: int = 10,
    rounds: int = 5,
) -> Exposure:
    """Biases with which every item is in about ``users_per_item`` lists of ``k`` unseen items.

    A score in standard deviations of its user's scores can be compared between users and is in the
    same order. In each round every item is raised by what the ``users_per_item``-th closest of the
    warm users lacks to have it in the list. Items that all rise push each other out again, and
    later rounds make up for it. What rises is chosen by the users closest to it, so that their
    lists lose little.

    Args:
        scores_of: scores of the whole catalogue for some users, [len(users), n_items].
        dataset: whose training part tells what is seen and who is warm.

    Raises:
        UserError: there is not the memory, or the time, for it.
    """
    cells = dataset.n_users * dataset.n_items
    announce(
        Cost(
            f"Exposure of {dataset.n_items:,} items to {dataset.n_users:,} users",
            cells * (1 + 2 * rounds) * CELL,
            min(4 * cells, KEPT_BYTES) + 4 * BLOCK_BYTES + 16 * users_per_item * dataset.n_items,
            "Leave exposure_users at 0.",
        )
    )
    import torch  # its topk is several times as fast as a partition

    size = max(1, BLOCK_BYTES // (4 * dataset.n_items))
    everyone = np.arange(dataset.n_users, dtype=np.int32)
    spread = np.concatenate([scores_of(users).std(1) for users in _parts(everyone, size)])
    warm = everyone[dataset.activity >= dataset.split.min_warm_training]

    def blocks() -> Iterator[Tensor]:
        for users in _parts(warm, size):
            divisor = np.maximum(spread[users], LEAST_SPREAD)
            scores = torch.from_numpy(scores_of(users) / divisor[:, None])
            scores[dataset.seen[users].nonzero()] = -torch.inf
            yield scores

    kept = 4 * len(warm) * dataset.n_items <= KEPT_BYTES
    standard: Iterable[Tensor] = list(blocks()) if kept else ()
    bias = torch.zeros(dataset.n_items)
    for _ in range(rounds):
        closest = torch.full((users_per_item, dataset.n_items), torch.inf)
        for scores in standard or blocks():
            raised = scores + bias
            last = raised.topk(min(k, dataset.n_items)).values[:, -1:].clamp_min(LOWEST)
            candidates = torch.cat([closest, last - raised])
            closest = candidates.topk(users_per_item, dim=0, largest=False).values
        # Users that have the item are infinitely far: where few others are left, all of them count.
        lack = closest.masked_fill(closest.isposinf(), -torch.inf).amax(0)
        bias += torch.where(lack > 0, lack + STEP, 0)
    return Exposure(spread, bias.numpy())


def _parts(users: npt.NDArray[np.int32], size: int) -> Iterator[npt.NDArray[np.int32]]:
    for start in range(0, len(users), size):
        yield users[start : start + size]
