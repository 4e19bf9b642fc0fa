"""Lists by an approximate index, for models whose scores are products of two vectors.

The index (faiss's HNSW: Malkov and Yashunin, 2018) proposes items, whose scores are then worked out
exactly and ranked with the mask and the tie rule of a full ranking. What it misses is measured
against that on a sample of users whenever an index is built, and it searches more widely until it
misses little enough. Metrics never come from here: evaluation ranks the whole catalogue.
"""

from __future__ import annotations

import logging
import time
from importlib.util import find_spec
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from pipeline.console import waiting
from pipeline.errors import UserError
from pipeline.evaluation.ranking import rank, top_k
from pipeline.extras import require
from pipeline.models.base import Recommender, Vectors
from pipeline.models.costs import SHORT, duration

Index = Literal["auto", "exact", "hnsw"]
"""How lists are found; auto takes hnsw where that is the quicker one."""
Lists = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]
"""Items int32 [n, k], best first, -1 where there are no more, and their scores float32 [n, k]."""

# By `python -m benchmarks.candidates`: below so many items a full ranking is as quick, and for
# fewer users than that an index is not built sooner than they are ranked.
MANY_ITEMS, MANY_USERS = 500_000, 50_000
RECALL = 0.99
"""Share of the exact lists that an index has to find."""
SAMPLE = 200  # users whose exact lists an index is held against
NEIGHBOURS, BUILDING = 48, 60  # of an item in the graph, and in view when it is made
NARROWEST, WIDEST = 64, 1024  # items that a search keeps in view; more take as long as all
BLOCK_BYTES = 64 * 2**20  # of candidates' vectors at a time
PRODUCTS = "als, svd, sequential_ridge, two_tower, and ncf with layers=none"

log = logging.getLogger("pipeline")


