"""Titles and genres of items, from the file that lies beside the ratings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.data.raw.columns import ALIASES as RATINGS
from pipeline.data.raw.columns import find_columns, plain
from pipeline.data.raw.files import Part
from pipeline.data.raw.layouts import Sample, find_layout, is_number, width
from pipeline.data.raw.parquet import read_columns, read_names
from pipeline.data.raw.text import Layout, require_text, rows
from pipeline.errors import UserError

TITLE_COLUMNS = ("item", "title", "genres")
ALIASES: Mapping[str, tuple[str, ...]] = {
    "item": (*RATINGS["item"], "id"),
    "title": (
        "title", "movietitle", "name", "itemname", "productname", "producttitle", "gamename",
        "artistname", "trackname", "songname", "booktitle", "itemtitle", "filmtitle",
    ),
    "genres": ("genres", "genre", "class", "category", "categories", "maincategory", "tags"),
}  # fmt: skip
"""The names that columns may have, in order of preference, as those of ratings."""

_ML_100K = Layout("|", "'|'", quoted=False)  # id | title | date | video date | url | 19 flags
_ML_100K_GENRES = (  # noqa: SIM905
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy "
    "Film-Noir Horror Musical Mystery Romance Sci-Fi Thriller War Western"
).split()


def read_items(part: Part | None) -> pd.DataFrame:
    """The metadata in ``part``: item, title and genres ("Action|Comedy"), all of them text.

    One row per item, the first where there are several. Without a file the table is empty.

    Raises:
        UserError: the file has no column of ids, or a row with a wrong number of fields.
    """
    found = [] if part is None else [tuple(map(str.strip, row)) for row in _read(part)]
    table = pd.DataFrame(found, columns=list(TITLE_COLUMNS), dtype="str")
    table["genres"] = table["genres"].replace("(no genres listed)", "")
    return table[table["item"] != ""].drop_duplicates("item", ignore_index=True)


def matching(items: pd.DataFrame, ids: Any) -> pd.DataFrame:
    """Metadata with ids of the kind ``ids``; what can be no such id is left out."""
    if ids != np.int64:
        return items
    whole = items["item"].str.fullmatch(r"0|-?[1-9]\d{0,17}")
    return items[whole].astype({"item": np.int64}).reset_index(drop=True)


def find_titles(header: Sequence[str]) -> dict[str, int]:
    """Where item, title and genres stand in ``header``, those that are there."""
    names = [plain(name) for name in header]
    found = {
        column: next((names.index(name) for name in known if name in names), None)
        for column, known in ALIASES.items()
    }
    return {column: at for column, at in found.items() if at is not None}


def _read(part: Part) -> Iterator[tuple[str, str, str]]:
    if part.name.name == "u.item":
        for fields in _complete(part, _ML_100K, 24):
            flags = zip(_ML_100K_GENRES, fields[5:], strict=True)
            yield (
                fields[0],
                fields[1],
                "|".join(genre for genre, flag in flags if flag == "1"),
            )
    elif part.is_parquet:
        yield from _parquet(part)
    else:
        yield from _text(part)


def _text(part: Part) -> Iterator[tuple[str, str, str]]:
    require_text(part)
    layout = find_layout(part, _unnamed)
    lines = _complete(part, layout, len(layout.columns) if layout.columns else None)
    header = layout.columns or next(lines, [])
    at = _columns(part, header)
    is_recbole = part.suffix == ".item"
    for fields in lines:
        item, title, genres = (fields[at[name]] if name in at else "" for name in TITLE_COLUMNS)
        yield item, title, "|".join(genres.split()) if is_recbole else genres


def _unnamed(sample: Sample) -> tuple[str, ...] | None:
    """Names for columns whose first row, with a number where the id is, names none."""
    if not sample or find_titles(sample[0]).keys() & {"item"} or not any(map(is_number, sample[0])):
        return None
    return TITLE_COLUMNS[: width(sample)]


def _parquet(part: Part) -> Iterator[tuple[str, str, str]]:
    (table,) = read_columns(part, _columns(part, read_names(part)))
    cells = {name: _texts(part, name, table.column(name)) for name in table.column_names}
    empty = [""] * len(table)
    yield from zip(*(cells.get(name, empty) for name in TITLE_COLUMNS), strict=True)


def _texts(part: Part, name: str, column: Any) -> list[str]:
    try:
        return [text or "" for text in column.cast(pa.string()).to_pylist()]
    except pa.ArrowException:
        raise UserError(f"{part}: column {name!r} holds {column.type}. Expected text.") from None


def _columns(part: Part, header: Sequence[str]) -> dict[str, int]:
    """Positions of the item column, and of those with titles and genres where there are any."""
    return find_columns(part, header, ALIASES, optional=("title", "genres"))


def _complete(part: Part, layout: Layout, width: int | None) -> Iterator[list[str]]:
    """Rows with ``width`` fields (None: as many as the first), in UTF-8 or else ISO-8859-1."""
    require_text(part)
    with part.open() as stream:
        data = stream.read()
    try:
        data.decode()
        encoding = "utf-8-sig"
    except UnicodeDecodeError:
        encoding = "iso-8859-1"
    for line, fields in rows(part, layout, encoding):
        width = width or len(fields)
        if len(fields) != width:
            raise UserError(
                f"{part}, line {line}: {len(fields)} fields, expected {width} separated by "
                f"{layout.spelled}. Mend the line, or take the file away to go without titles."
            )
        yield fields
