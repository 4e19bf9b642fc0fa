"""Ratings as a checked table, whatever file they come from.

    which_files.choose -> formats.read_raw -> checks of every row -> ids

Rows that share user and item stay: which of them counts depends on the split.

Text is cut into cells once, and the cells are checked as whole columns. Only where a row is bad
is the file read a second time, line by line, to say where.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.columns import ALIASES, plain
from pipeline.data.formats import BadRow, RawTable, bad_rows, read_raw
from pipeline.data.items import matching, read_items
from pipeline.data.reading import AS_IT_IS, Reading
from pipeline.data.times import Times, expected, read_times
from pipeline.data.which_files import ChosenFiles, choose
from pipeline.errors import UserError, brief

_SHOWN = 5
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


@dataclass(frozen=True)
class Ratings:
    """Checked ratings.

    ``table`` has the columns user and item (int64 where every id is an integer in its usual
    spelling, else str: 7 is an integer, 007 is not), rating (float32, 1 where the file has
    none) and timestamp (int64, seconds since 1970 UTC or points in time of an unknown unit, 0 where
    the file has none), in the order of the file. ``items`` has item (as in ``table``), title
    and genres ("Action|Comedy"), one row per item with known metadata. ``held_out`` has the
    columns of ``table``: the test rows of an existing split, None where there is no split.
    ``counts``: rows_read and bad_rows_dropped.
    """

    table: pd.DataFrame
    items: pd.DataFrame
    held_out: pd.DataFrame | None
    counts: dict[str, int]
    timed: bool = True
    """Whether the file has times."""
    rated: bool = True
    """Whether the file has ratings."""
    notes: tuple[str, ...] = ()
    """What a person should know of how the file was read."""


@dataclass(frozen=True)
class _Checked:
    """The good rows of one table."""

    table: Any  # pyarrow.Table, ids still as they stand
    dropped: int
    times: str | None  # the unit, None where there are none
    rated: bool
    notes: tuple[str, ...]


def read_ratings(source_path: Path, reading: Reading = AS_IT_IS) -> Ratings:
    """Read and check the ratings in a file, a folder or a zip.

    Fractions of a second are cut off.

    Raises:
        UserError: the file is not what it should be, or, unless they are to be dropped, rows
            are bad: the first of them are named with line, column, value and what was expected.
    """
    choice = choose(source_path, reading)
    parts = [_checked(read_raw(part, reading), reading) for part in choice.tables]
    _require_alike(choice, parts)
    frame = _frame(pa.concat_tables([part.table for part in parts]))
    dropped, first = sum(part.dropped for part in parts), parts[0].table.num_rows
    return Ratings(
        frame[:first],
        matching(read_items(choice.items), frame["item"].dtype),
        frame[first:].reset_index(drop=True) if len(parts) == 2 else None,
        {"rows_read": len(frame) + dropped, "bad_rows_dropped": dropped},
        timed=parts[0].times is not None,
        rated=parts[0].rated,
        notes=(*choice.notes, *dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _require_alike(choice: ChosenFiles, parts: Sequence[_Checked]) -> None:
    for what in ("times", "rated"):
        had = [getattr(part, what) for part in parts]
        if len(set(had)) > 1:
            column = "times" if what == "times" else "ratings"
            raise UserError(
                f"{choice.tables[0]} and {choice.tables[1]}: their {column} are of different "
                f"kinds, or only one has any. Say with --columns which are meant, with "
                f"{'timestamp' if what == 'times' else 'rating'}=none to go without."
            )


def _checked(raw: RawTable, reading: Reading) -> _Checked:
    """The good rows; a column that is not there is 1 (rating) or 0 (timestamp) everywhere."""
    user, item = (_trimmed(raw, name) for name in ("user", "item"))
    bad = {"user": _missing(user), "item": _missing(item)}
    rating = np.ones(raw.cells.num_rows, np.float32)
    if "rating" in raw.positions:
        with np.errstate(over="ignore"):
            rating = _numbers(raw, "rating").astype(np.float32)
        bad["rating"] = ~np.isfinite(rating)
    times = _times(raw) if "timestamp" in raw.positions else None
    if times is not None:
        bad["timestamp"] = times.bad
    seconds = np.zeros(raw.cells.num_rows, np.int64) if times is None else times.seconds
    any_bad = np.logical_or.reduce(list(bad.values()))
    dropped = int(any_bad.sum()) + raw.ragged
    unit = None if times is None else times.unit
    if dropped and reading.on_bad_rows == "error":
        raise UserError(_report(raw, bad, any_bad, dropped, unit or ""))
    if dropped == raw.cells.num_rows + raw.ragged:
        raise UserError(f"{raw.part}: holds no {'good ' if dropped else ''}ratings.")
    if dropped:
        good = pa.array(~any_bad)
        user, item = user.filter(good), item.filter(good)
        rating, seconds = rating[~any_bad], seconds[~any_bad]
    table = pa.table({"user": user, "item": item, "rating": rating, "timestamp": seconds})
    notes = tuple(f"{raw.part}: {note}" for note in _notes(raw, times))
    return _Checked(table, dropped, unit, "rating" in raw.positions, notes)


def _notes(raw: RawTable, times: Times | None) -> Iterator[str]:
    """How a table was read, where it left a choice."""
    at = raw.positions
    if raw.layout is not None and raw.layout.columns is not None and not raw.is_movielens:
        taken = ", ".join(f"{place + 1} {name}" for name, place in sorted(at.items(), key=_place))
        yield f"no line names the columns, taken as {taken}; --columns says otherwise"
    others = [name.strip() for place, name in enumerate(raw.header) if place not in at.values()]
    for column, names in ALIASES.items():
        also = [name for name in others if plain(name) in names]
        if also and column in at:
            yield (
                f"the {column} is {raw.name(column)!r}; {', '.join(map(repr, also))} could be "
                f"meant too: --columns {column}={also[0]}"
            )
    left = ", ".join(repr(name) for name in others if name and not name.startswith("Unnamed: "))
    unused = f"; not used: {brief(left, 200)}" if left else ""
    if "rating" not in at:
        yield f"has no ratings: every interaction counts 1{unused}"
    if times is None:
        yield f"has no times{unused if 'rating' in at else ''}"
    elif times.note is not None:
        yield times.note


def _place(column: tuple[str, int]) -> int:
    return column[1]


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
                if raw.layout is not None and raw.layout.separator == ";":
                    column = pc.replace_substring(column, ",", ".")
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


def _times(raw: RawTable) -> Times:
    numbers = _numbers(raw, "timestamp")
    column = raw.cells.column("timestamp")
    if not pa.types.is_string(column.type) or np.isfinite(numbers).all():
        return read_times(numbers, are_dates=pa.types.is_temporal(column.type))
    return read_times(numbers, pc.utf8_trim_whitespace(column).fill_null("").to_pandas())


def _report(
    raw: RawTable,
    bad: Mapping[str, npt.NDArray[np.bool_]],
    any_bad: npt.NDArray[np.bool_],
    total: int,
    unit: str,
) -> str:
    problems = chain.from_iterable(
        (f"{raw.part}, {row.place}{problem}" for problem in _problems(raw, bad, row, unit))
        for row in bad_rows(raw, any_bad)
    )
    share = f"{total} of {raw.cells.num_rows + raw.ragged} rows"
    lines = [f"{raw.part}: {share} cannot be used. The first problems:", *islice(problems, _SHOWN)]
    hopeless = [name for name in ("rating", "timestamp") if name in bad and bad[name].all()]
    without = (
        f"go without this column: --columns {hopeless[0]}=none" if hopeless
        else "go without these rows: --on_bad_rows drop"
    )  # fmt: skip
    return "\n  ".join(lines) + f"\nMend them, or {without}."


def _problems(
    raw: RawTable, bad: Mapping[str, npt.NDArray[np.bool_]], row: BadRow, unit: str
) -> Iterator[str]:
    if row.index is None:
        separator = f" separated by {raw.layout.spelled}" if raw.layout else ""
        yield f": {len(row.fields)} fields, expected {len(raw.header)}{separator}"
        return
    for name, mask in bad.items():
        if mask[row.index]:
            value = row.fields[raw.positions[name]]
            why = _expected(name, value, unit)
            yield f", column {raw.name(name)!r}: {value[:40]!r}, {why}"


def _expected(name: str, value: str, unit: str) -> str:
    if name in ("user", "item"):
        return f"the id of the {name} is missing"
    return "expected a finite number" if name == "rating" else expected(unit, value)


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
