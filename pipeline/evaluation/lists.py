"""What the lists of many users are worth: every metric at every k, per user and in the mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from pipeline.evaluation.metrics import BUILT_IN, Counts, Judged, Lists, Metric
from pipeline.evaluation.names import at


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one set of lists; names are ``<metric>_at_<k>``."""

    per_user: pd.DataFrame
    """A row per user, in the order of the lists, and a float64 column per metric and k. A user
    with an empty list has 0 for accuracy, and NaN for what is beyond it."""
    summary: dict[str, float]
    """Means over users, NaN left out, and the metrics of all lists. Always finite."""


def evaluate_lists(
    lists: Lists,
    held_out: sparse.csr_matrix,
    *,
    popular: Lists,
    popularity: Counts,
    n_training_users: int,
    ks: Sequence[int],
    own: Sequence[Metric] = (),
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
        own: metrics of one's own, beside the usual ones.

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

    hits = _among(_pairs(np.arange(n_users)[:, None], lists, n_items), pairs)
    columns, overall = dict[str, Any](), dict[str, Any]()
    for k in ks:
        judged = Judged(
            hits[:, :k], n_relevant, lists[:, :k], popular[:, :k], popularity, n_training_users
        )
        for metric in (*BUILT_IN, *own):
            (columns if metric.per_user else overall)[at(metric, k)] = metric.of(judged)
    per_user = pd.DataFrame(columns)
    means = {str(name): float(value) for name, value in per_user.mean().items()}
    return Evaluation(per_user, means | overall)


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
