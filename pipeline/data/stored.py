"""A prepared dataset that stays on disk: tables are written and read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.dataset import ALL, Dataset
from pipeline.data.fingerprint import COLUMNS

SUPERSEDED = "superseded"  # a table that is there where it has rows
ROWS_AT_ONCE = 1 << 22


class TableWriter:
    """A Parquet file that is written piece by piece; read again, it is the pieces together.

    Without a piece there is no file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: pq.ParquetWriter | None = None

    def append(self, rows: pd.DataFrame) -> None:
        """Write more rows, with the columns of the first."""
        table = pa.Table.from_pandas(rows, preserve_index=False)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, table.schema)
        self._writer.write_table(table)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()


class StoredDataset(Dataset):
    """A Dataset whose interactions lie in the tables of a folder, and are read when asked for.

    Columns of ``train`` are kept once they are read, each by itself: who trains on users and items
    has 8 bytes of each interaction in memory.
    """

    def __init__(self, folder: Path, **described: Any) -> None:
        """``described`` are the other fields of a ``Dataset``."""
        empty = pd.DataFrame()
        super().__init__(train=empty, later=empty, **described)
        for table in ("train", "later", SUPERSEDED):
            del self.__dict__[table]  # what is asked for is read
        object.__setattr__(self, "folder", folder)
        object.__setattr__(self, "_columns", {})

    folder: Path
    _columns: dict[str, npt.NDArray[Any]]

    @cached_property
    def train(self) -> pd.DataFrame:
        """As in a ``Dataset``, read whole."""
        return pd.DataFrame({name: self.column(name) for name in COLUMNS}, copy=False)

    @cached_property
    def later(self) -> pd.DataFrame:
        """As in a ``Dataset``, read whole."""
        return pd.read_parquet(self._path("later"))

    @cached_property
    def superseded(self) -> pd.DataFrame:
        """As in a ``Dataset``, read whole."""
        return pd.read_parquet(self._path(SUPERSEDED)) if self.has_superseded else pd.DataFrame()

    @property
    def has_superseded(self) -> bool:
        """Whether a pair came again in training."""
        return self._path(SUPERSEDED).exists()

    def chunks(self, table: str, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Columns of a table in pieces, read one after another; an empty one where it is empty."""
        with pq.ParquetFile(self._path(table), memory_map=True) as file:
            if file.metadata.num_rows == 0:
                yield file.read(columns=list(columns)).to_pandas()
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=list(columns)):
                yield batch.to_pandas()

    @cached_property
    def n_interactions(self) -> int:
        """Rows of ``train``."""
        return int(pq.read_metadata(self._path("train")).num_rows)

    def column(self, name: str, rows: slice = ALL) -> npt.NDArray[Any]:
        """A column of ``train``, [n_interactions], which is kept; or ``rows`` of it, which are not.

        Of the file only what has these rows is read.
        """
        if name not in self._columns:
            if rows != ALL:
                return self._read(name, rows)
            self._columns[name] = self._read(name, ALL)
        return self._columns[name][rows]

    @property
    def _ratings(self) -> npt.NDArray[np.float32]:
        """Not kept unless they are: who looks at them has something else made of them."""
        return self._columns["rating"] if "rating" in self._columns else self._read("rating", ALL)

    def _read(self, name: str, rows: slice) -> npt.NDArray[Any]:
        first, last, _ = rows.indices(self.n_interactions)
        with pq.ParquetFile(self._path("train"), memory_map=True) as file:
            kind = file.schema_arrow.field(name).type.to_pandas_dtype()
            values = np.empty(max(0, last - first), kind)
            begin = 0
            for group in range(file.num_row_groups):
                end = begin + file.metadata.row_group(group).num_rows
                low, high = max(first, begin), min(last, end)
                if low < high:
                    column = file.read_row_group(group, [name]).column(0).to_numpy()
                    values[low - first : high - first] = column[low - begin : high - begin]
                begin = end
        return values

    @cached_property
    def n_users(self) -> int:
        """Training users."""
        return 1 + max(int(rows["user"].max()) for rows in self.chunks("train", ["user"]))

    def with_titles(self, items: pd.DataFrame) -> Dataset:
        """The same with other titles and genres in ``items``."""
        found = self.items if self.found_items is None else self.found_items
        return self._again(self.folder, items=items, found_items=found)

    def moved(self, folder: Path) -> StoredDataset:
        """The same in the folder to which its own was moved."""
        return self._again(folder)

    def _again(self, folder: Path, **changes: Any) -> StoredDataset:
        fields = ("name", "split", "protocol", "users", "items", "counts", "notes", "found_items")
        again = StoredDataset(folder, **{name: getattr(self, name) for name in fields} | changes)
        if (known := self.__dict__.get("fingerprint")) is not None:
            again.__dict__["fingerprint"] = known
        return again

    def _path(self, table: str) -> Path:
        return self.folder / f"{table}.parquet"
