"""Ratings in a DuckDB database on disk: ids become numbers, and rows come back in blocks of users.

DuckDB keeps to its share of the memory, and what does not fit there goes into the folder of the
database.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from pipeline.data.protocols import StreamedTimes
from pipeline.mishaps import FULL

BLOCK_ROWS, ROW_BYTES = 4_000_000, 150
"""Rows of a block, unless a user alone has more, and what each takes while it is split."""
BLOCK_SHARE = 0.25
"""Of the memory that there is, for a block."""
MEMORY_SHARE = 0.4
"""Of the memory that there is, for DuckDB; blocks, and what is counted of users, take more."""
LEAST_MEMORY = 256 * 2**20  # bytes below which DuckDB is not asked to work

LOAD = "CREATE TABLE ratings AS SELECT * FROM source"
# An id is a whole number if that is how it would be written: 7, but not 007, +7 or 7.0.
ARE_INTEGERS = """
SELECT bool_and(coalesce(CAST(TRY_CAST(id AS BIGINT) AS VARCHAR) = id, false))
FROM (SELECT CAST({side} AS VARCHAR) AS id FROM ratings GROUP BY {side})
"""
NUMBER_IDS = """
CREATE TABLE {side}s AS
SELECT id, CAST(row_number() OVER (ORDER BY CAST(id AS {type})) - 1 AS INTEGER) AS number, n_rows
FROM (SELECT {side} AS id, count(*) AS n_rows FROM ratings GROUP BY {side})
"""
NUMBER_ROWS = """
CREATE TABLE numbered AS
SELECT users.number AS user_number, items.number AS item_number, rating, timestamp, place
FROM ratings
JOIN user_ids AS users ON users.id = ratings.user_id
JOIN item_ids AS items ON items.id = ratings.item_id
"""
IDS = "SELECT CAST(id AS {type}) AS id, n_rows FROM {side}s ORDER BY number"
TIMES = "SELECT timestamp FROM numbered"
BLOCK = """
SELECT user_number AS "user", item_number AS item, rating, timestamp
FROM numbered
WHERE user_number BETWEEN {first} AND {last}
ORDER BY place
"""


class RatingsDatabase:
    """Ratings, numbered: users and items by numbers from 0 in the order of their ids."""

    users: pd.Index
    """The id of each number."""
    items: pd.Index

    def __init__(self, connection: Any, good_rows: Iterable[Any]) -> None:
        """``good_rows`` are Arrow tables of the columns of ratings, with ids as they stand."""
        self._database = connection
        self._load(good_rows)

    def _load(self, good_rows: Iterable[Any]) -> None:
        rows = _placed(good_rows)
        if (first := next(rows, None)) is None:
            return
        failed: list[BaseException] = []  # DuckDB would make an error of its own of it

        def batches() -> Iterator[Any]:
            try:
                for table in chain([first], rows):
                    yield from table.to_batches()
            except BaseException as error:
                failed.append(error)
                raise

        self._database.register(
            "source", pa.RecordBatchReader.from_batches(first.schema, batches())
        )
        try:
            self._database.execute(LOAD)
        except Exception:
            if failed:
                raise failed[0] from None
            raise
        self._database.unregister("source")

    def number(self) -> None:
        """Number users and items, and the rows with them."""
        self.users, self._rows_of_users = self._number("user_id")
        self.items, _ = self._number("item_id")
        self._database.execute(NUMBER_ROWS)
        self._database.execute("DROP TABLE ratings")

    def _number(self, side: str) -> tuple[pd.Index, npt.NDArray[np.int64]]:
        """The ids in order, and how many rows each has."""
        ((are_integers,),) = self._database.execute(ARE_INTEGERS.format(side=side)).fetchall()
        words = {"side": side, "type": "BIGINT" if are_integers else "VARCHAR"}
        self._database.execute(NUMBER_IDS.format(**words))
        ids = self._database.sql(IDS.format(**words)).to_arrow_table()
        return pd.Index(ids.column("id").to_pandas()), ids.column("n_rows").to_numpy()

    @property
    def moments(self) -> StreamedTimes:
        """The times of all rows."""

        def stream() -> Iterator[npt.NDArray[np.int64]]:
            for batch in self._database.sql(TIMES).to_arrow_reader(BLOCK_ROWS):
                yield batch.column(0).to_numpy()

        return StreamedTimes(stream)

    def blocks(self, memory: int) -> Iterator[pd.DataFrame]:
        """All rows (user, item, rating, timestamp) of some users, then all of the next ones; in
        the order of the source.

        Args:
            memory: bytes that there are for all that is done meanwhile.
        """
        at_once = min(BLOCK_ROWS, int(BLOCK_SHARE * memory / ROW_BYTES))
        for first, last in _ranges(self._rows_of_users, at_once):
            found = self._database.sql(BLOCK.format(first=first, last=last)).to_arrow_table()
            yield found.to_pandas()


@contextmanager
def connected(folder: Path, memory: int) -> Iterator[Any]:
    """A connection to a new database in ``folder``, with all it puts aside beside it.

    Args:
        memory: bytes that there are for all that is done meanwhile.

    Raises:
        OSError: the disk is full.
        MemoryError: DuckDB cannot do with its share.
        KeyboardInterrupt: a query was interrupted.
    """
    import duckdb

    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{max(LEAST_MEMORY, int(MEMORY_SHARE * memory))}B",
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
        "temp_directory": str(folder / "spilled"),
        "autoinstall_known_extensions": False,
    }
    try:
        with duckdb.connect(folder / "ratings.duckdb", config=config) as connection:
            yield connection
    except RuntimeError as error:
        if "interrupted" in str(error):  # by Ctrl-C, in the middle of a query
            raise KeyboardInterrupt from None
        raise
    except duckdb.OutOfMemoryException as error:
        if "max_temp_directory_size" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise MemoryError(str(error)) from error
    except duckdb.Error as error:
        for number in FULL:
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number), str(folder)) from error
        raise


def _placed(good_rows: Iterable[Any]) -> Iterator[Any]:
    """Tables with the place of each row in the source."""
    start = 0
    for rows in good_rows:
        if rows.num_rows:
            place = np.arange(start, start + rows.num_rows)
            start += rows.num_rows
            names = ["user_id", "item_id", "rating", "timestamp"]
            yield rows.rename_columns(names).append_column("place", pa.array(place))


def _ranges(rows_of_users: npt.NDArray[np.int64], at_once: int) -> Iterator[tuple[int, int]]:
    """The first and the last user of each block of so many rows."""
    first, size = 0, 0
    for user, rows in zip(count(), rows_of_users.tolist()):
        if size and size + rows > at_once:
            yield first, user - 1
            first, size = user, 0
        size += rows
    yield first, len(rows_of_users) - 1
