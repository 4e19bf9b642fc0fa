"""Ratings as a checked table, whatever file they come from.

    files.choose -> formats.read_raw -> checks of every row -> ids

Rows that share user and item stay: which of them counts depends on the split.

Text is cut into cells once, and the cells are checked as whole columns. Only where a row is bad
is the file read a second time, line by line, to say where.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.files import Choice, choose
from pipeline.data.formats import BadRow, RawTable, bad_rows, read_raw
from pipeline.data.items import read_items
from pipeline.data.reading import AS_IT_IS, Reading
from pipeline.errors import UserError

_EARLIEST = 631_152_000  # 1990-01-01 UTC
_DAY = 86_400
_SHOWN = 5
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


@dataclass(frozen=True)
class Ratings:
    """Checked ratings.

    ``table`` has the columns user and item (int64 where every id is an integer in its usual
    spelling, else str: 7 is an integer, 007 is not), rating (float32) and timestamp (int64,
    seconds since 1970 UTC), in the order of the file. ``items`` has item (as in ``table``), title
    and genres ("Action|Comedy"), one row per item with known metadata. ``held_out`` has the
    columns of ``table``: the test rows of an existing split, None where there is no split.
    ``counts``: rows_read and bad_rows_dropped.
    """

    table: pd.DataFrame
    items: pd.DataFrame
    held_out: pd.DataFrame | None
    counts: dict[str, int]


def read_ratings(source_path: Path, reading: Reading = AS_IT_IS) -> Ratings:
    """Read and check the ratings in a file, a folder or a zip.

    Fractions of a second are cut off.

    Raises:
        UserError: the file is not what it should be, or, unless they are to be dropped, rows
            are bad: the first of them are told with line, column, value and what was expected.
    """
    choice = choose(source_path)
    frame, first, dropped = _read(choice, reading)
    counts = {"rows_read": len(frame) + dropped, "bad_rows_dropped": dropped}
    items = _matching(read_items(choice.items), frame["item"].dtype)
    held_out = frame[first:].reset_index(drop=True) if len(choice.tables) == 2 else None
    return Ratings(frame[:first], items, held_out, counts)


def _read(choice: Choice, reading: Reading) -> tuple[pd.DataFrame, int, int]:
    """The good rows of all tables, those of the first table before all others, how many these
    are, and how many rows were bad."""
    parts = [_checked(read_raw(part), reading) for part in choice.tables]
    frame = _frame(pa.concat_tables([table for table, _ in parts]))
    return frame, parts[0][0].num_rows, sum(dropped for _, dropped in parts)


def _checked(raw: RawTable, reading: Reading) -> tuple[Any, int]:
    """The good rows as a pyarrow table (ids still as they stand), and how many were bad."""
    latest = time.time() + _DAY
    user, item = (_trimmed(raw, name) for name in ("user", "item"))
    with np.errstate(over="ignore"):
        rating = _numbers(raw, "rating").astype(np.float32)
    seconds = _numbers(raw, "timestamp")
    bad = {
        "user": _missing(user),
        "item": _missing(item),
        "rating": ~np.isfinite(rating),
        "timestamp": ~((seconds >= _EARLIEST) & (seconds <= latest)),
    }
    any_bad = np.logical_or.reduce(list(bad.values()))
    dropped = int(any_bad.sum()) + raw.ragged
    if dropped and reading.on_bad_rows == "error":
        raise UserError(_report(raw, bad, any_bad, dropped, latest))
    if dropped == raw.cells.num_rows + raw.ragged:
        raise UserError(f"{raw.part}: holds no {'good ' if dropped else ''}ratings.")
    if dropped:
        good = pa.array(~any_bad)
        user, item = user.filter(good), item.filter(good)
        rating, seconds = rating[~any_bad], seconds[~any_bad]
    stamps = seconds.astype(np.int64)
    return pa.table({"user": user, "item": item, "rating": rating, "timestamp": stamps}), dropped


def _trimmed(raw: RawTable, name: str) -> Any:
    """Ids without blanks around them: text, or int64 where they are numbers already."""
    column = raw.cells.column(name)
    if pa.types.is_string(column.type):
        return pc.utf8_trim_whitespace(column)
    try:
        return column.cast(pa.int64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise UserError(
            f"{raw.part}: column {raw.name(name)!r} holds {column.type}. Expected ids: whole "
            f"numbers or text."
        ) from None


def _missing(ids: Any) -> npt.NDArray[np.bool_]:
    missing = pc.is_null(ids)
    if pa.types.is_string(ids.type):
        missing = pc.or_kleene(missing, pc.equal(pc.binary_length(ids), 0))
    mask: npt.NDArray[np.bool_] = missing.to_numpy()
    return mask


def _numbers(raw: RawTable, name: str) -> npt.NDArray[np.float64]:
    """A column as numbers, NaN where a cell is none; dates become seconds since 1970."""
    column = raw.cells.column(name)
    try:
        if pa.types.is_string(column.type):
            column = pc.utf8_trim_whitespace(column)
            try:
                column = column.cast(pa.float64())
            except pa.ArrowInvalid:
                numeric = pc.match_substring_regex(column, _NUMBER)
                column = pc.if_else(numeric, column, "nan").cast(pa.float64())
        elif pa.types.is_temporal(column.type) and name == "timestamp":
            column = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
            column = pc.divide(column.cast(pa.float64(), safe=False), 1e6)
        else:
            column = column.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise UserError(
            f"{raw.part}: column {raw.name(name)!r} holds {column.type}. Expected numbers."
        ) from None
    numbers: npt.NDArray[np.float64] = column.to_numpy()
    return numbers


def _report(
    raw: RawTable,
    bad: Mapping[str, npt.NDArray[np.bool_]],
    any_bad: npt.NDArray[np.bool_],
    total: int,
    latest: float,
) -> str:
    problems = chain.from_iterable(
        (f"{raw.part}, {row.place}{problem}" for problem in _problems(raw, bad, row, latest))
        for row in bad_rows(raw, any_bad)
    )
    share = f"{total} of {raw.cells.num_rows + raw.ragged} rows"
    lines = [f"{raw.part}: {share} cannot be used. The first problems:", *islice(problems, _SHOWN)]
    return "\n  ".join(lines) + "\nMend them, or set on_bad_rows to drop to go without these rows."


def _problems(
    raw: RawTable, bad: Mapping[str, npt.NDArray[np.bool_]], row: BadRow, latest: float
) -> Iterator[str]:
    if row.index is None:
        layout = raw.part.layout
        separator = f" separated by {layout.spelled}" if layout else ""
        yield f": {len(row.fields)} fields, expected {len(raw.header)}{separator}"
        return
    for name, mask in bad.items():
        if mask[row.index]:
            value = row.fields[raw.positions[name]]
            why = _expected(name, value, latest)
            yield f", column {raw.name(name)!r}: {value[:40]!r}, {why}"


def _expected(name: str, value: str, latest: float) -> str:
    if name in ("user", "item"):
        return f"the id of the {name} is missing"
    if name == "rating":
        return "expected a finite number"
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if _EARLIEST <= seconds / 1000 <= latest:
        return "looks like milliseconds, expected seconds since 1970 (UTC)"
    return "expected seconds since 1970 (UTC), from 1990 until now"


def _frame(table: Any) -> pd.DataFrame:
    """``table`` for pandas; ids become int64 where every one is an integer."""
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name)
        integers = _integers(column) if pa.types.is_string(column.type) else column.to_numpy()
        columns[name] = column.to_pandas() if integers is None else integers
    return pd.DataFrame(columns)


def _integers(column: Any) -> npt.NDArray[np.int64] | None:
    """Text as int64, or None where a number would not be written like that (007, +7, 0x7)."""
    chunks = []
    for chunk in column.chunks:
        try:
            numbers = chunk.cast(pa.int64())
        except pa.ArrowInvalid:
            return None
        if not numbers.cast(pa.string()).equals(chunk):
            return None
        chunks.append(numbers.to_numpy())
    return np.concatenate(chunks)


def _matching(items: pd.DataFrame, ids: Any) -> pd.DataFrame:
    """Metadata with ids of the kind ``ids``; what can be no such id is left out."""
    if ids != np.int64:
        return items
    whole = items["item"].str.fullmatch(r"0|-?[1-9]\d{0,17}")
    return items[whole].astype({"item": np.int64}).reset_index(drop=True)
