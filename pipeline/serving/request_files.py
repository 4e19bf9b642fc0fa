"""Requests for recommendations in a file, read in blocks, so that it may be of any length.

*.csv *.tsv   columns user, items, exclude and allowed, of which user or items must be there;
              lists of ids are separated by "|", an empty cell is none
*.parquet     the same columns; lists are lists
*.txt         the id of a user on each line
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.raw.files import Part
from pipeline.data.raw.text import LAYOUTS, Layout, require_text, rows
from pipeline.errors import UserError
from pipeline.serving.answers import REQUEST_COLUMNS, Request, read_requests

LIST_SEPARATOR = "|"
KINDS: dict[str, Layout | None] = {
    ".csv": LAYOUTS[".csv"],
    ".tsv": LAYOUTS[".tsv"],
    ".txt": Layout("\x1e", "line ends", quoted=False, columns=("user",)),  # nothing is cut
    ".parquet": None,
}
PARQUET_ROWS = 10_000  # that are in memory at a time
NOT_UTF_8 = "\ufffd"  # what takes the place of bytes that are no text

Cells = list[Any]


@dataclass(frozen=True)
class RequestFile:
    """A file whose columns and shape have been checked."""

    path: Path
    columns: tuple[str, ...]
    count: int
    """Requests in it."""

    def blocks(self, size: int) -> Iterator[list[Request]]:
        """Its requests in their order, ``size`` at a time.

        Raises:
            UserError: a cell is no id or no list of ids, or a row asks for nobody.
        """
        numbered = _rows(self.path, self.columns)
        while block := list(islice(numbered, size)):
            numbers, cells = zip(*block, strict=True)
            table = pd.DataFrame(list(cells), list(numbers), self.columns, dtype=object)
            try:
                requests = read_requests(table)
            except UserError as error:
                raise UserError(f"{self.path}: {error}") from None
            for number, request in zip(numbers, requests, strict=True):
                if request.user is None and not request.items:
                    raise UserError(
                        f"{self.path}, {_place(self.path, number)}: neither a user nor items that "
                        f"somebody likes. Give one, or take the row away."
                    )
            yield requests


def open_requests(path: Path) -> RequestFile:
    """Check the columns of a file and count its rows, before anything is answered.

    Raises:
        UserError: there is no such file or it is of no kind that is read here, its columns are
            others than expected, a row has too many or too few fields, or there is none.
    """
    if path.suffix.lower() not in KINDS:
        raise UserError(
            f"{path}: unknown kind of file. Expected users in one of {', '.join(KINDS)}, or all."
        )
    columns = _columns(path, _header(path))
    if _layout(path) is None:
        count = int(_parquet(path).metadata.num_rows)
    else:
        count = sum(1 for _ in _text(path, columns))
    if not count:
        raise UserError(f"{path}: has no users. Expected a row for each.")
    return RequestFile(path, columns, count)


def _layout(path: Path) -> Layout | None:
    return KINDS[path.suffix.lower()]


def _place(path: Path, number: int) -> str:
    return f"{'row' if _layout(path) is None else 'line'} {number}"


def _header(path: Path) -> list[str]:
    layout = _layout(path)
    if layout is None:
        return list(_parquet(path).schema_arrow.names)
    part = Part(path)
    require_text(part)
    return list(layout.columns or next((fields for _, fields in rows(part, layout)), []))


def _columns(path: Path, header: list[str]) -> tuple[str, ...]:
    names = tuple(name.strip().lower() for name in header)
    unknown = [name for name in names if name not in REQUEST_COLUMNS]
    twice = [name for name in REQUEST_COLUMNS if names.count(name) > 1]
    if unknown or twice or not {"user", "items"} & set(names):
        wrong = (
            f"unknown column {', '.join(map(repr, unknown))}" if unknown
            else f"column {twice[0]} stands there more than once" if twice
            else "neither user nor items is a column"
        )  # fmt: skip
        raise UserError(
            f"{path}: {wrong}. Expected user (an id), or items (ids that somebody likes), and "
            f"perhaps exclude and allowed (ids)."
        )
    return names


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, Cells]]:
    """The line or row of each request, from 1, and its cells."""
    if _layout(path) is None:
        return _from_parquet(path)
    return (
        (line, [_cell(column, text) for column, text in zip(columns, fields, strict=True)])
        for line, fields in _text(path, columns)
    )


def _text(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    layout = _layout(path)
    assert layout is not None
    lines = rows(Part(path), layout)
    if layout.columns is None:
        next(lines)
    for line, fields in lines:
        if len(fields) != len(columns):
            raise UserError(
                f"{path}, line {line}: {len(fields)} fields, expected {len(columns)} separated by "
                f"{layout.spelled}."
            )
        for column, text in zip(columns, fields, strict=True):
            if NOT_UTF_8 in text:
                raise UserError(f"{path}, line {line}, {column}: {text!r} is no UTF-8 text.")
        yield line, fields


def _cell(column: str, text: str) -> str | list[str] | None:
    if column == "user":
        return text
    return text.split(LIST_SEPARATOR) if text.strip() else None


def _parquet(path: Path) -> Any:
    """An opened pyarrow.parquet.ParquetFile, of which pages are read as they are wanted."""
    try:
        return pq.ParquetFile(path, buffer_size=1 << 16, pre_buffer=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: is no readable Parquet file ({error}).") from None


def _from_parquet(path: Path) -> Iterator[tuple[int, Cells]]:
    number = 0
    batches = _parquet(path).iter_batches(PARQUET_ROWS)
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{path}: is no readable Parquet file ({error}).") from None
        if batch is None:
            return
        for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            number += 1
            yield number, list(cells)
