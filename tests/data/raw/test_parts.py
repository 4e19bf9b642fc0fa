"""A table in several files of a folder, as other tools write large ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from pipeline.data.raw.ratings import read_ratings
from pipeline.data.raw.reading import AS_IT_IS, Reading
from pipeline.errors import UserError

DROP = Reading(on_bad_rows="drop")
TABLE = pd.DataFrame(
    {
        "user": [3, 1, 2, 3, 1, 12],
        "item": [7, 7, 8, 9, 70, 9],
        "rating": np.array([1, 2.5, 3, 4, 5, 0.5], np.float32),
        "timestamp": [978300760 + 10 * row for row in range(6)],
    }
)


def write(folder: Path, *parts: pd.DataFrame, name: str = "part-{}.csv") -> Path:
    folder.mkdir(exist_ok=True)
    for number, part in enumerate(parts, 1):
        path = folder / name.format(number)
        if path.suffix == ".parquet":
            part.to_parquet(path, index=False)
        else:
            part.to_csv(path, index=False)
    return folder


def message(path: Path, reading: Reading = AS_IT_IS) -> str:
    with pytest.raises(UserError) as error:
        read_ratings(path, reading)
    return str(error.value)


@pytest.mark.parametrize("name", ["part-{}.csv", "part-{}-c0ffee-9.csv.gz", "{}.parquet"])
def test_parts_are_read_as_one_table(tmp_path: Path, name: str) -> None:
    read = read_ratings(write(tmp_path / "r", TABLE[:2], TABLE[2:5], TABLE[5:], name=name))
    assert_frame_equal(read.table, TABLE)
    assert read.counts == {"rows_read": 6, "bad_rows_dropped": 0}
    (note,) = read.notes
    assert "3 files" in note
    assert note.endswith("are read as one table")


def test_parts_follow_one_another_by_their_numbers(tmp_path: Path) -> None:
    rows = [TABLE[row : row + 1] for row in (0, 1, 2, 3, 4, 5, 0, 1, 2, 3)]
    read = read_ratings(write(tmp_path / "r", *rows))
    assert read.table["timestamp"].tolist() == [t for row in rows for t in row["timestamp"]]


def test_titles_lie_beside_parts(tmp_path: Path) -> None:
    folder = write(tmp_path / "r", TABLE[:3], TABLE[3:])
    pd.DataFrame({"item": [7, 9], "title": ["A", "B"]}).to_csv(folder / "movies.csv", index=False)
    assert read_ratings(folder).items["title"].tolist() == ["A", "B"]


def test_ids_are_whole_numbers_where_they_are_in_all_parts(tmp_path: Path) -> None:
    words = TABLE[3:].astype({"user": str}).replace({"user": {"12": "u12"}})
    read = read_ratings(write(tmp_path / "r", TABLE[:3], words))
    assert read.table["user"].tolist() == ["3", "1", "2", "3", "1", "u12"]
    assert read.table["item"].dtype == np.int64


def test_times_are_judged_over_all_parts(tmp_path: Path) -> None:
    """What alone would be points in an order are bad rows among seconds."""
    early = TABLE[3:].assign(timestamp=[1, 2, 3])
    folder = write(tmp_path / "r", TABLE[:3], early)
    assert f"{folder}: 3 of 6 rows cannot be used" in message(folder)
    assert f"{folder / 'part-2.csv'}, line 2, column 'timestamp': '1'" in message(folder)
    assert len(read_ratings(folder, DROP).table) == 3


@pytest.mark.parametrize("name", ["part-{}.csv", "part-{}.parquet"])
def test_bad_rows_are_found_in_their_file(tmp_path: Path, name: str) -> None:
    bad = TABLE.assign(rating=[1, np.nan, 3, 4, np.nan, 6])
    folder = write(tmp_path / "r", bad[:3], bad[3:], name=name)
    first, second = (folder / name.format(number) for number in (1, 2))
    told = message(folder)
    assert "2 of 6 rows cannot be used" in told
    row = "row 2" if name.endswith("parquet") else "line 3"
    assert f"{first}, {row}, column 'rating'" in told
    assert f"{second}, {row}, column 'rating'" in told
    assert read_ratings(folder, DROP).table["user"].tolist() == [3, 2, 3, 12]


def renamed(part: pd.DataFrame) -> pd.DataFrame:
    return part.rename(columns={"rating": "stars"})


def spelled(part: pd.DataFrame) -> pd.DataFrame:
    return part.astype({"user": str})


@pytest.mark.parametrize(
    ("change", "why"),
    [(renamed, "have to have the same columns"), (spelled, "column 'user' holds text")],
)
def test_parts_that_do_not_go_together_are_refused(
    tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], why: str
) -> None:
    folder = write(tmp_path / "r", TABLE[:3], change(TABLE[3:]), name="part-{}.parquet")
    assert f"{folder / 'part-2.parquet'}: " in message(folder)
    assert why in message(folder)
    assert len(read_ratings(folder, Reading(table="part-1")).table) == 3


def test_a_damaged_part_is_not_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "r", TABLE[:2], TABLE[2:4], TABLE[4:], name="part-{}.parquet")
    (folder / "part-2.parquet").write_bytes(b"PAR1 and no more")
    assert "part-2.parquet: is no readable Parquet file" in message(folder)


def test_tables_of_other_names_are_no_parts(tmp_path: Path) -> None:
    folder = write(tmp_path / "r", TABLE[:2], TABLE[2:])
    TABLE.to_csv(folder / "clicks-1.csv", index=False)
    assert "several files could hold the ratings" in message(folder)
