"""Full evaluation on the device: scores of all items, seen ones masked, ten best, metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from pipeline.evaluation.device_ranking import top_k
from pipeline.models.neumf import NCFNetwork

K = 10
SCORE_BYTES = 4 * 2**30  # of the widest layer of a block of users


@dataclass(frozen=True)
class HeldOut:
    """Who has what, on one device."""

    seen_users: Tensor
    """Of interactions that are masked, int64 [n], in order."""
    seen_items: Tensor
    """int64 [n]."""
    ends: list[int]
    """Where the interactions of each user end."""
    wanted: Tensor
    """What is to be found, bool [n_users, n_items]."""


def held_out(users: Tensor, items: Tensor, n_users: int, n_items: int, every: int) -> HeldOut:
    """Every ``every``-th interaction is to be found, the others are seen; ``users`` are in order.

    A pair that is in both is seen.
    """
    held = torch.arange(len(users), device=users.device) % every == 0
    seen_users, seen_items = users[~held], items[~held]
    wanted = torch.zeros(n_users, n_items, dtype=torch.bool, device=users.device)
    wanted[users[held], items[held]] = True
    wanted[seen_users, seen_items] = False
    ends = torch.bincount(seen_users, minlength=n_users).cumsum(0).tolist()
    return HeldOut(seen_users, seen_items, ends, wanted)


def evaluate(network: NCFNetwork, held: HeldOut, block_bytes: int = SCORE_BYTES) -> list[float]:
    """Means of hit rate, precision, recall and NDCG at 10 over users who want something."""
    wanted = held.wanted
    lists = torch.cat([_lists(network, held, block) for block in _blocks(network, block_bytes)])
    hits = wanted.gather(1, lists.long()).float()
    relevant = wanted.sum(1)
    found = hits.sum(1)
    discounts = 1 / torch.arange(2, K + 2, device=wanted.device).float().log2()
    ideal = discounts.cumsum(0)[relevant.clamp(1, K) - 1]
    metrics = [found > 0, found / K, found / relevant.clamp_min(1), hits @ discounts / ideal]
    evaluated = (relevant > 0).float()
    # Here the device is waited for, once.
    sums = torch.stack([metric.float() @ evaluated for metric in metrics])
    means: list[float] = (sums / evaluated.sum()).tolist()
    return means


def _blocks(network: NCFNetwork, block_bytes: int) -> list[range]:
    n_users, n_items = network.users.weight.shape[1], network.items.weight.shape[1]
    layers = cast("list[nn.Linear]", list(network.hidden))
    widest = max((layer.out_features for layer in layers), default=1)
    size = max(1, block_bytes // (4 * widest * n_items))
    return [range(start, min(start + size, n_users)) for start in range(0, n_users, size)]


@torch.inference_mode()
def _lists(network: NCFNetwork, held: HeldOut, block: range) -> Tensor:
    """The ten best items that each user of a block has not seen, int32 [len(block), 10]."""
    scores = network.score(torch.arange(block.start, block.stop, device=held.wanted.device))
    seen = slice(held.ends[block.start - 1] if block.start else 0, held.ends[block.stop - 1])
    return top_k(scores, held.seen_users[seen] - block.start, held.seen_items[seen], K)
