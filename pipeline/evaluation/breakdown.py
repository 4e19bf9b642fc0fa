"""NDCG where it comes from: by the activity of users, and by the popularity of items."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from pipeline.data.dataset import Dataset
from pipeline.evaluation.evaluate import Ranked
from pipeline.evaluation.metrics import ndcg

QUARTILES = ("least active quarter", "second quarter", "third quarter", "most active quarter")
THIRDS = ("tail", "middle", "head")


def breakdown(ranked: Ranked, dataset: Dataset, k: int) -> pd.DataFrame:
    """NDCG@k of groups: columns by, group, users, held_out, ndcg.

    Users are in quarters of (nearly) equal size by their number of training interactions. Items
    are in thirds of the training interactions: the head are the most popular items that make up a
    third of them. For a third, only its items count as relevant, and only users who took one of
    them later are in the mean; the lists are the same.
    """
    return pd.DataFrame([*_by_activity(ranked, dataset, k), *_by_popularity(ranked, dataset, k)])


def _by_activity(ranked: Ranked, dataset: Dataset, k: int) -> list[dict[str, object]]:
    activity = dataset.activity[ranked.users]
    order = np.argsort(activity, kind="stable")
    values = _ndcg(ranked.lists[:, :k], ranked.held_out)
    return [
        _row("activity", name, ranked.held_out[rows], values[rows])
        for name, rows in zip(QUARTILES, np.array_split(order, len(QUARTILES)), strict=True)
        if len(rows)
    ]


def _by_popularity(ranked: Ranked, dataset: Dataset, k: int) -> list[dict[str, object]]:
    order = np.argsort(dataset.popularity, kind="stable")
    reached = dataset.popularity[order].cumsum()
    third = np.empty(dataset.n_items, dtype=np.int64)
    third[order] = np.minimum(3 * (reached - 1) // reached[-1], 2)
    rows = []
    for place, name in enumerate(THIRDS):
        relevant = sparse.csr_matrix(ranked.held_out.multiply(third == place))
        relevant.eliminate_zeros()
        users = np.flatnonzero(np.diff(relevant.indptr))
        if len(users):
            values = _ndcg(ranked.lists[users, :k], relevant[users])
            rows.append(_row("item popularity", name, relevant[users], values))
    return rows


def _ndcg(lists: npt.NDArray[np.int32], relevant: sparse.csr_matrix) -> npt.NDArray[np.float64]:
    rows = np.arange(len(lists))[:, None]
    hits = (np.asarray(relevant[rows, np.maximum(lists, 0)].todense()) > 0) & (lists >= 0)
    return ndcg(hits, np.diff(relevant.indptr))


def _row(
    by: str, group: str, relevant: sparse.csr_matrix, values: npt.NDArray[np.float64]
) -> dict[str, object]:
    users, held_out = len(values), int(relevant.nnz)
    return {
        "by": by, "group": group, "users": users, "held_out": held_out, "ndcg": values.mean()
    }  # fmt: skip
