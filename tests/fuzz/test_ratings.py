"""Damaged ratings and titles: read, or refused in words; never a crash, whatever is in them."""

from __future__ import annotations

import contextlib
import gzip
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.dataset import Dataset
from pipeline.data.raw.files import Part
from pipeline.data.raw.items import read_items
from pipeline.data.raw.ratings import read_ratings
from pipeline.data.raw.reading import Reading
from pipeline.data.sizes import statistics
from pipeline.data.split_settings import SplitSettings
from pipeline.errors import UserError
from tests.conftest import make_ratings
from tests.fuzz.damage import damaged, fuzzed, read_or_refused, zipped

RATINGS = make_ratings(np.random.default_rng(0), n_users=5, n_items=12, interactions=9)
ROWS = [tuple(map(str, row)) for row in RATINGS.itertuples(index=False)]
WORDS = [b"user", b"item", b"rating", b"movie_id", b"978300760", b"978300760000", b"::", b"|", b";"]


def text(separator: str, header: str = "", rows: list[tuple[str, ...]] = ROWS) -> bytes:
    lines = [header] if header else []
    return "".join(f"{line}\n" for line in [*lines, *map(separator.join, rows)]).encode()


def parquet(table: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


TABLE = pa.Table.from_pandas(RATINGS)
FILES = {
    "ratings.csv": text(",", "user_id,item_id,rating,timestamp"),
    "ratings.tsv": text("\t", "user\titem\trating\ttimestamp"),
    "ratings.dat": text("::"),
    "u.data": text("\t"),
    "toy.inter": text("\t", "user_id:token\titem_id:token\trating:float\ttimestamp:float"),
    "ratings.parquet": parquet(TABLE),
    "mine.csv.gz": gzip.compress(text(";", "User-ID;ISBN;Stars;Date"), mtime=0),
    "mine.txt": text("\t").decode().encode("utf-16"),
    "mine": text(" "),
}
PLAIN = [name for name in FILES if name != "ratings.parquet"]
TITLES = [(str(item), f"Film, the {item}", "Drama|War") for item in RATINGS["item"].unique()]
ITEMS = {
    "movies.csv": text(",", "movieId,title,genres", [(i, f'"{t}"', g) for i, t, g in TITLES]),
    "movies.dat": text("::", rows=TITLES),
    "u.item": text("|", rows=[(i, t, "", "", "", *"0101010101010101010") for i, t, _ in TITLES]),
    "toy.item": text("\t", "item_id:token\tmovie_title:token_seq\tclass:token_seq", TITLES),
    "items.parquet": parquet(
        pa.table(list(zip(*TITLES, strict=True)), ["item", "title", "genres"])
    ),
}
DROP = st.sampled_from(["error", "drop"])


@pytest.fixture(scope="module", autouse=True)
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("ratings")
    with contextlib.chdir(folder):
        yield folder


def write(name: str, content: bytes) -> Path:
    path = Path(name)
    path.write_bytes(content)
    return path


def read(path: Path, on_bad_rows: Any = "error") -> None:
    """What ``prepare`` does with ratings."""
    with read_or_refused(path):
        ratings = read_ratings(path, Reading(on_bad_rows=on_bad_rows))
        assert len(ratings.table)
        assert np.isfinite(ratings.table["rating"]).all()
        with contextlib.suppress(UserError):  # too little is left, which names no file
            made = Dataset.from_ratings("fuzz", ratings.table, ratings.items, SplitSettings())
            assert statistics(made)["train_interactions"] == len(made.train)
            assert made.fingerprint


@pytest.mark.parametrize("name", FILES)
@fuzzed(100)
@given(data=st.data(), on_bad_rows=DROP)
def test_ratings(name: str, data: st.DataObject, on_bad_rows: str) -> None:
    read(write(name, data.draw(damaged(FILES[name], WORDS))), on_bad_rows)


@pytest.mark.parametrize("name", ITEMS)
@fuzzed(60)
@given(data=st.data())
def test_items(name: str, data: st.DataObject) -> None:
    path = write(name, data.draw(damaged(ITEMS[name], WORDS)))
    with read_or_refused(path):
        items = read_items(Part(path))
        assert items["item"].is_unique


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """Damage to a zip, or to what is in it."""
    kinds = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    name, method = draw(st.sampled_from(list(FILES))), draw(st.sampled_from(kinds))
    members = {f"ml/{name}": FILES[name], "ml/movies.csv": ITEMS["movies.csv"]}
    if draw(st.booleans()):
        return draw(
            damaged(zipped(members, method), [b"PK\x01\x02", b"PK\x05\x06", b"ratings.csv"])
        )
    return zipped({member: draw(damaged(held, WORDS)) for member, held in members.items()}, method)


@fuzzed(400)
@given(content=archives(), on_bad_rows=DROP)
def test_archives(content: bytes, on_bad_rows: str) -> None:
    read(write("mine.zip", content), on_bad_rows)


def invalid_utf8(n: int) -> Any:
    ends = pa.py_buffer(np.arange(n + 1, dtype=np.int32))
    return pa.StringArray.from_buffers(n, ends, pa.py_buffer(b"\xff" * n))


N = 40
_NUMBERS = np.arange(N) + 978_300_000
CELLS = [
    pa.array(_NUMBERS),
    pa.array(_NUMBERS.astype(np.uint64) + np.uint64(2**63)),
    pa.array(_NUMBERS.astype(np.int8), mask=_NUMBERS % 3 == 0),
    pa.array(np.where(_NUMBERS % 3, np.nan, np.inf)),
    pa.array(np.arange(N, dtype=np.float16)),
    pa.array(_NUMBERS % 2 == 0),
    pa.array(map(str, _NUMBERS)),
    pa.array(map(str, _NUMBERS), pa.large_string()),
    pa.array(map(str, _NUMBERS), pa.string_view()),
    pa.array([str(n).encode() for n in _NUMBERS]),
    pa.array(map(str, _NUMBERS)).dictionary_encode(),
    pa.array([None, *"a\n\x1b\u202e7"] * 10)[:N],
    invalid_utf8(N),
    pa.nulls(N),
    pa.nulls(N, pa.string()),
    pa.array([[n] for n in _NUMBERS]),
    pa.array([{"a": n} for n in _NUMBERS]),
    pa.array([[("a", n)] for n in _NUMBERS], pa.map_(pa.string(), pa.int64())),
    pa.array(_NUMBERS.tolist(), pa.decimal128(38, 10)),
    pa.array(_NUMBERS.tolist(), pa.decimal256(76, 10)),
    *(pa.array(_NUMBERS, pa.timestamp(unit, "Asia/Tokyo")) for unit in ("s", "ms", "us", "ns")),
    pa.array([2**62] * N, pa.timestamp("s")),
    pa.array([2**62] * N, pa.timestamp("ms")),
    pa.array(_NUMBERS.astype(np.int32), pa.date32()),
    pa.array(np.arange(N, dtype=np.int32), pa.time32("s")),
    pa.array(np.arange(N), pa.duration("ns")),
]


@fuzzed(300)
@given(
    columns=st.lists(st.integers(0, len(CELLS) - 1), min_size=4, max_size=4),
    names=st.permutations(["user", "item", "rating", "timestamp"]),
    on_bad_rows=DROP,
)
def test_columns_of_any_type(columns: list[int], names: list[str], on_bad_rows: str) -> None:
    table = pa.table(dict(zip(names, (CELLS[at] for at in columns), strict=True)))
    try:
        content = parquet(table)
    except (pa.ArrowException, OSError):
        return
    read(write("typed.parquet", content), on_bad_rows)
    path = write("items.parquet", parquet(table.rename_columns(["item", "title", "genres", "x"])))
    with read_or_refused(path):
        read_items(Part(path))
