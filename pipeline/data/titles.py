"""Titles and genres of a person's own, laid over those found with the ratings.

They are no part of what a dataset is: its fingerprint is that of before.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from pipeline.data.dataset import Dataset
from pipeline.data.raw.files import Part
from pipeline.data.raw.items import matching, read_items
from pipeline.disk import sync, unfinished
from pipeline.errors import UserError, brief

TITLES = "titles.parquet"
"""The file of a prepared dataset that holds them: item, title, genres, as read."""


def add_titles(dataset: Dataset, items: Path, folder: Path) -> tuple[Dataset, str]:
    """``dataset`` with what the table ``items`` says of its catalogue, and that in a sentence.

    It is kept in ``folder``, in the place of what was added before.

    Raises:
        UserError: the table cannot be read, or says nothing of any item.
    """
    if not items.is_file():
        raise UserError(f"--items {items}: there is no such file.")
    titles = matching(read_items(Part(items)), dataset.items["item"].dtype)
    known = titles["item"].isin(dataset.items["item"])
    if not known.any():
        raise UserError(
            f"{items}: none of its {len(titles):,} ids is an item of {dataset.name}, whose items "
            f"are such as {', '.join(map(repr, dataset.items['item'].head(3).tolist()))}. Give "
            f"--items a table with a column of these ids, called item_id."
        )
    if (titles[["title", "genres"]] == "").all(axis=None):
        raise UserError(
            f"{items}: has neither titles nor genres. Name a column title (or name, ...) or genres "
            f"(or category, ...) in its first line."
        )
    with unfinished(folder.parent, f"titles-{folder.name}") as partial:
        titles[known].to_parquet(partial, index=False)
        sync(partial)
        partial.replace(folder / TITLES)
    laid = lay_over(dataset, titles[known])
    others = int((~known).sum())
    left_out = f"; {others:,} rows are of other items" if others else ""
    return laid, f"{items}: {coverage(laid)}{left_out}"


def with_kept_titles(dataset: Dataset, folder: Path) -> Dataset:
    """``dataset`` with the titles that ``folder`` keeps, where it keeps any.

    Raises:
        UserError: they cannot be read.
    """
    path = folder / TITLES
    if not path.exists():
        return dataset
    try:
        return lay_over(dataset, pd.read_parquet(path))
    except Exception as error:  # pandas raises many kinds for what it stumbles over
        raise UserError(
            f"{path}: damaged ({brief(error)}). Delete it and give --items again."
        ) from None


def lay_over(dataset: Dataset, titles: pd.DataFrame) -> Dataset:
    """``dataset`` with the titles and genres of ``titles``; what is empty there covers nothing."""
    found = dataset.items if dataset.found_items is None else dataset.found_items
    own = titles.set_index("item").reindex(found["item"])
    items = found.copy()
    for column in ("title", "genres"):
        given = own[column].fillna("").to_numpy()
        items[column] = items[column].where(given == "", given)
    return dataset.with_titles(items)


def coverage(dataset: Dataset) -> str:
    """How many items of the catalogue have a title, in words."""
    count = int((dataset.items["title"] != "").sum())
    return f"titles for {count:,} of {dataset.n_items:,} items"


def digest(dataset: Dataset) -> str | None:
    """16 hex digits over titles that were laid over the dataset's own; None where none were."""
    if dataset.found_items is None:
        return None
    return hashlib.sha256(dataset.items.to_json(orient="values").encode()).hexdigest()[:16]
