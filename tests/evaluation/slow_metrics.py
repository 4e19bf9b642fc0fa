"""The same lists and metrics in plain Python: slow, and short enough to be seen to be right.

Nothing is shared with the package: sets and loops instead of arrays, pairs of users and of
items instead of counts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import combinations


def slow_list(scores: Sequence[float], seen: Collection[int], k: int) -> list[int]:
    """Sort all unseen items by score descending, then index, and keep k."""
    unseen = [item for item in range(len(scores)) if item not in seen]
    return sorted(unseen, key=lambda item: (-scores[item], item))[:k]


def slow_user(
    items: list[int],
    relevant: set[int],
    popular: list[int],
    popularity: Sequence[int],
    n_training_users: int,
    k: int,
) -> dict[str, float]:
    items, popular = items[:k], popular[:k]
    hit_ranks = [rank for rank, item in enumerate(items, start=1) if item in relevant]
    possible = min(len(relevant), k)
    dcg = sum(1 / math.log2(rank + 1) for rank in hit_ranks)
    idcg = sum(1 / math.log2(rank + 1) for rank in range(1, possible + 1))
    precisions = [len([r for r in hit_ranks if r <= rank]) / rank for rank in hit_ranks]
    bits = [-math.log2(max(popularity[item], 1) / n_training_users) for item in items]
    return {
        f"hit_rate_at_{k}": 1.0 if hit_ranks else 0.0,
        f"precision_at_{k}": len(hit_ranks) / k,
        f"recall_at_{k}": len(hit_ranks) / len(relevant),
        f"ndcg_at_{k}": dcg / idcg,
        f"map_at_{k}": sum(precisions) / possible,
        f"mrr_at_{k}": 1 / hit_ranks[0] if hit_ranks else 0.0,
        f"popularity_overlap_at_{k}": (
            len(set(items) & set(popular)) / len(items) if items else math.nan
        ),
        f"average_popularity_at_{k}": (
            sum(popularity[item] for item in items) / len(items) if items else math.nan
        ),
        f"novelty_at_{k}": sum(bits) / len(items) if items else math.nan,
    }


def slow_lists_together(lists: list[list[int]], n_items: int, k: int) -> dict[str, float]:
    sets = [set(items[:k]) for items in lists]
    times = [sum(item in one for one in sets) for item in range(n_items)]
    # Half the relative mean absolute difference, the definition of the Gini coefficient.
    differences = sum(abs(a - b) for a in times for b in times)
    overlaps = [len(a & b) / k for a, b in combinations(sets, 2)]
    return {
        f"coverage_at_{k}": len(set().union(*sets)) / n_items,
        f"gini_at_{k}": differences / (2 * n_items * sum(times)),
        f"personalization_at_{k}": 1 - sum(overlaps) / len(overlaps) if overlaps else 0.0,
    }


def slow_mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known)
