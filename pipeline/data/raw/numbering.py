"""Ids become numbers: rows of a Dataset in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

Numbers = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]
OUTSIDE = -1  # the number of an item that is not in the catalogue


@dataclass(frozen=True)
class Numbered:
    """Rows (user, item, rating, timestamp) whose users and items are numbers from 0, in the order
    of their ids. That is done once: whatever is made of the rows looks numbers up in small tables.
    """

    rows: pd.DataFrame
    users: pd.Index
    """The id of each number."""
    items: pd.Index

    @classmethod
    def of(cls, ratings: pd.DataFrame) -> Self:
        """Rows with ids, numbered."""
        user, users = pd.factorize(ratings["user"], sort=True)
        item, items = pd.factorize(ratings["item"], sort=True)
        return cls(ratings.assign(user=user, item=item), pd.Index(users), pd.Index(items))


@dataclass(frozen=True)
class Places:
    """Where the users and items of a split stand among those of its rows, which are numbers."""

    users: Numbers
    """The number of each, in order: those that train first."""
    items: Numbers
    """The number of each item that trains."""
    of_user: npt.NDArray[np.int64]
    """The place of each number, or OUTSIDE."""
    of_item: npt.NDArray[np.int64]

    @classmethod
    def of(cls, trains: Mask, comes_later: Mask, catalogue: Mask) -> Self:
        """From which users train and which come later, [users], and which items train, [items]."""
        users = np.flatnonzero(np.stack([trains, comes_later & ~trains])) % len(trains)
        items = np.flatnonzero(catalogue)
        return cls(users, items, places(users, len(trains)), places(items, len(catalogue)))

    def index(self, rows: pd.DataFrame) -> pd.DataFrame:
        """``rows`` with places for numbers, in the order of user, item, timestamp and rating."""
        return indexed(rows, self.of_user, self.of_item, len(self.items))


def titled(items: pd.Index, metadata: pd.DataFrame) -> pd.DataFrame:
    """A table of item, title and genres, where ``metadata`` knows them."""
    known = metadata.drop_duplicates("item").set_index("item")
    titles = known.reindex(items).reindex(columns=["title", "genres"]).fillna("")
    return titles.rename_axis("item").reset_index()


def places(kept: Numbers, of: int) -> npt.NDArray[np.int64]:
    """Where each number from 0 to ``of`` stands among those that are ``kept``; else OUTSIDE."""
    found = np.full(of, OUTSIDE, np.int64)
    found[kept] = np.arange(len(kept))
    return found


def indexed(
    rows: pd.DataFrame, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64], n_items: int
) -> pd.DataFrame:
    """``rows`` with indices for numbers, in the order of user, item, timestamp and rating.

    ``users`` and ``items`` are the ``places`` of all numbers, of ``n_items`` items.
    """
    n_items += 1  # with one for all outside the catalogue
    pairs = users[rows["user"].to_numpy()] * n_items
    pairs += items[rows["item"].to_numpy()] - OUTSIDE
    timestamp, rating = rows["timestamp"].to_numpy(np.int64), rows["rating"].to_numpy(np.float32)
    pairs, order = _ordered(pairs, timestamp, rating)
    user = pairs // n_items
    # Of a large table every look-up waits for memory: one for both, not one for each.
    both = np.empty(len(rows), [("timestamp", np.int64), ("rating", np.float32)])
    both["timestamp"], both["rating"] = timestamp, rating
    both = both.take(order)
    columns = {
        "user": user.astype(np.int32),
        "item": (pairs - user * n_items + OUTSIDE).astype(np.int32),
        "rating": both["rating"].copy(),
        "timestamp": both["timestamp"].copy(),
    }
    if "segment" in rows:
        columns["segment"] = rows["segment"].array.take(order)
    return pd.DataFrame(columns, copy=False)  # pandas would copy all of it together


def _ordered(
    pairs: npt.NDArray[np.int64],
    timestamp: npt.NDArray[np.int64],
    rating: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
    """The pairs in their order, and the order of rows by pair, timestamp and rating, [n].

    One number for each user and item sorts several times as fast as four columns do. Only where
    a pair is there twice, as all items outside the catalogue are one, do the others count.
    """
    ordered, order = sort(pairs)
    same = ordered[1:] == ordered[:-1]
    again = np.flatnonzero(np.append(same, False) | np.append(False, same))
    rows = order[again]
    order[again] = rows[np.lexsort((rating[rows], timestamp[rows], pairs[rows]))]
    return ordered, order


def sort(
    numbers: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
    """Numbers that are not negative in their order, and ``np.argsort``, in a third of its time.

    A number and its place share 64 bits where both fit, and are sorted as one.
    """
    bits = len(numbers).bit_length()
    if int(numbers.max(initial=0)).bit_length() + bits > 63:
        order = np.argsort(numbers, kind="stable")
        return numbers[order], order
    together = numbers << bits
    together |= np.arange(len(numbers))
    together.sort()
    ordered = together >> bits
    together &= (1 << bits) - 1
    return ordered, together


def marked(numbers: pd.Series[int], of: int) -> Mask:
    """Which numbers from 0 to ``of`` are there, [of]."""
    found = np.zeros(of, np.bool_)
    found[numbers] = True
    return found