class Candidates:
    """An index of a model's items, searched as widely as it has to be."""

    def __init__(self, vectors: Vectors) -> None:
        """Build the index; with several threads its graph is another one each time."""
        import faiss

        self.vectors = vectors
        self.recall = 0.0
        """Share of the exact lists that was found when that was last looked at."""
        self.index = faiss.IndexHNSWFlat(
            vectors.items.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT
        )
        self.index.hnsw.efConstruction = BUILDING
        self.index.hnsw.efSearch = NARROWEST
        self.index.add(np.ascontiguousarray(vectors.items, np.float32))

    @property
    def width(self) -> int:
        """Items that a search keeps in view; or as many as it is to propose, if that is more."""
        return int(self.index.hnsw.efSearch)

    def top_k(self, users: npt.NDArray[np.integer], seen: sparse.csr_matrix, k: int) -> Lists:
        """The k best unseen items of ``users`` among what the index proposes.

        A user for whom that leaves fewer items than there are is ranked exactly.

        Args:
            users: int [n], user indices.
            seen: [n, n_items], a row for each of ``users``; every stored entry is masked.
            k: length of the lists, at least 1.
        """
        lists = np.full((len(users), k), -1, np.int32)
        scores = np.zeros((len(users), k), np.float32)
        # So many that k are left; users that need about as many are asked for together.
        wanted = 2 ** np.ceil(np.log2(k + np.diff(seen.indptr))).astype(np.int64)
        for count in np.unique(wanted):
            alike = np.flatnonzero(wanted == count)
            size = max(1, BLOCK_BYTES // (4 * int(count) * self.vectors.items.shape[1]))
            for start in range(0, len(alike), size):
                rows = alike[start : start + size]
                lists[rows], scores[rows] = self._block(users[rows], seen[rows], k, int(count))
        return lists, scores

    def _block(
        self, users: npt.NDArray[np.integer], seen: sparse.csr_matrix, k: int, wanted: int
    ) -> Lists:
        items, asked = self.vectors.items, self.vectors.users[users]
        _, proposed = self.index.search(
            np.ascontiguousarray(asked, np.float32), min(wanted, len(items))
        )
        proposed.sort(axis=1)  # by item, as ties go by place; -1 stands for nothing
        scores = np.einsum("ud,ucd->uc", asked, items[proposed])
        places = top_k(scores, _hidden(proposed, seen), k)
        lists = np.where(places < 0, -1, np.take_along_axis(proposed, places, axis=1))
        scores = np.take_along_axis(scores, places, axis=1)
        left = np.minimum(k, len(items) - np.diff(seen.indptr))
        for row in np.flatnonzero((lists >= 0).sum(axis=1) < left):
            whole = asked[row : row + 1] @ items.T
            lists[row] = top_k(whole, seen[row], k)
            scores[row] = whole[0, lists[row]]
        return lists.astype(np.int32), scores

    def widen(
        self,
        exact: npt.NDArray[np.int32],
        users: npt.NDArray[np.integer],
        seen: sparse.csr_matrix,
        floor: float,
    ) -> bool:
        """Search more and more widely until ``recall`` is ``floor``; whether it comes to be.

        Args:
            exact: lists of ``users`` by full ranking, int32 [n, k].
            seen: as in ``top_k``.
        """
        while True:
            found, _ = self.top_k(users, seen, exact.shape[1])
            self.recall = recall(found, exact)
            if self.recall >= floor:
                return True
            if self.width >= WIDEST:
                return False
            self.index.hnsw.efSearch *= 2


def index_of(
    model: Recommender,
    seen: sparse.csr_matrix,
    n_users: int | None,
    k: int,
    how: Index = "auto",
    floor: float = RECALL,
) -> Candidates | None:
    """An index of a model's items that finds enough of the exact lists; None: rank exactly.

    Args:
        seen: [users, n_items]; what is masked, a row for each user of the model or more.
        n_users: who will be asked for; None: nobody knows.
        k: length of the lists that its recall is measured on.
        floor: the least recall.

    Raises:
        UserError: hnsw is asked for, and the model's scores are no products, or faiss is not there.
    """
    vectors = None if how == "exact" else model.vectors()
    if how == "hnsw":
        if vectors is None:
            raise UserError(
                f"index=hnsw: scores of {type(model).__name__} are no products of a user's and an "
                f"item's vector, which an index is made of, as those of {PRODUCTS} are. Use "
                f"index=exact."
            )
        require("faiss", "ann", "index=hnsw")
    elif vectors is None or len(vectors.items) < MANY_ITEMS or (n_users or MANY_USERS) < MANY_USERS:
        return None
    elif find_spec("faiss") is None:
        log.info(
            "%s items are ranked exactly; pip install 'ncf-pipeline[ann]' would bring an index.",
            f"{len(vectors.items):,}",
        )
        return None
    assert vectors is not None
    return _built(model, vectors, seen, k, floor)


def _built(
    model: Recommender, vectors: Vectors, seen: sparse.csr_matrix, k: int, floor: float
) -> Candidates | None:
    n_users, n_items = len(vectors.users), len(vectors.items)
    drawn = np.random.default_rng(0).choice(n_users, min(SAMPLE, n_users), replace=False)
    sample = np.sort(drawn).astype(np.int32)
    k = min(k, n_items)
    with waiting(f"Indexing {n_items:,} items"):
        started = time.perf_counter()
        index = Candidates(vectors)
        seconds = time.perf_counter() - started
        exact = rank(model, sample, seen, k, n_items)
        enough = index.widen(exact, sample, seen[sample], floor)
    log.info(
        "index of %s items, made in %.0f s: it finds %.4f of the exact lists of %d for %d users, "
        "with %d items in view%s",
        f"{n_items:,}", seconds, index.recall, k, len(sample), index.width,
        "" if enough else f"; that is below {floor:g}, so items are ranked exactly",
    )  # fmt: skip
    return index if enough else None


def recall(found: npt.NDArray[np.int32], exact: npt.NDArray[np.int32]) -> float:
    """Share of the places of ``exact``, int32 [n, k], whose items are in the row of ``found``."""
    rows = zip(found.tolist(), exact.tolist(), strict=True)
    there = [(len(set(one) & (wanted := set(other) - {-1})), len(wanted)) for one, other in rows]
    return sum(hits for hits, _ in there) / max(1, sum(places for _, places in there))


def _hidden(proposed: npt.NDArray[np.int64], seen: sparse.csr_matrix) -> sparse.csr_matrix:
    """Where a candidate is nothing or a masked item, [n, candidates]."""
    n_items = seen.shape[1]
    rows = np.arange(len(proposed))
    masked = np.repeat(rows, np.diff(seen.indptr)) * n_items + seen.indices
    keys = rows[:, None] * n_items + proposed
    return sparse.csr_matrix((proposed < 0) | np.isin(keys, masked))


def say_cost_of_ranking(model: Recommender, n_users: int, n_items: int) -> None:
    """Say what a full ranking takes, by that of one user, where it is not short."""
    one = np.zeros(1, np.int32)
    model.scores(one)  # what is made at the first call does not count
    started = time.perf_counter()
    top_k(model.scores(one), None, 1)
    each = time.perf_counter() - started
    if n_users * each < SHORT:
        return
    log.info(
        "Ranking %s items exactly for %s users takes about %s, %.0f ms a user.%s",
        f"{n_items:,}", f"{n_users:,}", duration(n_users * each), 1000 * each,
        "" if model.vectors() else f" recommend does with less where scores are products of a "
        f"user's and an item's vector, as those of {PRODUCTS}.",
    )  # fmt: skip
