"""The Dataset: one split of one set of ratings, indexed and fingerprinted.

Users and items are numbered 0, 1, ... in the order of their ids, whatever the order of the file.
Users that train come first, so that the training matrix has no empty rows; users first seen after
the cut follow them. Items are those of the training catalogue.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from pipeline.data.fingerprint import fingerprint_of
from pipeline.data.raw.numbering import Numbered, Places, marked, titled
from pipeline.data.sizes import larger_tests, statistics
from pipeline.data.split import NO_TIMES, Split, notes_of, split_as_given, split_ratings
from pipeline.data.split_settings import COLD, LOW_ACTIVITY, REPEAT, WARM, SplitSettings
from pipeline.data.values import Taken, Values, distinct, explained, taken, worth

ALL = slice(None)
AS_GIVEN = "as-given"  # the word for a split that came with the data


@dataclass(frozen=True)
class Segment:
    """Users of one kind, and what they took after the cut."""

    users: npt.NDArray[np.int32]
    """Indices, ascending, [n]; those that do not train are ``n_users`` or above."""
    held_out: sparse.csr_matrix
    """float32 [n, n_items]."""


@dataclass(frozen=True)
class Dataset:
    """Training and held-out interactions of one split.

    ``train`` has columns user (int32 index), item (int32 index), rating (float32) and timestamp
    (int64, seconds since 1970 UTC), sorted by user and item, each pair once. ``later``, what is
    held out, has those columns and ``segment``; items outside the catalogue have index -1.
    ``users`` has the column user (the original id), ``items`` has item (the original id), title
    and genres. ``protocol`` says in a word how the split was made.
    """

    name: str
    split: SplitSettings
    protocol: str
    users: pd.DataFrame
    items: pd.DataFrame
    train: pd.DataFrame
    later: pd.DataFrame
    superseded: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Earlier training rows of pairs in ``train``, as there; empty where no pair came again."""
    counts: dict[str, int] = field(default_factory=dict)
    """duplicates_dropped and repeats_left_out, of ``Split``."""
    notes: dict[str, str] = field(default_factory=dict)
    """What a person should know of the split, by the tag under which runs carry it."""
    found_items: pd.DataFrame | None = None
    """``items`` as found with the ratings, where other titles were laid over them."""

    @classmethod
    def from_ratings(
        cls, name: str, ratings: pd.DataFrame, metadata: pd.DataFrame, split: SplitSettings
    ) -> Dataset:
        """Split ``ratings`` (user, item, rating, timestamp) and number what is in them.

        Raises:
            UserError: they cannot be split so, or nothing is left to train on or to evaluate.
        """
        rows = Numbered.of(ratings)
        parts = split_ratings(name, rows.rows, split)
        return cls.from_split(name, parts.settings.word, parts, rows, metadata)

    @classmethod
    def from_existing_split(
        cls,
        name: str,
        train: pd.DataFrame,
        held_out: pd.DataFrame,
        metadata: pd.DataFrame,
        split: SplitSettings,
    ) -> Dataset:
        """Take a split as it is: every held-out row of a known user and item is the test.

        But for what the user has in training, unless ``repeats`` are kept.
        """
        rows = Numbered.of(pd.concat([train, held_out], ignore_index=True))
        parts = split_as_given(rows.rows, len(train), split.repeats)
        settled = split.settled(train["timestamp"].min() < train["timestamp"].max())
        drawn = settled.protocol == "random" != split.protocol
        note = NO_TIMES.format(name, "validation windows are") if drawn else None
        parts = replace(parts, settings=settled, note=note)
        return cls.from_split(name, AS_GIVEN, parts, rows, metadata)

    @classmethod
    def from_split(
        cls, name: str, protocol: str, parts: Split, rows: Numbered, metadata: pd.DataFrame
    ) -> Dataset:
        """Number users and items of the ``parts`` of ``rows``, those that train first."""
        n_users = len(rows.users)
        trains, comes_later = (marked(part["user"], n_users) for part in (parts.train, parts.later))
        catalogue = marked(parts.train["item"], len(rows.items))
        found = Places.of(trains, comes_later, catalogue)
        return cls(
            name,
            parts.settings,
            protocol,
            pd.DataFrame({"user": rows.users.take(found.users)}),
            titled(rows.items.take(found.items), metadata),
            found.index(parts.train),
            found.index(parts.later),
            found.index(parts.superseded),
            parts.counts,
            notes_of(parts.settings, parts.note, given=protocol.startswith(AS_GIVEN)),
        )

    def chunks(self, table: str, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Columns of train, later or superseded, in pieces that follow one another: at least one.

        Here it is one; where a table is not in memory, pieces are what is.
        """
        yield getattr(self, table)[list(columns)]

    def column(self, name: str, rows: slice = ALL) -> npt.NDArray[Any]:
        """A column of ``train``, [n_interactions], or those ``rows`` of it."""
        return self.train[name].to_numpy()[rows]

    def with_titles(self, items: pd.DataFrame) -> Dataset:
        """The same with other titles and genres in ``items``; those found are kept beside them."""
        found = self.items if self.found_items is None else self.found_items
        return replace(self, items=items, found_items=found)

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """What one wants to know at first sight: see ``sizes.statistics``."""
        return statistics(self)

    @property
    def larger_tests(self) -> str | None:
        """Settings that would give more test users, and how many, in words; None if none do."""
        if self.protocol == AS_GIVEN:
            return None
        counted = np.zeros(len(self.users), np.int64)
        for rows in self.chunks("later", ["user", "item", "segment"]):
            can_count = (rows["item"] >= 0) & (rows["segment"] != REPEAT)
            counted += np.bincount(rows["user"][can_count], minlength=len(counted))
        is_window = self.protocol.partition("/")[1] != ""
        held_out = counted[: self.n_users]  # the others do not train
        return larger_tests(self.activity, held_out, self.split, is_window)

    @property
    def train_rows(self) -> pd.DataFrame:
        """All rows of ``train``, with the earlier ones of pairs that came again before them."""
        if self.superseded.empty:
            return self.train
        return pd.concat([self.superseded, self.train], ignore_index=True)

    @property
    def n_users(self) -> int:
        """Training users."""
        return int(self.train["user"].iloc[-1]) + 1

    @property
    def n_interactions(self) -> int:
        """Rows of ``train``."""
        return int(self.activity.sum())

    @property
    def n_items(self) -> int:
        """Items of the training catalogue."""
        return len(self.items)

    def train_values(
        self, values: Values, positive_from: float | None = None
    ) -> npt.NDArray[np.float32]:
        """What each row of ``train`` is worth, [len(train)]; 0 is nothing."""
        return worth(values, self._ratings, self.column("user"), positive_from)

    def train_matrix(
        self, values: Values = "binary", positive_from: float | None = None
    ) -> sparse.csr_matrix:
        """Training interactions, float32 [n_users, n_items], by what they are worth.

        What ``positive`` counts as nothing is not in the matrix; a user may then have no row.
        """
        data = self.train_values(values, positive_from)
        ends = np.append(0, self.activity.cumsum())  # rows are sorted by user and item
        matrix = sparse.csr_matrix(
            (data, self.column("item").copy(), ends), shape=(self.n_users, self.n_items)
        )
        if values == "positive":
            matrix.eliminate_zeros()
        return matrix

    def gram(
        self, values: Values = "binary", positive_from: float | None = None
    ) -> npt.NDArray[np.float32]:
        """X^T X of ``train_matrix``, dense float32 [n_items, n_items], read-only.

        It is made once for the same values and kept with the dataset: 4 n_items^2 bytes each,
        54 MB for the 3,662 items of MovieLens-1M.
        """
        key = self.values_taken if values == "auto" else values, positive_from
        if key not in self._grams:
            interactions = self.train_matrix(*key)
            gram = (interactions.T @ interactions).toarray()
            gram.flags.writeable = False
            self._grams[key] = gram
        return self._grams[key]

    @cached_property
    def _grams(self) -> dict[tuple[Values, float | None], npt.NDArray[np.float32]]:
        return {}

    @cached_property
    def kept(self) -> dict[Hashable, Any]:
        """What was made of the training part and is used again as long as this is, by its keys."""
        return {}

    @cached_property
    def values_taken(self) -> Taken:
        """What ``values`` "auto" is for the training ratings."""
        return taken(self._ratings)

    @property
    def values_explained(self) -> str:
        """``values_taken`` in words, and why."""
        return explained(self._ratings)

    def distinct_values(self) -> tuple[Values, ...]:
        """The choices of ``values`` that are worth comparing on the training ratings."""
        return distinct(self._ratings)

    @property
    def _ratings(self) -> npt.NDArray[np.float32]:
        return self.column("rating")

    @cached_property
    def seen(self) -> sparse.csr_matrix:
        """What each user has in training and is therefore never recommended, float32 [n_users,
        n_items]; nothing where what is taken again is part of the test."""
        if self.split.repeats == "keep":
            return sparse.csr_matrix((self.n_users, self.n_items), dtype=np.float32)
        return self.train_matrix()

    @cached_property
    def activity(self) -> npt.NDArray[np.int64]:
        """Training interactions of each user, [n_users]."""
        return self._counted("user", self.n_users)

    @cached_property
    def popularity(self) -> npt.NDArray[np.int64]:
        """Training users of each item, [n_items]."""
        return self._counted("item", self.n_items)

    def _counted(self, side: str, of: int) -> npt.NDArray[np.int64]:
        counts = np.zeros(of, np.int64)
        for rows in self.chunks("train", [side]):
            counts += np.bincount(rows[side], minlength=of)
        return counts

    @cached_property
    def test(self) -> pd.DataFrame:
        """The held-out rows of warm users, of items in the catalogue."""
        return self.later[self.later["segment"] == WARM]

    @property
    def test_users(self) -> npt.NDArray[np.int32]:
        """Indices of the warm users, ascending."""
        return self.segments[WARM].users

    @property
    def held_out(self) -> sparse.csr_matrix:
        """The test interactions of ``test_users``, float32 [len(test_users), n_items]."""
        return self.segments[WARM].held_out

    @cached_property
    def segments(self) -> dict[str, Segment]:
        """The users who can be evaluated, by how well training knows them; some may be empty."""
        return {name: self._segment(name) for name in (WARM, LOW_ACTIVITY, COLD)}

    def _segment(self, name: str) -> Segment:
        pieces = self.chunks("later", ["user", "item", "segment"])
        rows = pd.concat([piece[piece["segment"] == name] for piece in pieces])
        users, places = np.unique(rows["user"].to_numpy(), return_inverse=True)
        ones = np.ones(len(rows), dtype=np.float32)
        shape = (len(users), self.n_items)
        held_out = sparse.csr_matrix((ones, (places, rows["item"])), shape=shape)
        return Segment(users.astype(np.int32), held_out)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over rows, metadata and settings; the order of the file is not in it."""
        return fingerprint_of(self)

    @property
    def has_superseded(self) -> bool:
        """Whether a pair came again in training."""
        return not self.superseded.empty
