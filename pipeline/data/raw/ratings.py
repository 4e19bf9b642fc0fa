"""Ratings as a checked table, whatever file they come from.

    which_files.choose -> formats.open_table -> checks of every row -> ids

Rows that share user and item stay: which of them counts depends on the split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from pipeline.data.raw.checks import CheckedTable
from pipeline.data.raw.files import TableFiles
from pipeline.data.raw.formats import open_table
from pipeline.data.raw.items import matching, read_items
from pipeline.data.raw.reading import AS_IT_IS, Reading
from pipeline.data.raw.which_files import ChosenFiles, choose
from pipeline.errors import UserError


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


def read_ratings(source_path: Path, reading: Reading = AS_IT_IS) -> Ratings:
    """Read and check the ratings in a file, a folder or a zip.

    Raises:
        UserError: as ``read_chosen``, or it is not clear what to read.
    """
    return read_chosen(choose(source_path, reading), reading)


def read_chosen(choice: ChosenFiles, reading: Reading = AS_IT_IS) -> Ratings:
    """Read and check the ratings in files that are chosen.

    Fractions of a second are cut off.

    Raises:
        UserError: a file is not what it should be, or, unless they are to be dropped, rows
            are bad: the first of them are named with line, column, value and what was expected.
    """
    tables = [_checked(files, reading) for files in choice.tables]
    _require_alike([table for table, _ in tables])
    frame = _frame(pa.concat_tables([good for _, good in tables]))
    dropped, first = sum(table.dropped for table, _ in tables), tables[0][1].num_rows
    return Ratings(
        frame[:first],
        matching(read_items(choice.items), frame["item"].dtype),
        frame[first:].reset_index(drop=True) if len(tables) == 2 else None,
        {"rows_read": len(frame) + dropped, "bad_rows_dropped": dropped},
        timed=tables[0][0].clock is not None,
        rated=tables[0][0].rated,
        notes=(*choice.notes, *dict.fromkeys(note for table, _ in tables for note in table.notes)),
    )


def _checked(files: TableFiles, reading: Reading) -> tuple[CheckedTable, Any]:
    """A table that is read into memory, and its good rows."""
    raw = open_table(files, reading)
    chunks = raw.read()
    table = CheckedTable(raw, lambda: chunks)
    good = pa.concat_tables(table.good_rows())
    chunks.clear()  # the table is kept, and with it they would be
    table.require_good(all_of_them=reading.on_bad_rows == "error")
    return table, good


def _require_alike(tables: Sequence[CheckedTable]) -> None:
    """Refuse two parts of a split of which only one has times or ratings, or other times.

    Raises:
        UserError: naming both.
    """
    units = [None if table.clock is None else table.clock.unit for table in tables]
    for what, had in (("times", units), ("ratings", [table.rated for table in tables])):
        if len(set(had)) > 1:
            raise UserError(
                f"{tables[0].raw.files} and {tables[1].raw.files}: their {what} are of different "
                f"kinds, or only one has any. Say with --columns which are meant, with "
                f"{'timestamp' if what == 'times' else 'rating'}=none to go without."
            )


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
    chunks = [np.empty(0, np.int64)]
    for chunk in column.chunks:
        try:
            numbers = chunk.cast(pa.int64())
        except pa.ArrowInvalid:
            return None
        if not numbers.cast(pa.string()).equals(chunk):
            return None
        chunks.append(numbers.to_numpy())
    return np.concatenate(chunks)
