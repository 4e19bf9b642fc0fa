"""The cells of a table of ratings as they stand in its files, and where the bad ones stand.

Nothing is judged here but the shape; see checks.py for the values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from pipeline.data.raw.columns import ALIASES, RATINGS, find_columns, name_columns, read_choice
from pipeline.data.raw.files import Part, TableFiles
from pipeline.data.raw.layouts import find_layout
from pipeline.data.raw.parquet import read_columns, read_kinds, read_names
from pipeline.data.raw.reading import Reading
from pipeline.data.raw.text import Layout, open_text, require_text, rows
from pipeline.errors import UserError, brief

BLOCK_BYTES, STREAMED_BYTES = 1 << 22, 1 << 24  # of text, cut at a time
STREAMED_ROWS = 1 << 20  # of Parquet


@dataclass(frozen=True)
class Chunk:
    """Rows of a file that follow one another, before they are checked."""

    part: Part
    start: int
    """The place of the first one among the rows of the file."""
    cells: Any
    """pyarrow.Table of the columns that ratings have; text where the file is text"""
    ragged: int = 0
    """Rows with a wrong number of fields, which are not among the cells."""


@dataclass(frozen=True)
class RawTable:
    """A table of ratings before it is checked."""

    files: TableFiles
    layout: Layout | None  # None: Parquet
    header: Sequence[str]
    positions: Mapping[
        str, int
    ]  # of user and item, of rating and timestamp if there, in the header

    @property
    def is_movielens(self) -> bool:
        """Whether it has no line of names because MovieLens' files have none."""
        suffix = self.files.parts[0].suffix
        return suffix in (".dat", ".data") and tuple(self.header) == RATINGS

    def name(self, column: str) -> str:
        """What the files call a column."""
        return self.header[self.positions[column]].strip()

    def read(self) -> list[Chunk]:
        """All rows, each file in one piece; blank lines are skipped.

        Raises:
            UserError: a file is not what its name says.
        """
        return list(self._chunks(whole=True))

    def stream(self) -> Iterator[Chunk]:
        """The same in small pieces, each read when it is asked for.

        Raises:
            UserError: as ``read``.
        """
        return self._chunks(whole=False)

    def _chunks(self, whole: bool) -> Iterator[Chunk]:
        for part in self.files.parts:
            start = 0
            for cells, ragged in self._pieces(part, whole):
                yield Chunk(part, start, cells, ragged)
                start += cells.num_rows

    def _pieces(self, part: Part, whole: bool) -> Iterator[tuple[Any, int]]:
        """Cells, and how many ragged rows there are besides."""
        if self.layout is not None:
            return _cut(part, self.layout, len(self.header), self.positions, whole)
        at_once = None if whole else STREAMED_ROWS
        return ((cells, 0) for cells in read_columns(part, self.positions, at_once))


@dataclass(frozen=True)
class BadRow:
    """Where a bad row stands.

    ``place`` is "line 7", the line of the file on which the row starts, counting from 1 every
    line: the header, blank lines and those inside quotes too; or "row 7" of a Parquet file.
    ``index`` is its row among the cells of ``part``, None where the number of its ``fields`` is
    wrong.
    """

    part: Part
    place: str
    index: int | None
    fields: Sequence[str]


def open_table(files: TableFiles, reading: Reading) -> RawTable:
    """Find the columns that ratings have.

    Raises:
        UserError: a file is empty, is not what its name says, or misses columns; or files of one
            table have different columns.
    """
    first, *others = files.parts
    layout, header = read_header(first, reading)
    table = RawTable(files, layout, header, find_ratings(first, header, reading))
    kinds = read_kinds(first, table.positions) if others and layout is None else {}
    for part in others:
        found = read_header(part, reading)[1]
        if found != header:
            raise UserError(
                f"{part}: its columns are {_listed(found)}, those of {first} are "
                f"{_listed(header)}. Files that are called alike are read as one table, so they "
                f"have to have the same columns; --table names one file alone."
            )
        for column, kind in (read_kinds(part, table.positions) if kinds else {}).items():
            if kind != kinds[column]:
                raise UserError(
                    f"{part}: column {table.name(column)!r} holds {kind}, that of {first} "
                    f"{kinds[column]}. Write them alike."
                )
    return table


