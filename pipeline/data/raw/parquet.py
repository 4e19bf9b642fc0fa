"""Parquet files: their columns, whole or piece by piece, and what is refused of them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.raw.files import Part
from pipeline.errors import UserError, brief

_BOMB_ROWS = 10_000_000
_BOMB_ROWS_PER_BYTE = 50  # no two rows of ratings are alike: each takes some bits at least


def read_names(part: Part) -> list[str]:
    """The names of a file's columns.

    Raises:
        UserError: it is no Parquet file, or is damaged or a bomb.
    """
    with _opened(part) as file:
        return list(file.schema_arrow.names)


def read_kinds(part: Part, positions: Mapping[str, int]) -> dict[str, str]:
    """What the columns at ``positions`` hold: text, numbers, or else the type's own name."""
    with _opened(part) as file:
        types = {name: file.schema_arrow.field(at).type for name, at in positions.items()}
    return {name: _kind(of) for name, of in types.items()}


def count_rows(part: Part) -> int:
    """How many rows a file says it has."""
    with _opened(part) as file:
        return int(file.metadata.num_rows)


def read_columns(
    part: Part, positions: Mapping[str, int], rows_at_once: int | None = None
) -> Iterator[Any]:
    """The columns at ``positions``, so named, as tables: one of all rows, or many of so many.

    Raises:
        UserError: it is no Parquet file, or is damaged or a bomb.
    """
    with _opened(part) as file:
        names = [file.schema_arrow.names[at] for at in positions.values()]
        try:
            if rows_at_once is None:
                pieces = iter([file.read(columns=names)])
            else:
                batches = file.iter_batches(rows_at_once, columns=names)
                pieces = (pa.Table.from_batches([batch]) for batch in batches)
            for piece in pieces:
                piece.validate(full=True)
                of = zip(positions, names, strict=True)
                yield pa.table({column: _plain(piece.column(name)) for column, name in of})
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise _no_parquet(part, error) from None


@contextmanager
def _opened(part: Part) -> Iterator[Any]:
    """The file; one that is packed, or a member of a zip, is read into memory."""
    with part.open() as stream:
        on_disk = part.member is None and not part.is_packed
        source = stream if on_disk else io.BytesIO(stream.read())
        size = source.seek(0, io.SEEK_END)
        try:
            file = pq.ParquetFile(source)
            rows = len(file.schema_arrow) and file.metadata.num_rows  # a schema may be damaged
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _no_parquet(part, error) from None
        if rows > max(_BOMB_ROWS, _BOMB_ROWS_PER_BYTE * size):
            raise UserError(
                f"{part}: {rows:,} rows in {size:,} bytes, as no ratings are. Look whether it is "
                f"what it should be."
            )
        yield file


def _no_parquet(part: Part, error: Exception) -> UserError:
    return UserError(f"{part}: is no readable Parquet file ({brief(error)}). Write it again.")


def _plain(column: Any) -> Any:
    """Categories become their values, every kind of text the same kind."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return column.cast(pa.string() if _is_text(kind) else kind)


def _kind(of: Any) -> str:
    of = of.value_type if pa.types.is_dictionary(of) else of
    if pa.types.is_integer(of) or pa.types.is_floating(of):
        return "numbers"
    return "text" if _is_text(of) else str(of)


def _is_text(kind: Any) -> bool:
    large = pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(large or pa.types.is_string(kind))
