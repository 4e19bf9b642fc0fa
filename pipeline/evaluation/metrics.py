"""Metrics of top-k lists: accuracy against held-out items, and what accuracy does not show.

Relevance is binary. R_u are the held-out items of user u, L_u is the list of u cut at k. The
accuracy formulas are those of the usual full-ranking protocol; each stands in its docstring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

Hits = npt.NDArray[np.bool_]
"""bool[n_users, k]: whether the item at each rank of a list is in R_u."""
Lists = npt.NDArray[np.int32]
"""int32[n_users, K]: distinct item indices, best first, -1 after the end of a shorter list."""
Counts = npt.NDArray[np.int64]
"""int64[n_users] or int64[n_items]."""
PerUser = npt.NDArray[np.float64]
"""float64[n_users]: one value per user."""


def bounds(names: Sequence[str]) -> npt.NDArray[np.float64]:
    """The least and the most that metrics can be, float64[n, 2]; ``names`` with or without k.

    All are shares, or gains of at most 1, but for novelty, which is in bits.
    """
    return np.array([(0.0, np.inf if name.startswith("novelty") else 1.0) for name in names])


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one set of lists; names are ``<metric>_at_<k>``."""

    per_user: pd.DataFrame
    """A row per user, in the order of the lists, and a float64 column per metric and k. A user
    with an empty list has 0 for accuracy, and NaN for popularity overlap and novelty."""
    summary: dict[str, float]
    """Means over users, NaN left out, and the list-level metrics coverage, gini and
    personalization. Always finite."""