def read_header(part: Part, reading: Reading) -> tuple[Layout | None, list[str]]:
    """How a table is cut (None: Parquet), and the names of its columns.

    Raises:
        UserError: it is no table.
    """
    if part.is_parquet:
        return None, read_names(part)
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


def _listed(header: Sequence[str]) -> str:
    return brief(", ".join(name.strip() for name in header)) or "none"


def _cut(
    part: Part, layout: Layout, width: int, positions: Mapping[str, int], whole: bool
) -> Iterator[tuple[Any, int]]:
    """The cells of a text, and how many rows of another width there are besides."""
    ragged: list[None] = []

    def skip(_: object) -> str:
        ragged.append(None)  # called from several threads, in which appending is safe
        return "skip"

    ids = [f"f{index}" for index in range(width)]
    options = {
        "read_options": pa_csv.ReadOptions(
            column_names=ids,
            block_size=BLOCK_BYTES if whole else STREAMED_BYTES,
            encoding="utf-8-sig",  # decoded before it is cut: no row is skipped undecoded
        ),
        "parse_options": pa_csv.ParseOptions(
            delimiter=layout.separator,
            quote_char='"' if layout.quoted else False,
            newlines_in_values=layout.quoted,
            invalid_row_handler=skip,
        ),
        "convert_options": pa_csv.ConvertOptions(
            include_columns=[ids[index] for index in positions.values()],
            column_types=dict.fromkeys(ids, pa.string()),
            strings_can_be_null=False,
        ),
    }
    names_line, told, cells = 0 if layout.columns else 1, 0, pa.table({})
    with _in_words(part, layout), open_text(part, layout) as stream:
        file = pa.PythonFile(stream, mode="r")
        for piece in [pa_csv.read_csv(file, **options)] if whole else _streamed(file, options):
            cells = piece.rename_columns(list(positions)).slice(names_line)
            names_line = max(0, names_line - piece.num_rows)
            yield cells, len(ragged) - told
            told = len(ragged)
        yield cells.slice(cells.num_rows), len(ragged) - told  # what came after all others


def _streamed(file: Any, options: Mapping[str, Any]) -> Iterator[Any]:
    for batch in pa_csv.open_csv(file, **options):
        yield pa.Table.from_batches([batch])


@contextmanager
def _in_words(part: Part, layout: Layout) -> Iterator[None]:
    """What the parser stumbles over, in words."""
    try:
        yield
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


def _undecodable_line(part: Part) -> int:
    with part.open() as stream:
        number = 0
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return number


def bad_rows(raw: RawTable, bad: Mapping[Part, set[int]]) -> Iterator[BadRow]:
    """The rows at places in ``bad`` among the cells of their file, and those with too many or too
    few fields, as the files have them.

    Reads the files again, as far as it is asked for more.
    """
    for part in raw.files.parts:
        places = bad.get(part, set())
        found = (
            _of_parquet(raw, part, places) if raw.layout is None else _of_text(raw, part, places)
        )
        yield from found


def _of_text(raw: RawTable, part: Part, bad: set[int]) -> Iterator[BadRow]:
    assert raw.layout is not None
    lines = rows(part, raw.layout)
    if raw.layout.columns is None:
        next(lines)
    index = 0
    for line, fields in lines:
        if len(fields) != len(raw.header):
            yield BadRow(part, f"line {line}", None, fields)
            continue
        if index in bad:
            yield BadRow(part, f"line {line}", index, fields)
        index += 1


def _of_parquet(raw: RawTable, part: Part, bad: set[int]) -> Iterator[BadRow]:
    start = 0
    for cells in read_columns(part, raw.positions, STREAMED_ROWS):
        for index in sorted(each for each in bad if start <= each < start + cells.num_rows):
            fields = [""] * len(raw.header)
            for column, position in raw.positions.items():
                fields[position] = _spelled(cells.column(column)[index - start])
            yield BadRow(part, f"row {index + 1}", index, fields)
        start += cells.num_rows


def _spelled(cell: Any) -> str:
    if not cell.is_valid:
        return ""
    try:
        return str(cell.as_py())
    except (ValueError, OverflowError):  # a moment that Python cannot tell
        return str(cell.cast(pa.string()).as_py())
