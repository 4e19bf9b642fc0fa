"""A dataset from ratings that are not in memory: split block by block of users.

    checked rows -> database -> blocks of users -> divided, put aside -> counted -> tables

What is held of everybody is a few numbers for each user and each item. What is done with a block is
what is done with all rows where they are in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.large.database import RatingsDatabase, connected
from pipeline.data.parts import can_count, divide
from pipeline.data.raw.checks import CheckedTable
from pipeline.data.raw.formats import open_table
from pipeline.data.raw.items import matching, read_items
from pipeline.data.raw.numbering import Mask, Places, titled
from pipeline.data.raw.reading import Reading
from pipeline.data.raw.which_files import ChosenFiles
from pipeline.data.sizes import Counts
from pipeline.data.split import Counted, Cut, find_cut, notes_of, settle_rules, with_segments
from pipeline.data.split_settings import SplitSettings
from pipeline.data.stored import SUPERSEDED, StoredDataset, TableWriter

WORK = "work"
"""The folder of what is put aside, in that of the dataset."""


@dataclass(frozen=True)
class Aside:
    """Divided blocks, put aside on disk, and what was counted of all of them."""

    folder: Path
    blocks: int
    activity: Counts
    """Training rows of each user, before those with few of them were dropped, [users]."""
    comes_later: Mask
    """Which users have held-out rows, [users]."""
    catalogue: Mask
    """Which items train, [items]."""
    counts: dict[str, int]

    def read(self, part: str) -> Iterator[pd.DataFrame]:
        """A part of each block: train, superseded or later."""
        for block in range(self.blocks):
            yield pd.read_parquet(_path(self.folder, block, part))


def prepare_large(
    name: str,
    choice: ChosenFiles,
    split: SplitSettings,
    reading: Reading,
    folder: Path,
    memory: int,
) -> tuple[StoredDataset, tuple[str, ...]]:
    """The dataset of ratings in one table of any size, written to ``folder``, and reading notes.

    It is the one that ``Dataset.from_ratings`` makes of the same ratings in memory.

    Args:
        name: of the dataset.
        choice: what to read.
        folder: to write to; what is put aside in it is removed.
        memory: bytes that there are for it.

    Raises:
        UserError: as in memory, of bad rows and of splits that leave nothing.
        OSError: the disk is full.
    """
    (files,) = choice.tables
    raw = open_table(files, reading)
    table = CheckedTable(raw, raw.stream)
    work = folder / WORK
    work.mkdir()
    with connected(work, memory) as connection:
        ratings = RatingsDatabase(connection, table.good_rows())
        table.require_good(all_of_them=reading.on_bad_rows == "error")
        ratings.number()
        cut = find_cut(name, ratings.moments, len(ratings.users), split)
        aside = _divided(ratings, cut, work, memory)
        users, items = ratings.users, ratings.items
    metadata = matching(read_items(choice.items), items.dtype)
    described = _written(name, aside, cut, folder, users, items, metadata)
    shutil.rmtree(work)
    counts = {"rows_read": table.rows, "bad_rows_dropped": table.dropped, **aside.counts}
    dataset = StoredDataset(folder, name=name, counts=counts, **described)
    return dataset, (*choice.notes, *table.notes)


def _divided(ratings: RatingsDatabase, cut: Cut, folder: Path, memory: int) -> Aside:
    n_users, n_items = len(ratings.users), len(ratings.items)
    activity = np.zeros(n_users, np.int64)
    comes_later, catalogue = np.zeros(n_users, np.bool_), np.zeros(n_items, np.bool_)
    blocks = duplicates = repeats = 0
    for rows in ratings.blocks(memory):
        divided = divide(rows, cut.held_out(rows), cut.settings)
        activity[: len(divided.activity)] += divided.activity
        comes_later[divided.later["user"]] = True
        catalogue[divided.train["item"]] = True
        duplicates += divided.duplicates
        repeats += int(divided.later["repeat"].sum())
        for part in ("train", SUPERSEDED, "later"):
            getattr(divided, part).to_parquet(_path(folder, blocks, part))
        blocks += 1
    counts = {"duplicates_dropped": duplicates, "repeats_left_out": repeats}
    return Aside(folder, blocks, activity, comes_later, catalogue, counts)


def _counted(aside: Aside, settings: SplitSettings) -> Counted:
    held_out = np.zeros(len(aside.activity), np.int64)
    for later in aside.read("later"):
        users = later["user"].to_numpy()[can_count(later, aside.catalogue)]
        held_out += np.bincount(users, minlength=len(held_out))
    return Counted.of(aside.activity, held_out, settings)


def _written(
    name: str,
    aside: Aside,
    cut: Cut,
    folder: Path,
    users: pd.Index,
    items: pd.Index,
    metadata: pd.DataFrame,
) -> dict[str, Any]:
    """Write the tables; the fields of the dataset that are no tables of interactions."""
    counted = _counted(aside, cut.settings)
    repeats = aside.counts["repeats_left_out"]
    settings, rules, note = settle_rules(name, counted, cut, repeats, is_window=False)
    trains = counted.training > 0
    places = Places.of(trains, aside.comes_later, aside.catalogue)
    with TableWriter(folder / "train.parquet") as train:
        for rows in aside.read("train"):
            train.append(places.index(rows))
    with TableWriter(folder / "later.parquet") as later:
        for of_those in (trains, ~trains):  # as users are numbered: those who train first
            for rows in aside.read("later"):
                rows = with_segments(rows, can_count(rows, aside.catalogue), counted, rules)
                later.append(places.index(rows[of_those[rows["user"]]]))
    with TableWriter(folder / f"{SUPERSEDED}.parquet") as superseded:
        for rows in aside.read(SUPERSEDED):
            if len(rows):
                superseded.append(places.index(rows))
    owners = pd.DataFrame({"user": users.take(places.users)})
    catalogue = titled(items.take(places.items), metadata)
    owners.to_parquet(folder / "users.parquet", index=False)
    catalogue.to_parquet(folder / "items.parquet", index=False)
    return {
        "split": settings,
        "protocol": settings.word,
        "users": owners,
        "items": catalogue,
        "notes": notes_of(settings, note),
    }


def _path(folder: Path, block: int, part: str) -> Path:
    return folder / f"{part}-{block}.parquet"