def evaluate_lists(
    lists: Lists,
    held_out: sparse.csr_matrix,
    *,
    popular: Lists,
    popularity: Counts,
    n_training_users: int,
    ks: Sequence[int],
) -> Evaluation:
    """Every metric at every k.

    Args:
        lists: int32[n_users, K], K at least max(ks), as from ``ranking.rank``.
        held_out: [n_users, n_items], rows aligned with ``lists``; nonzero entries are relevant.
        popular: int32[n_users, K]: each user's most popular unseen items, as from
            ``ranking.rank`` with ``popularity`` as scores.
        popularity: int64[n_items]: number of training users of each item.
        n_training_users: number of users in training.
        ks: list lengths to evaluate.

    Raises:
        ValueError: shapes disagree, a user has no held-out item (such users are not evaluated),
            no list holds any item, or an item has more than ``n_training_users`` users.
    """
    n_users, n_items = held_out.shape
    _check(lists, held_out, popular, popularity, n_training_users, ks)
    relevant = held_out.tocoo()
    nonzero = relevant.data != 0
    pairs = _pairs(relevant.row[nonzero], relevant.col[nonzero], n_items)
    pairs.sort(kind="stable")  # quick where they are in order, as they mostly are
    distinct = pairs[np.diff(pairs, prepend=-1) > 0]
    n_relevant = np.bincount(distinct // n_items, minlength=n_users)
    if not n_relevant.all():
        raise ValueError(
            f"Row {np.argmin(n_relevant)} of held_out has no item: evaluate only users with "
            f"held-out items"
        )

    rows = np.arange(n_users)[:, None]
    listed = lists >= 0
    hits = _among(_pairs(rows, lists, n_items), pairs)
    columns: dict[str, PerUser] = {}
    overall: dict[str, float] = {}
    for k in ks:
        top, top_hits = lists[:, :k], hits[:, :k]
        shared = _shared(top, popular[:, :k])
        times = np.bincount(top[listed[:, :k]], minlength=n_items)
        columns |= {
            f"hit_rate_at_{k}": hit_rate(top_hits),
            f"precision_at_{k}": precision(top_hits),
            f"recall_at_{k}": recall(top_hits, n_relevant),
            f"ndcg_at_{k}": ndcg(top_hits, n_relevant),
            f"map_at_{k}": average_precision(top_hits, n_relevant),
            f"popularity_overlap_at_{k}": _mean_over_list(shared, listed[:, :k]),
            f"novelty_at_{k}": novelty(top, popularity, n_training_users),
        }
        overall |= {
            f"coverage_at_{k}": coverage(times),
            f"gini_at_{k}": gini(times),
            f"personalization_at_{k}": personalization(times, n_users, k),
        }
    per_user = pd.DataFrame(columns)
    means = {str(name): float(value) for name, value in per_user.mean().items()}
    return Evaluation(per_user, means | overall)


def hit_rate(hits: Hits) -> PerUser:
    """1 if any of the k items is relevant, else 0."""
    return np.asarray(hits.any(axis=1), np.float64)


def precision(hits: Hits) -> PerUser:
    """|L_u ∩ R_u| / k, also where the list is shorter than k."""
    return np.asarray(hits.sum(axis=1) / hits.shape[1])


def recall(hits: Hits, n_relevant: Counts) -> PerUser:
    """|L_u ∩ R_u| / |R_u|."""
    return np.asarray(hits.sum(axis=1) / n_relevant)


def ndcg(hits: Hits, n_relevant: Counts) -> PerUser:
    """DCG / IDCG, with gain 1 / log2(rank + 1) of a relevant item at a rank from 1.

    IDCG is the DCG of min(|R_u|, k) relevant items in the first places.
    Source: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002.
    """
    k = hits.shape[1]
    gains = 1 / np.log2(np.arange(1, k + 1) + 1)
    ideal = np.cumsum(gains)[np.minimum(n_relevant, k) - 1]
    return np.asarray((hits * gains).sum(axis=1) / ideal)


def average_precision(hits: Hits, n_relevant: Counts) -> PerUser:
    """(sum of precision@i over ranks i <= k of relevant items) / min(|R_u|, k); its mean is MAP."""
    k = hits.shape[1]
    precisions = hits.cumsum(axis=1) / np.arange(1, k + 1)
    return np.asarray((precisions * hits).sum(axis=1) / np.minimum(n_relevant, k))


def novelty(lists: Lists, popularity: Counts, n_training_users: int) -> PerUser:
    """Mean over L_u of -log2(popularity / n_training_users), in bits; NaN for an empty list.

    An item without training users counts as if it had one: it is as novel as the rarest known
    item, and one such item does not make the mean infinite.
    Source: Zhou et al., "Solving the apparent diversity-accuracy dilemma of recommender
    systems", 2010 (self-information).
    """
    surprise = np.log2(n_training_users / np.maximum(popularity, 1))
    return _mean_over_list(surprise[lists], lists >= 0)


def coverage(times: Counts) -> float:
    """Distinct recommended items / items of the catalogue.

    ``times``, int64[n_items], is in how many lists each item stands.
    """
    return float(np.count_nonzero(times) / len(times))


def gini(times: Counts) -> float:
    """Gini coefficient of how often each item of the catalogue is recommended.

    sum over i of (2 i - n - 1) x_i / (n sum x), with x_1 <= ... <= x_n the ``times`` of all n
    items, never recommended ones included: 0 when all are recommended equally often, 1 - k / n
    when everyone gets the same list. Source: LensKit's ListGini; Gini, 1912.
    """
    n = len(times)
    weights = 2 * np.arange(1, n + 1) - n - 1
    return float((weights * np.sort(times)).sum() / (n * times.sum()))


def personalization(times: Counts, n_users: int, k: int) -> float:
    """1 - mean over pairs of users of |L_u ∩ L_v| / k; 0 when all full lists hold the same items.

    An item in c lists is shared by c (c - 1) / 2 pairs, so counts suffice. A single user has
    nobody to differ from: 0.
    """
    if n_users == 1:
        return 0.0
    return 1.0 - float((times * (times - 1)).sum() / (n_users * (n_users - 1) * k))


def _pairs(
    rows: npt.NDArray[np.integer], items: npt.NDArray[np.integer], n_items: int
) -> npt.NDArray[np.int64]:
    """One number per (row, item), to look pairs up as in a set; -1 where there is no item."""
    return np.where(items >= 0, rows.astype(np.int64) * n_items + items, -1)


def _among(pairs: npt.NDArray[np.int64], ordered: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which of ``pairs`` are in ``ordered``, ascending; no item is in nothing.

    A search in sorted numbers takes a quarter of the time of ``np.isin``.
    """
    places = np.searchsorted(ordered, pairs).clip(max=len(ordered) - 1)
    return np.asarray((ordered[places] == pairs) & (pairs >= 0))


def _shared(lists: Lists, others: Lists) -> npt.NDArray[np.bool_]:
    """Which items of each list are in the other list of the same row, too."""
    shared = np.zeros(lists.shape, np.bool_)
    for column in others.T:
        shared |= lists == column[:, None]
    return shared & (lists >= 0)


def _mean_over_list(values: npt.NDArray[np.generic], listed: npt.NDArray[np.bool_]) -> PerUser:
    """Mean of ``values`` over the places of each list that hold an item; NaN if none does."""
    lengths = listed.sum(axis=1)
    totals = np.where(listed, values, 0.0).sum(axis=1)
    means = np.full(len(lengths), np.nan)
    np.divide(totals, lengths, out=means, where=lengths > 0)
    return means


def _check(
    lists: Lists,
    held_out: sparse.csr_matrix,
    popular: Lists,
    popularity: Counts,
    n_training_users: int,
    ks: Sequence[int],
) -> None:
    if not ks or min(ks) < 1:
        raise ValueError(f"ks is {list(ks)}: expected list lengths of at least 1")
    n_users, n_items = held_out.shape
    for name, value in (("lists", lists), ("popular", popular)):
        if len(value) != n_users or value.shape[1] < max(ks):
            raise ValueError(
                f"{name} has shape {value.shape}: expected {n_users} rows, as held_out has, and "
                f"at least {max(ks)} columns, for ks={list(ks)}"
            )
    if popularity.shape != (n_items,) or popularity.max() > n_training_users:
        raise ValueError(
            f"popularity has shape {popularity.shape} and maximum {popularity.max()}: expected "
            f"training users per item, for {n_items} items and {n_training_users} users"
        )
    if not (lists[:, : min(ks)] >= 0).any():
        raise ValueError("No list holds any item: there is nothing to evaluate")
