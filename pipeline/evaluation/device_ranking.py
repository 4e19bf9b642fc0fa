"""Ranking where the scores lie: on a GPU, so that lists are copied and not scores.

The lists are those of ``ranking.top_k``, entry by entry: of the same float32 scores both make the
same keys, no two of a row alike. Two devices work scores out in different orders, so that their
last bits differ, and items whose scores are that near may change places between devices.

On a CPU this takes five times as long as NumPy's partition, which looks at few of the scores twice,
and models without a network would have to import torch for it: so there are two.
"""

from __future__ import annotations

import torch
from torch import Tensor

NOTHING = 2**63 - 1  # after every real key; its low 32 bits read as item -1
MAGNITUDE = 2**31 - 1  # of a float32, all but its sign


@torch.inference_mode()
def top_k(scores: Tensor, rows: Tensor, items: Tensor, k: int) -> Tensor:
    """The k best items of each row of ``scores`` but those that are masked.

    Args:
        scores: float32 [n, n_items], finite; not changed.
        rows, items: int64 [m] each: the places in ``scores`` that are masked.

    Returns:
        int32 [n, k], best first, ties by item index; -1 where fewer than k are left.
    """
    n, n_items = scores.shape
    # The order of floats as one of integers, best first, above the item: ranking._sort_keys.
    bits = scores.contiguous().view(torch.int32)
    magnitude = bits & MAGNITUDE
    keys = torch.where(bits < 0, magnitude, -magnitude).long().bitwise_left_shift_(32)
    keys |= torch.arange(n_items, device=scores.device)
    keys[rows, items] = NOTHING
    found = min(k, n_items)
    lists = torch.full((n, k), -1, dtype=torch.int32, device=scores.device)
    lists[:, :found] = keys.topk(found, largest=False).values  # the low 32 bits
    return lists
