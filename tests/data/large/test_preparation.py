"""What is prepared on disk is what is prepared in memory, to the fingerprint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from pipeline.data.dataset import Dataset
from pipeline.data.large import database
from pipeline.data.large.preparation import prepare_large
from pipeline.data.raw import formats
from pipeline.data.raw.ratings import read_ratings
from pipeline.data.raw.reading import AS_IT_IS, Reading
from pipeline.data.raw.which_files import choose
from pipeline.data.sizes import Size, statistics
from pipeline.data.split_settings import SplitSettings
from pipeline.data.stored import StoredDataset
from pipeline.errors import UserError

DROP = Reading(on_bad_rows="drop")
ALL = {"min_training": 1, "min_warm_training": 1, "min_held_out": 1}
SPLITS = [
    SplitSettings(),
    SplitSettings(repeats="keep", test_cut=0.7),
    SplitSettings(protocol="random", split_seed=3),
    SplitSettings(protocol="random", repeats="keep"),
    SplitSettings(protocol="leave_one_out"),
]
GIB = 2**30


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BLOCK_ROWS", 700)
    monkeypatch.setattr(formats, "STREAMED_ROWS", 300)
    monkeypatch.setattr(formats, "STREAMED_BYTES", 8192)


def in_memory(path: Path, split: SplitSettings, reading: Reading = AS_IT_IS) -> Dataset:
    ratings = read_ratings(path, reading)
    made = Dataset.from_ratings("made", ratings.table, ratings.items, split)
    made.counts.update(ratings.counts)
    return made


def on_disk(
    path: Path, split: SplitSettings, folder: Path, reading: Reading = AS_IT_IS
) -> StoredDataset:
    folder.mkdir()
    return prepare_large("made", choose(path, reading), split, reading, folder, GIB)[0]


def attempt(prepare: Callable[[], Dataset]) -> Dataset | str:
    try:
        return prepare()
    except UserError as error:
        return str(error)


def assert_same(
    path: Path, split: SplitSettings, folder: Path, reading: Reading = AS_IT_IS
) -> None:
    """Both ways give the same dataset, or refuse it in the same words."""
    expected = attempt(lambda: in_memory(path, split, reading))
    if isinstance(expected, str):
        assert attempt(lambda: on_disk(path, split, folder, reading)) == expected
        return
    made = on_disk(path, split, folder, reading)
    assert made.fingerprint == expected.fingerprint
    assert statistics(made) == statistics(expected)
    assert (made.counts, made.notes) == (expected.counts, expected.notes)
    assert (made.protocol, made.split) == (expected.protocol, expected.split)
    assert (made.n_users, made.n_items) == (expected.n_users, expected.n_items)
    assert made.larger_tests == expected.larger_tests
    for name in ("users", "items", "train", "later"):
        assert_frame_equal(getattr(made, name), getattr(expected, name))
    assert made.has_superseded == (not expected.superseded.empty)
    if made.has_superseded:
        assert_frame_equal(made.superseded, expected.superseded)
    if "warm" in set(expected.later["segment"]):
        assert Size.of(made) == Size.of(expected)
    assert made.values_taken == expected.values_taken
    assert (made.train_matrix("auto") != expected.train_matrix("auto")).nnz == 0


def parts(ratings: pd.DataFrame, folder: Path, name: str = "part-{}.parquet") -> Path:
    folder.mkdir()
    for number, rows in enumerate(np.array_split(np.arange(len(ratings)), 5)):
        path, part = folder / name.format(number), ratings.iloc[rows]
        part.to_csv(path, index=False) if "csv" in name else part.to_parquet(path, index=False)
    return folder


def with_repeats(ratings: pd.DataFrame) -> pd.DataFrame:
    """Some pairs come again: before the cut, after it, at the same moment with another rating."""
    again = ratings[:300].assign(timestamp=ratings["timestamp"][:300] + 1)
    late = ratings[:50].assign(timestamp=ratings["timestamp"].max() + 1)
    tied = ratings[100:200].assign(rating=ratings["rating"][100:200] % 5 + 0.5)
    return pd.concat([ratings, again, late, tied], ignore_index=True)


def named(ratings: pd.DataFrame) -> pd.DataFrame:
    """With ids as text, whose order is not that of numbers."""
    users = "ü" + ratings["user"].astype(str)
    return ratings.assign(user=users.where(ratings["user"] % 2 == 0, "U" + users))


@pytest.mark.parametrize("split", SPLITS, ids=lambda split: split.word)
@pytest.mark.parametrize("change", [with_repeats, named], ids=["numbers", "text"])
@pytest.mark.parametrize("name", ["part-{}.parquet", "part-{}.csv"])
def test_the_same_dataset_as_in_memory(
    ratings: pd.DataFrame, tmp_path: Path, split: SplitSettings, change: Any, name: str
) -> None:
    folder = parts(change(ratings), tmp_path / "r", name)
    assert_same(folder, split, tmp_path / "made")


def test_titles_come_along(ratings: pd.DataFrame, tmp_path: Path) -> None:
    folder = parts(ratings, tmp_path / "r")
    titles = pd.DataFrame({"item": ratings["item"].unique()}).assign(title="Film, the")
    titles.to_csv(folder / "movies.csv", index=False)
    assert_same(folder, SplitSettings(), tmp_path / "made")
    assert set(pd.read_parquet(tmp_path / "made/items.parquet")["title"]) == {"Film, the"}


@pytest.mark.parametrize("reading", [AS_IT_IS, DROP])
@pytest.mark.parametrize("name", ["part-{}.parquet", "part-{}.csv"])
def test_bad_rows_are_told_in_the_same_words(
    ratings: pd.DataFrame, tmp_path: Path, reading: Reading, name: str
) -> None:
    ratings = ratings.assign(rating=ratings["rating"].where(ratings.index % 3000 != 2900))
    folder = parts(ratings, tmp_path / "r", name)
    if "parquet" in name:
        assert_same(folder, SplitSettings(), tmp_path / "made", reading)
        return
    with (folder / "part-3.csv").open("a") as file:
        file.write("1,2,nan,978300000\nu1,2\n\n,2,3,soon\n1,2,3,978300000,7\n")
    assert_same(folder, SplitSettings(), tmp_path / "made", reading)


def test_what_is_no_text_is_told_in_the_same_words(ratings: pd.DataFrame, tmp_path: Path) -> None:
    """It is found while the database is asking for more rows."""
    folder = parts(ratings.drop(columns="timestamp"), tmp_path / "r", "part-{}.csv")
    with (folder / "part-4.csv").open("ab") as file:
        file.write(b"1,\xff\xfe,3\n")
    assert "is no UTF-8 text" in str(attempt(lambda: in_memory(folder, SplitSettings())))
    assert_same(folder, SplitSettings(), tmp_path / "made")


def test_dates_are_judged_over_all_pieces(ratings: pd.DataFrame, tmp_path: Path) -> None:
    days = pd.to_datetime(ratings["timestamp"], unit="s").dt.strftime("%m %d, %Y")
    folder = parts(ratings.assign(timestamp=days), tmp_path / "r", "part-{}.csv")
    assert_same(folder, SplitSettings(), tmp_path / "made")


ids = st.sampled_from(["7", "70", "8", "a", "B", "é", "007", "-1", "12"])
rows = st.tuples(ids, ids, st.sampled_from(["1", "2.5", "x", ""]), st.integers(0, 6))


@settings(max_examples=60, deadline=None)
@given(
    table=st.lists(rows, min_size=1, max_size=40),
    split=st.builds(
        SplitSettings,
        protocol=st.sampled_from(["auto", "time", "random", "leave_one_out"]),
        test_cut=st.sampled_from([0.5, 0.8]),
        repeats=st.sampled_from(["drop", "keep"]),
        min_training=st.integers(1, 3),
        min_warm_training=st.sampled_from([1, 2, 15]),
        min_held_out=st.sampled_from([1, 2, 10]),
    ),
    drop=st.booleans(),
    size=st.integers(1, 5),
)
@example(
    table=[("7", item, "1", moment) for item in ("7", "8", "a") for moment in (0, 0, 1, 6)],
    split=SplitSettings(**{**ALL, "min_held_out": 10, "min_warm_training": 15}), drop=True, size=1,
)  # fmt: skip
def test_small_tables_of_any_kind(
    table: list[tuple[str, str, str, int]],
    split: SplitSettings,
    drop: bool,
    size: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("t")
    frame = pd.DataFrame(table, columns=["user", "item", "rating", "timestamp"])
    frame = frame.assign(timestamp=frame["timestamp"] + 978_300_000)
    (folder / "r").mkdir()
    for start in range(0, len(frame), 10):
        frame[start : start + 10].to_csv(folder / "r" / f"{start}.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "BLOCK_ROWS", size)
        assert_same(folder / "r", split, folder / "made", DROP if drop else AS_IT_IS)
