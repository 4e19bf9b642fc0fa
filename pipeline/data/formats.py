"""The cells of a table of ratings as they stand in a file, and where the bad ones stand.

Nothing is judged here but the shape; see ratings.py for the values.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipeline.data.files import UNIT, Layout, Part
from pipeline.errors import UserError, brief

ALIASES: Mapping[str, tuple[str, ...]] = {
    "user": ("user", "user_id", "userid", "uid"),
    "item": ("item", "item_id", "itemid", "movie_id", "movieid", "iid"),
    "rating": ("rating", "score", "value"),
    "timestamp": ("timestamp", "ts", "time", "datetime"),
}
"""The columns of a table of ratings and the names they may have, in order of preference."""

_BOMB_ROWS = 10_000_000
_BOMB_ROWS_PER_BYTE = 50  # no two rows of ratings are alike: each takes some bits at least


@dataclass(frozen=True)
class RawTable:
    """The cells of a table of ratings before they are checked."""

    part: Part
    header: Sequence[str]
    positions: Mapping[str, int]  # of user, item, rating and timestamp in the header
    cells: Any  # pyarrow.Table of these four columns; text where the file is text
    ragged: int = 0  # rows with a wrong number of fields: not among the cells

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


def read_raw(part: Part) -> RawTable:
    """Read the four columns of ``part``; blank lines are skipped.

    Raises:
        UserError: the file is empty, is not what its name says, or misses columns.
    """
    return _read_parquet(part) if part.layout is None else _read_text(part, part.layout)


def _read_text(part: Part, layout: Layout) -> RawTable:
    require_text(part)
    header = layout.columns or next((fields for _, fields in rows(part, layout)), [])
    positions = find_columns(part, header, ALIASES)
    ragged: list[None] = []

    def skip(_: object) -> str:
        ragged.append(None)  # called from several threads, in which appending is safe
        return "skip"

    ids = [f"f{index}" for index in range(len(header))]
    try:
        with _opened(part, layout) as stream:
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
    return RawTable(part, header, positions, cells, len(ragged))


def _undecodable_line(part: Part) -> int:
    with part.open() as stream:
        number = 0
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return number


def _read_parquet(part: Part) -> RawTable:
    header, positions, found = read_columns(
        part, lambda header: find_columns(part, header, ALIASES)
    )
    cells = {name: _plain(found.column(name)) for name in positions}
    return RawTable(part, header, positions, pa.table(cells))


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
    if raw.part.layout is None:
        for index in np.flatnonzero(bad).tolist():
            fields = [""] * len(raw.header)
            for column, position in raw.positions.items():
                fields[position] = _spelled(raw.cells.column(column)[index])
            yield BadRow(f"row {index + 1}", index, fields)
        return
    lines = rows(raw.part, raw.part.layout)
    if raw.part.layout.columns is None:
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


def find_columns(
    part: Part,
    header: Sequence[str],
    aliases: Mapping[str, tuple[str, ...]],
) -> dict[str, int]:
    """The position of every column of ``aliases`` in ``header``; case does not matter.

    Raises:
        UserError: one is missing, or stands there twice under the same name.
    """
    typed = part.name.suffix in (".inter", ".item")
    names = [name.strip().lower() for name in header]
    names = [name.partition(":")[0] if typed else name for name in names]
    found = {
        column: next((name for name in known if name in names), None)
        for column, known in aliases.items()
    }
    missing = [column for column, name in found.items() if name is None]
    if missing:
        expected = "; ".join(
            f"{column} (or {', '.join(aliases[column][1:])})" for column in missing
        )
        raise UserError(
            f"{part}: the first line must name the columns, and {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing. Columns found: "
            f"{brief(', '.join(map(repr, header)), 500) or 'none'}. Expected: {expected}."
        )
    twice = [name for name in found.values() if name and names.count(name) > 1]
    if twice:
        raise UserError(f"{part}: column {twice[0]!r} stands there more than once. Keep one.")
    return {column: names.index(name) for column, name in found.items() if name}


def rows(
    part: Part, layout: Layout, encoding: str = "utf-8-sig"
) -> Iterator[tuple[int, list[str]]]:
    """The line on which each row starts, and its fields; blank lines are counted and skipped."""
    with _opened(part, layout) as stream:
        reader = csv.reader(
            io.TextIOWrapper(stream, encoding, errors="replace", newline=""),
            delimiter=layout.separator,
            quoting=csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE,
        )
        start = 1
        try:
            for fields in reader:
                if fields:
                    yield start, fields
                start = reader.line_num + 1
        except csv.Error as error:
            raise UserError(
                f"{part}, line {start}: cannot be cut into columns ({brief(error)})."
            ) from None


def require_text(part: Part) -> None:
    """Refuse what is no table, whatever its name says.

    Raises:
        UserError: the file is empty, binary or a web page.
    """
    with part.open() as stream:
        start = stream.read(4096)
    if not start.strip():
        raise UserError(f"{part}: is empty. Expected a table of ratings.")
    if b"\0" in start:
        raise UserError(f"{part}: is no text file, whatever its name says. Expected UTF-8 text.")
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(
            f"{part}: is a web page saved under this name, no table. Download the file itself."
        )


@contextmanager
def _opened(part: Part, layout: Layout) -> Iterator[BinaryIO]:
    with part.open() as stream:
        if layout.separator == UNIT:
            yield io.BufferedReader(_Colons(stream), 1 << 20)
        else:
            yield stream


class _Colons(io.RawIOBase):
    """A stream of bytes with "::" replaced, wherever the borders between reads fall."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._held = b""  # colons at the end of the last read: the next may begin with another

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        complete = b""
        while not complete:
            read = self._stream.read(max(1, len(buffer) - len(self._held)))
            data = self._held + read
            complete = data.rstrip(b":") if read else data
            self._held = data[len(complete) :]
            if not read:
                break
        replaced = complete.replace(b"::", UNIT.encode())
        buffer[: len(replaced)] = replaced
        return len(replaced)
