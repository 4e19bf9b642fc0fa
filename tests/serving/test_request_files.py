"""Requests from files: every kind gives the same ones, and what is wrong is told with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UserError
from pipeline.serving.answers import Request
from pipeline.serving.request_files import open_requests

WANTED = [
    Request("7", ("1", "a b"), (), None),
    Request(None, ("2",), ("3",), ("4", "5")),
    Request("x, y", (), (), None),
]
TEXT = 'User,items,exclude,allowed\n7,1|a b,,\n\n,2,3,4|5\n"x, y",,,\n'


def read(path: Path, size: int = 2) -> list[Request]:
    file = open_requests(path)
    blocks = list(file.blocks(size))
    assert all(len(block) == size for block in blocks[:-1])
    found = [request for block in blocks for request in block]
    assert len(found) == file.count
    return found


def text(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_every_kind_of_file_gives_the_same_requests(tmp_path: Path) -> None:
    assert read(text(tmp_path / "a.csv", TEXT)) == WANTED
    assert read(text(tmp_path / "b.csv", "\ufeff" + TEXT.replace("\n", "\r\n"))) == WANTED
    tabs = "user\titems\texclude\tallowed\n7\t1|a b\t\t\n\t2\t3\t4|5\nx, y\t\t\t\n"
    assert read(text(tmp_path / "a.TSV", tabs)) == WANTED
    columns = {
        "items": [["1", "a b"], ["2"], []],
        "user": ["7", None, "x, y"],
        "exclude": [None, ["3"], None],
        "allowed": [None, ["4", "5"], None],
    }
    assert read(parquet(tmp_path / "a.parquet", **columns)) == WANTED


def test_ids_alone(tmp_path: Path) -> None:
    wanted = [Request(user, (), (), None) for user in ("12", "user", "a, b", "3")]
    assert read(text(tmp_path / "a.txt", "12\nuser\n\n a, b\n3"), 3) == wanted
    large = 2**53 + 1
    kept = parquet(tmp_path / "a.parquet", user=[large, 2], items=[None, [1, large]])
    assert read(kept) == [
        Request(str(large), (), (), None),
        Request("2", ("1", str(large)), (), None),
    ]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.xlsx", "user\n1\n", "unknown kind of file. Expected users in one of .csv"),
        ("a.csv", "", "is empty"),
        ("a.csv", "user\n", "has no users"),
        ("a.csv", "\0\1", "is no text file"),
        ("a.csv", "user,film\n1,2\n", "unknown column 'film'. Expected user (an id), or items"),
        ("a.csv", "user,user\n1,2\n", "column user stands there more than once"),
        ("a.csv", "exclude\n1\n", "neither user nor items is a column"),
        ("a.csv", "user,items\n1,2\n\n1,2,3\n", "line 4: 3 fields, expected 2 separated by ','"),
        ("a.csv", b"user\n1\n\xff\n", "line 3, user: '\ufffd' is no UTF-8 text"),
        ("a.csv", "user\n1\n" + 200_000 * "x", "line 3: cannot be cut into columns"),
        ("a.csv", 'user,items\n1,2\n"","|"\n', "line 3: neither a user nor items"),
        ("a.parquet", "user\n1\n", "is no readable Parquet file"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(
    tmp_path: Path, name: str, content: str | bytes, told: str
) -> None:
    path = text(tmp_path / name, content)
    with pytest.raises(UserError) as error:
        read(path)
    assert str(error.value).startswith(str(path))
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"user": [1.0, 2.5]}, "Row 2, user: 2.5 is no id"),
        ({"user": [[1]]}, "Row 1, user: [1] is no id"),
        ({"items": ["1|2"]}, "Row 1, items: '1|2' is no list"),
        ({"user": [1, None]}, "row 2: neither a user nor items"),
        ({"User Id": [1]}, "unknown column 'user id'"),
    ],
)
def test_cells_of_parquet_that_are_no_ids(
    tmp_path: Path, columns: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError) as error:
        read(parquet(tmp_path / "a.parquet", **columns), size=1)
    assert f"a.parquet: {told}" in str(error.value) or f"a.parquet, {told}" in str(error.value)


def test_a_file_that_is_missing_and_one_that_is_damaged(tmp_path: Path) -> None:
    for name in ("no.csv", "no.parquet"):
        with pytest.raises(UserError, match=name):
            open_requests(tmp_path / name)
    pd.DataFrame({"user": range(100_000)}).to_parquet(path := tmp_path / "damaged.parquet")
    whole = path.read_bytes()
    for damaged in (whole[:-9], whole[:4] + bytes(60) + whole[64:]):  # the index, the first page
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="is no readable Parquet file"):
            read(path, 50_000)
