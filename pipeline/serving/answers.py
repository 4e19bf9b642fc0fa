"""Answers to requests for recommendations: who is known, who only says what they like, and others.

A request names a user, items that they like, or both. A user who trained gets the model's list. Of
somebody else the model makes what it can from the liked items (``Recommender.fold_in``); where it
can make nothing, the answer is what is popular, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from pipeline.errors import UserError, brief
from pipeline.evaluation.candidates import RECALL, Candidates, Index, index_of
from pipeline.evaluation.ranking import MEMORY_BUDGET, SCORE_BYTES, top_k
from pipeline.models.folder import FittedModel

REQUEST_COLUMNS = ("user", "items", "exclude", "allowed")
ANSWER: dict[str, type[str | int | float]] = {
    "user": str, "rank": int, "item": str, "title": str, "score": float, "fallback": str,
    "reason": str,
}  # fmt: skip
"""The columns of an answer."""

DEFAULT_K = 10
ROWS = 4096  # requests at a time where few are ranked exactly
ID_LETTERS = 50  # characters of an id that is repeated to say why, on every line of a list

Fallback = Literal["", "folded in", "popularity"]
"""How a list came about: by the model for a user who trained, or by other means."""


@dataclass(frozen=True)
class Request:
    """Who asks; ids are text, as they stand in the data."""

    user: str | None
    items: tuple[str, ...]
    """What they like; never recommended again."""
    exclude: tuple[str, ...]
    """What else is not to be recommended."""
    allowed: tuple[str, ...] | None
    """What alone may be recommended; None allows everything."""


def read_requests(table: pd.DataFrame) -> list[Request]:
    """Requests, a row each, from any of the columns user, items, exclude and allowed.

    Ids may be text or whole numbers; missing values are no ids. Errors name a row by its label.

    Raises:
        UserError: neither user nor items is a column, or a cell is no id or no list of ids.
    """
    if not {"user", "items"} & set(table.columns):
        raise UserError(
            f"The request has the columns {', '.join(map(str, table.columns)) or 'none'}: expected "
            f"user (an id), items (a list of ids that the user likes), or both."
        )
    cells = {
        name: table[name].tolist() if name in table else [None] * len(table)
        for name in REQUEST_COLUMNS
    }
    return [
        Request(
            _id(user, row, "user"),
            _ids(items, row, "items") or (),
            _ids(exclude, row, "exclude") or (),
            _ids(allowed, row, "allowed"),
        )
        for row, (user, items, exclude, allowed) in zip(
            table.index.tolist(), zip(*cells.values(), strict=True), strict=True
        )
    ]


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _id(value: Any, row: Hashable, column: str) -> str | None:
    if _is_missing(value):
        return None
    if isinstance(value, str):
        return value.strip() or None
    # A missing value beside them makes whole numbers floats on their way here.
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    if whole or (isinstance(value, int | np.integer) and not isinstance(value, bool)):
        return str(int(value))
    raise UserError(f"Row {row}, {column}: {value!r} is no id. Expected text or a whole number.")


def _ids(value: Any, row: Hashable, column: str) -> tuple[str, ...] | None:
    if isinstance(value, list | tuple | np.ndarray):
        found = (_id(one, row, column) for one in np.asarray(value, dtype=object).ravel().tolist())
        return tuple(one for one in found if one is not None)
    if _is_missing(value):
        return None
    raise UserError(f"Row {row}, {column}: {value!r} is no list. Expected a list of item ids.")


class Answers:
    """A fitted model that answers requests."""

    def __init__(self, fitted: FittedModel) -> None:
        self.index: Candidates | None = None
        """Finds the lists of users who trained, where they are not ranked exactly."""
        self.recommender = fitted.recommender
        # With a row of nothing at the end, which is what an index of -1 finds.
        self.seen = (fitted.seen if self.recommender.masks_seen else fitted.seen[:0]).copy()
        self.seen.resize(len(fitted.users) + 1, len(fitted.items))
        self.users = pd.Index(fitted.users["user"].astype(str))
        self.catalogue = pd.Index(fitted.items["item"].astype(str))
        self.titles = fitted.items["title"].to_numpy()
        self.popularity = fitted.items["popularity"].to_numpy(np.float32)

    def index_items(self, how: Index, n_users: int | None, k: int, floor: float = RECALL) -> None:
        """Find lists by an index where ``how`` asks for it, as ``index_of`` has it.

        Raises:
            UserError: as ``index_of``.
        """
        self.index = index_of(self.recommender, self.seen, n_users, k, how, floor)

    def answer(self, requests: Sequence[Request], k: int) -> pd.DataFrame:
        """Lists of at most ``k`` items, best first.

        Returns:
            A row per place: user ("" where none was named), rank (from 1), item, title, score,
            fallback and reason, the latter in words where the model did not answer for a user who
            trained. A request that leaves nothing to recommend has one row of rank 0.

        Raises:
            UserError: k is below 1.
        """
        if k < 1:
            raise UserError(f"k is {k}: expected a length of the lists of at least 1.")
        k = min(k, len(self.catalogue))  # before lists are made: nobody has more places to fill
        size = self._rows_at_once if self.index is None else ROWS
        parts = [requests[start : start + size] for start in range(0, len(requests), size)]
        frames = [self._block(part, k) for part in parts]
        return pd.concat(frames, ignore_index=True) if frames else self._block([], k)

    def _block(self, requests: Sequence[Request], k: int) -> pd.DataFrame:
        users = self.users.get_indexer(pd.Index([request.user for request in requests], dtype=str))
        lists, scores, fallbacks = self._lists(requests, users, k)
        rows, places = np.nonzero(lists >= 0)
        items = lists[rows, places]
        found = pd.DataFrame(
            {
                "row": rows,
                "rank": places + 1,
                "item": self.catalogue.take(items).to_numpy(),
                "title": self.titles[items],
                "score": scores[rows, places].astype(np.float64),
            }
        )
        empty = np.asarray((lists < 0).all(axis=1))
        nothing = {"row": np.flatnonzero(empty), "rank": 0, "item": "", "title": "", "score": 0.0}
        found = pd.concat([found, pd.DataFrame(nothing)]).sort_values("row", kind="stable")
        reasons = [
            self._reason(request, fallback, is_empty)
            for request, fallback, is_empty in zip(requests, fallbacks, empty, strict=True)
        ]
        asked = found.pop("row").to_numpy(np.int64)
        found.insert(0, "user", [requests[row].user or "" for row in asked])
        found["fallback"] = [fallbacks[row] for row in asked]
        found["reason"] = [reasons[row] for row in asked]
        return found.reset_index(drop=True)

    def _lists(
        self, requests: Sequence[Request], users: npt.NDArray[np.intp], k: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], list[Fallback]]:
        """Items and their scores [n, k], by the index where it can, and how they came about."""
        lists = np.full((len(requests), k), -1, np.int32)
        scores = np.zeros((len(requests), k), np.float32)
        fallbacks: list[Fallback] = [""] * len(requests)
        liked = self._matrix(request.items for request in requests)
        hidden = liked + self._matrix(request.exclude for request in requests) + self.seen[users]
        by_index = np.zeros(len(requests), np.bool_)
        if self.index is not None:
            free = np.array([request.allowed is None for request in requests], np.bool_)
            by_index = (users >= 0) & free
            mine = np.flatnonzero(by_index)
            lists[mine], scores[mine] = self.index.top_k(users[mine], hidden[mine], k)
        others, size = np.flatnonzero(~by_index), self._rows_at_once
        for start in range(0, len(others), size):
            rows = others[start : start + size]
            whole, ways = self._scores(users[rows], liked[rows])
            mask = self._limited([requests[row] for row in rows], hidden[rows])
            lists[rows] = found = top_k(whole, mask, k)
            scores[rows] = np.take_along_axis(whole, found, axis=1)
            for row, way in zip(rows, ways, strict=True):
                fallbacks[row] = way
        return lists, scores, fallbacks

    @property
    def _rows_at_once(self) -> int:
        """Requests whose scores of the catalogue may be in memory."""
        return max(1, MEMORY_BUDGET // (SCORE_BYTES * len(self.catalogue)))

    def _scores(
        self, users: npt.NDArray[np.intp], liked: sparse.csr_matrix
    ) -> tuple[npt.NDArray[np.float32], list[Fallback]]:
        """Scores [n, n_items] of users by index, -1 where they did not train, and how they came
        about."""
        trained = users >= 0
        fallbacks: list[Fallback] = ["" if known else "popularity" for known in trained]
        scores = np.empty(liked.shape, np.float32)
        scores[~trained] = self.popularity
        if trained.any():
            scores[trained] = self.recommender.scores(users[trained].astype(np.int32))
        folded = np.flatnonzero(~trained & (np.diff(liked.indptr) > 0))
        made = self.recommender.fold_in(liked[folded]) if len(folded) else None
        if made is not None:
            scores[folded] = made
            for row in folded:
                fallbacks[row] = "folded in"
        return scores, fallbacks

    def _reason(self, request: Request, fallback: Fallback, is_empty: bool) -> str:
        """Why the model did not simply answer for the user, or nobody could, in words."""
        parts = []
        if fallback:
            unknown = [item for item in request.items if item not in self.catalogue]
            if request.user is not None:
                parts.append(f"user {brief(request.user, ID_LETTERS)} is not known")
            if unknown:
                few = ", ".join(brief(item, ID_LETTERS) for item in unknown[:5])
                parts.append(f"not in the catalogue: {few}")
            if fallback == "popularity" and len(unknown) < len(request.items):
                parts.append(f"{type(self.recommender).__name__} cannot take in liked items")
            if not request.items:
                parts.append("no liked items are given")
        if is_empty:
            parts.append("nothing is left to recommend")
        return "; ".join(parts)

    def _limited(self, requests: Sequence[Request], hidden: sparse.csr_matrix) -> sparse.csr_matrix:
        """``hidden``, [n_requests, n_items], with what is not among what a request allows."""
        limited = [row for row, request in enumerate(requests) if request.allowed is not None]
        if limited:
            others = np.ones((len(limited), len(self.catalogue)), np.float32)
            allowed = self._matrix(requests[row].allowed or () for row in limited)
            others[allowed.nonzero()] = 0
            places = sparse.csr_matrix(
                (np.ones(len(limited)), (limited, range(len(limited)))),
                shape=(len(requests), len(limited)),
            )
            hidden = hidden + places @ sparse.csr_matrix(others)
        return hidden.tocsr()

    def _matrix(self, lists: Iterable[Sequence[str]]) -> sparse.csr_matrix:
        """Ones where a row's list names an item of the catalogue, float32 [n, n_items]."""
        kept = list(lists)
        rows = np.repeat(np.arange(len(kept)), [len(one) for one in kept])
        ids = [item for one in kept for item in one]
        columns = self.catalogue.get_indexer(pd.Index(ids, dtype=str))
        pairs = (rows[columns >= 0], columns[columns >= 0])
        shape = (len(kept), len(self.catalogue))
        matrix = sparse.csr_matrix((np.ones(len(pairs[0]), np.float32), pairs), shape=shape)
        matrix.data[:] = 1  # named twice is liked once
        return matrix
