"""The cells of a table of ratings as they stand in a file, and where the bad ones stand.

Nothing is judged here but the shape; see ratings.py for the values.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipeline.data.columns import ALIASES, RATINGS, find_columns, name_columns, read_choice
from pipeline.data.files import Part
from pipeline.data.layouts import find_layout
from pipeline.data.reading import Reading
from pipeline.data.text import Layout, open_text, require_text, rows
from pipeline.errors import UserError, brief

_BOMB_ROWS = 10_000_000
_BOMB_ROWS_PER_BYTE = 50  # no two rows of ratings are alike: each takes some bits at least


@dataclass(frozen=True)
class RawTable:
    """The cells of a table of ratings before they are checked."""

    part: Part
    layout: Layout | None  # None: Parquet
    header: Sequence[str]
    positions: Mapping[
        str, int
    ]  # of user and item, of rating and timestamp if there, in the header
    cells: Any  # pyarrow.Table of these columns; text where the file is text
    ragged: int = 0  # rows with a wrong number of fields: not among the cells

    @property
    def is_movielens(self) -> bool:
        """Whether it has no line of names because MovieLens' files have none."""
        return self.part.suffix in (".dat", ".data") and tuple(self.header) == RATINGS

    def name(self, column: str) -> str:
        """What the file calls a column."""
        return self.header[self.positions[column]].strip()


@dataclass(frozen=True)
class BadRow:
    """Where a bad row stands.

    ``place`` is "line 7", the line of the file on which the row starts, counting from 1 every
    line: the header, blank lines and those inside quotes too; or "row 7" of a Parquet file.
    ``index`` is its row in ``RawTable.cells``, None where the number of its ``fields`` is wrong.
    """

    place: str
    index: int | None
    fields: Sequence[str]


def read_raw(part: Part, reading: Reading) -> RawTable:
    """Read the columns of ``part`` that ratings have; blank lines are skipped.

    Raises:
        UserError: the file is empty, is not what its name says, or misses columns.
    """
    return _read_parquet(part, reading) if part.is_parquet else _read_text(part, reading)


def read_header(part: Part, reading: Reading) -> tuple[Layout | None, list[str]]:
    """How a table is cut (None: Parquet), and the names of its columns.

    Raises:
        UserError: it is no table.
    """
    if part.is_parquet:
        return None, list(read_columns(part, lambda _: {})[0])
    require_text(part)
    layout = find_layout(part, lambda sample: name_columns(sample, reading.columns))
    return layout, list(layout.columns or next((fields for _, fields in rows(part, layout)), []))


def find_ratings(part: Part, header: Sequence[str], reading: Reading) -> dict[str, int]:
    """Where user, item, and, if they are there, rating and timestamp stand in ``header``.

    Raises:
        UserError: no users or no items are there.
    """
    chosen = read_choice(reading.columns)
    return find_columns(part, header, ALIASES, chosen, optional=("rating", "timestamp"))


def _read_text(part: Part, reading: Reading) -> RawTable:
    layout, header = read_header(part, reading)
    assert layout is not None
    positions = find_ratings(part, header, reading)
    ragged: list[None] = []

    def skip(_: object) -> str:
        ragged.append(None)  # called from several threads, in which appending is safe
        return "skip"

    ids = [f"f{index}" for index in range(len(header))]
    try:
        with open_text(part, layout) as stream:
            cells = pa_csv.read_csv(
                pa.PythonFile(stream, mode="r"),
                read_options=pa_csv.ReadOptions(
                    column_names=ids,
                    block_size=1 << 22,
                    encoding="utf-8-sig",  # decoded before it is cut: no row is skipped undecoded
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=layout.separator,
                    quote_char='"' if layout.quoted else False,
                    newlines_in_values=layout.quoted,
                    invalid_row_handler=skip,
                ),
                convert_options=pa_csv.ConvertOptions(
                    include_columns=[ids[index] for index in positions.values()],
                    column_types=dict.fromkeys(ids, pa.string()),
                    strings_can_be_null=False,
                ),
            )
    except UnicodeDecodeError as error:
        raise UserError(
            f"{part}, line {_undecodable_line(part)}: is no UTF-8 text ({error.reason}). Save the "
            f"file in UTF-8."
        ) from None
    except pa.ArrowInvalid as error:
        raise UserError(
            f"{part}: cannot be read as UTF-8 text with columns separated by {layout.spelled} "
            f"({brief(error)})."
        ) from None
    first = 0 if layout.columns else 1
    cells = cells.rename_columns(list(positions)).slice(first)
    return RawTable(part, layout, header, positions, cells, len(ragged))


def _undecodable_line(part: Part) -> int:
    with part.open() as stream:
        number = 0
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return number


def _read_parquet(part: Part, reading: Reading) -> RawTable:
    header, positions, found = read_columns(
        part, lambda header: find_ratings(part, header, reading)
    )
    cells = {name: _plain(found.column(name)) for name in positions}
    return RawTable(part, None, header, positions, pa.table(cells))


def read_columns(
    part: Part, find: Callable[[Sequence[str]], Mapping[str, int]]
) -> tuple[Sequence[str], Mapping[str, int], Any]:
    """The header of a Parquet file, where ``find`` finds columns in it, and these, so named.

    Raises:
        UserError: it is no Parquet file, or is damaged or a bomb.
    """
    with part.open() as stream:
        data = stream.read()
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        header = file.schema_arrow.names
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _no_parquet(part, error) from None
    positions = find(header)
    if file.metadata.num_rows > max(_BOMB_ROWS, _BOMB_ROWS_PER_BYTE * len(data)):
        raise UserError(
            f"{part}: {file.metadata.num_rows:,} rows in {len(data):,} bytes, as no ratings "
            f"are. Look whether it is what it should be."
        )
    try:
        table = file.read(columns=[header[index] for index in positions.values()])
        table.validate(full=True)
        found = {name: table.column(header[at]) for name, at in positions.items()}
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise _no_parquet(part, error) from None
    return header, positions, pa.table(found)


def _no_parquet(part: Part, error: Exception) -> UserError:
    return UserError(f"{part}: is no readable Parquet file ({brief(error)}). Write it again.")


def _plain(column: Any) -> Any:
    """Categories become their values, every kind of text the same kind."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    is_text = pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return column.cast(pa.string() if is_text else kind)


def bad_rows(raw: RawTable, bad: npt.NDArray[np.bool_]) -> Iterator[BadRow]:
    """The rows marked in ``bad``, and those with too many or too few fields, as the file has them.

    Reads the file again, line by line.
    """
    if raw.layout is None:
        for index in np.flatnonzero(bad).tolist():
            fields = [""] * len(raw.header)
            for column, position in raw.positions.items():
                fields[position] = _spelled(raw.cells.column(column)[index])
            yield BadRow(f"row {index + 1}", index, fields)
        return
    lines = rows(raw.part, raw.layout)
    if raw.layout.columns is None:
        next(lines)
    index = 0
    for line, fields in lines:
        if len(fields) != len(raw.header):
            yield BadRow(f"line {line}", None, fields)
            continue
        if index < len(bad) and bad[index]:
            yield BadRow(f"line {line}", index, fields)
        index += 1


def _spelled(cell: Any) -> str:
    if not cell.is_valid:
        return ""
    try:
        return str(cell.as_py())
    except (ValueError, OverflowError):  # a moment that Python cannot tell
        return str(cell.cast(pa.string()).as_py())
