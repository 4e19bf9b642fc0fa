"""Titles and genres of items, from the file that lies beside the ratings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from pipeline.data.files import LAYOUTS, Layout, Part
from pipeline.data.formats import (
    ALIASES,
    find_columns,
    read_columns,
    require_text,
    rows,
)
from pipeline.errors import UserError

COLUMNS = ("item", "title", "genres")
_ITEM = {"item": ALIASES["item"]}
_TITLE = ("title", "movie_title", "name")
_GENRES = ("genres", "genre", "class")

_ML_100K = Layout("|", "'|'", quoted=False)  # id | title | date | video date | url | 19 flags
_ML_100K_GENRES = (  # noqa: SIM905
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy "
    "Film-Noir Horror Musical Mystery Romance Sci-Fi Thriller War Western"
).split()
_RECBOLE = Layout("\t", "tabs", quoted=False)


def read_items(part: Part | None) -> pd.DataFrame:
    """The metadata in ``part``: item, title and genres ("Action|Comedy"), all of them text.

    One row per item, the first where there are several. Without a file the table is empty.

    Raises:
        UserError: the file has no column of ids, or a row with a wrong number of fields.
    """
    found = [] if part is None else [tuple(map(str.strip, row)) for row in _read(part)]
    table = pd.DataFrame(found, columns=list(COLUMNS), dtype="str")
    table["genres"] = table["genres"].replace("(no genres listed)", "")
    return table[table["item"] != ""].drop_duplicates("item", ignore_index=True)


def _read(part: Part) -> Iterator[tuple[str, str, str]]:
    suffix = part.name.suffix.lower()
    if part.name.name == "u.item":
        for fields in _complete(part, _ML_100K, 24):
            flags = zip(_ML_100K_GENRES, fields[5:], strict=True)
            yield (
                fields[0],
                fields[1],
                "|".join(genre for genre, flag in flags if flag == "1"),
            )
    elif suffix == ".dat":
        for item, title, genres in _complete(part, LAYOUTS[".dat"], 3):
            yield item, title, genres
    elif suffix == ".item":
        for item, title, genres in _named(part, _RECBOLE):
            yield item, title, "|".join(genres.split())
    elif part.layout is None:
        yield from _parquet(part)
    else:
        yield from _named(part, part.layout)


def _named(part: Part, layout: Layout) -> Iterator[tuple[str, str, str]]:
    lines = _complete(part, layout, None)
    header = next(lines, [])
    at = _columns(part, header)
    for fields in lines:
        item, title, genres = (fields[at[name]] if name in at else "" for name in COLUMNS)
        yield item, title, genres


def _parquet(part: Part) -> Iterator[tuple[str, str, str]]:
    _, _, table = read_columns(part, lambda header: _columns(part, header))
    cells = {name: _texts(part, name, table.column(name)) for name in table.column_names}
    empty = [""] * len(table)
    yield from zip(*(cells.get(name, empty) for name in COLUMNS), strict=True)


def _texts(part: Part, name: str, column: Any) -> list[str]:
    try:
        return [text or "" for text in column.cast(pa.string()).to_pylist()]
    except pa.ArrowException:
        raise UserError(f"{part}: column {name!r} holds {column.type}. Expected text.") from None


def _columns(part: Part, header: Sequence[str]) -> dict[str, int]:
    """Positions of the item column, and of those with titles and genres where there are any."""
    names = [name.strip().lower().partition(":")[0] for name in header]
    aliases = dict(_ITEM)
    for column, known in (("title", _TITLE), ("genres", _GENRES)):
        if set(known) & set(names):
            aliases[column] = known
    return find_columns(part, header, aliases)


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
