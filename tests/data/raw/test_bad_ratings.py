"""What is wrong with ratings is told: what, where, what was expected, what to do."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.raw.ratings import read_ratings
from pipeline.data.raw.reading import Reading
from pipeline.errors import UserError
from tests.data.raw.test_ratings import (
    CLEAN,
    DROP,
    HEADER,
    LAYOUTS,
    TYPED,
    message,
    parquet,
    write,
    zipped,
)


def bad_csv(folder: Path, *rows: str) -> str:
    return message(write(folder / "r.csv", HEADER + "".join(f"{row}\n" for row in rows)))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("1,1,abc,978300760", "column 'rating': 'abc', expected a finite number"),
        ("1,1,,978300760", "column 'rating': '', expected a finite number"),
        ("1,1,nan,978300760", "column 'rating': 'nan', expected a finite number"),
        ("1,1,-inf,978300760", "column 'rating': '-inf', expected a finite number"),
        ("1,1,1e39,978300760", "column 'rating': '1e39', expected a finite number"),
        ("1,1,3,-5", "column 'timestamp': '-5', expected seconds since 1970 (UTC), from 1990"),
        ("1,1,3,600000000", "column 'timestamp': '600000000', expected seconds"),
        ("1,1,3,978300760000", "column 'timestamp': '978300760000', looks like milliseconds"),
        ("1,1,3,2000-12-31", "column 'timestamp': '2000-12-31', expected seconds"),
        ("1,1,3,nan", "column 'timestamp': 'nan', expected seconds"),
        (" ,1,3,978300760", "column 'user_id': ' ', the id of the user is missing"),
        ("1,,3,978300760", "column 'item_id': '', the id of the item is missing"),
        ("1,1,3", "line 5: 3 fields, expected 4 separated by ','"),
        ("1,1,3,978300760,9", "line 5: 5 fields, expected 4 separated by ','"),
    ],
)
def test_bad_cell(row: str, said: str, tmp_path: Path) -> None:
    good = "1,2,3,978300760"
    text = bad_csv(tmp_path, good, "", '3,"7",1,978300760', row, good)
    assert said in text
    assert f"{tmp_path / 'r.csv'}, line 5" in text
    assert "1 of 4 rows cannot be used" in text
    assert "on_bad_rows" in text
    ratings = read_ratings(tmp_path / "r.csv", DROP)
    assert ratings.counts == {"rows_read": 4, "bad_rows_dropped": 1}
    assert ratings.table["item"].tolist() == [2, 7, 2]


def test_a_day_from_now_is_still_good(tmp_path: Path) -> None:
    now = int(time.time())
    assert len(read_ratings(write(tmp_path / "r.csv", f"{HEADER}1,1,1,{now + 3600}\n")).table) == 1
    assert f"'{now + 200_000}'" in bad_csv(tmp_path, f"1,1,1,{now + 200_000}")


def test_only_the_first_problems_are_told_and_all_are_counted(tmp_path: Path) -> None:
    text = bad_csv(tmp_path, *["1,1,x,978300760"] * 20, "1,1,1,978300760")
    assert "20 of 21 rows" in text
    assert [f"line {n}," in text for n in (2, 6, 7)] == [True, True, False]


def test_lines_in_other_layouts(tmp_path: Path) -> None:
    dat = "1::1::3::978300760\n1::2::3:978300760\n1::3::bad::978300760\n"
    text = message(zipped(tmp_path / "a.zip", {"ml/ratings.dat": dat}))
    assert (
        f"{tmp_path / 'a.zip'}!ml/ratings.dat, line 2: 3 fields, expected 4 separated by '::'"
        in (text)
    )
    assert "a.zip!ml/ratings.dat, line 3, column 'rating': 'bad'" in text
    frame = CLEAN.assign(rating=[1.0, np.nan, 2.0], user=["a", "b", None])
    text = message(write(tmp_path / "r.parquet", parquet(frame)))
    assert "r.parquet, row 2, column 'rating': ''" in text
    assert "r.parquet, row 3, column 'user': ''" in text
    text = message(write(tmp_path / "x.inter", f"{TYPED}\n1\t1\tx\t978300760\n"))
    assert "x.inter, line 2, column 'rating:float': 'x'" in text


def test_quoted_newlines_count_as_lines(tmp_path: Path) -> None:
    body = 'note,user,item,rating,ts\n"a\nb",1,1,1,978300760\n"c\n\nd",1,2,x,978300760\n'
    assert "line 4, column 'rating': 'x'" in message(write(tmp_path / "r.csv", body))


def test_quoted_newlines_across_the_blocks_of_a_large_file(tmp_path: Path) -> None:
    """Blocks have 4 MiB; quotes tell which ends of lines end a row."""
    body = "".join(f'{i},1,1,978300760,"{"long note" * 9}\n{i},1,x,1"\n' for i in range(60_000))
    path = write(tmp_path / "r.csv", f"user,item,rating,ts,note\n{body}")
    assert read_ratings(path).table["user"].tolist() == list(range(60_000))
    path.write_text(path.read_text() + "1,1,x,978300760,\n")
    assert "line 120002, column 'rating': 'x'" in message(path)


def test_missing_columns(tmp_path: Path) -> None:
    text = message(write(tmp_path / "r.csv", "who,movie_id,stars\n1,1,5\n"))
    assert "the first line must name the columns, and user is missing" in text
    assert "'who', 'movie_id', 'stars'" in text
    assert "user (or userid, uid" in text
    assert "--columns user=NAME,item=NAME" in text
    assert read_ratings(tmp_path / "r.csv", Reading(columns="user=who")).rated
    text = message(write(tmp_path / "r.csv", "user,item,rating,Rating,ts\n1,1,1,1,978300760\n"))
    assert "'rating' stands there more than once" in text
    table = read_ratings(tmp_path / "r.csv", Reading(columns="rating=4")).table
    assert table["rating"].tolist() == [1]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("r.csv", b"", "is empty"),
        ("r.csv", b"\n \n", "is empty"),
        ("r.csv", HEADER.encode(), "holds no ratings"),
        ("ratings.dat", b"", "is empty"),
        ("r.csv", b"\x89PNG\r\n\0\0\0", "no text file"),
        ("r.csv", HEADER.encode("utf-16"), "holds no ratings"),
        ("r.csv", HEADER.encode("utf-16-le"), "no text file"),
        ("r.csv", HEADER.encode() + b"\xe9,1,1,978300760\n", "UTF-8"),
        ("r.csv", b"\n<!DOCTYPE html><html></html>", "web page"),
        ("ratings.dat", b"<html><body>Log in</body></html>", "web page"),
        ("r.zip", b"<html>", "no readable zip"),
        ("r.parquet", HEADER.encode(), "no readable Parquet"),
        ("r.parquet", b"", "no readable Parquet"),
        ("r.xlsx", b"PK", "unknown kind of file"),
    ],
)
def test_files_that_are_not_what_they_say(
    name: str, content: bytes, said: str, tmp_path: Path
) -> None:
    text = message(write(tmp_path / name, content))
    assert said in text
    assert str(tmp_path / name) in text


def test_nothing_good_left(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", HEADER + "1,1,x,978300760\n1,1\n")
    with pytest.raises(UserError, match="holds no good ratings"):
        read_ratings(path, DROP)


def test_unusable_types_in_parquet(tmp_path: Path) -> None:
    frame = CLEAN.assign(user=[0.5, 1.0, 2.0])
    assert "Expected ids" in message(write(tmp_path / "r.parquet", parquet(frame)))
    frame = CLEAN.assign(rating=[[1], [2], [3]])
    assert "Expected numbers" in message(write(tmp_path / "r.parquet", parquet(frame)))


def test_nothing_or_too_much_to_choose_from(tmp_path: Path) -> None:
    text = message(zipped(tmp_path / "a.zip", {"README": "x", "x/users.txt": "y"}))
    assert "no file holds the ratings" in text
    assert "README, x/users.txt" in text
    text = message(zipped(tmp_path / "b.zip", {"a/ratings.csv": "", "b/ratings.csv": ""}))
    assert "several files could hold the ratings" in text
    assert "a/ratings.csv, b/ratings.csv" in text
    (tmp_path / "empty").mkdir()
    assert "contains nothing" in message(tmp_path / "empty")


def test_damaged_member(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"ratings.csv": LAYOUTS["ratings.csv"](CLEAN)})
    data = bytearray(path.read_bytes())
    data[60:70] = b"\0" * 10
    path.write_bytes(data)
    assert "a.zip!ratings.csv: damaged" in message(path)


def archive(method: int = zipfile.ZIP_DEFLATED, name: str = "ratings.csv") -> bytearray:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as opened:
        opened.writestr(zipfile.ZipInfo(name), HEADER + "1,2,3,978300760\n" * 500, method)
    return bytearray(buffer.getvalue())


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("place", [45, 50, 60])
def test_a_damaged_member_of_any_method(tmp_path: Path, method: int, place: int) -> None:
    content = archive(method)
    content[place : place + 8] = b"\xff" * 8
    assert "a.zip!ratings.csv: " in message(write(tmp_path / "a.zip", bytes(content)))


@pytest.mark.parametrize("name", ["r\u00e4tings.csv", "x\x1b[2J.csv" + "y" * 9000])
def test_a_zip_with_an_odd_name(tmp_path: Path, name: str) -> None:
    content = archive(name=name)
    directory = content.index(b"PK\x01\x02")
    content[directory + 47 : directory + 48] = b"\xff"  # no UTF-8 any more, where it was any
    told = message(write(tmp_path / "a.zip", bytes(content)))
    assert told.isprintable()
    assert len(told) < 1000


def test_a_zip_of_a_version_to_come(tmp_path: Path) -> None:
    content = archive()
    content[content.index(b"PK\x01\x02") + 6] = 99
    told = message(write(tmp_path / "a.zip", bytes(content)))
    assert "a.zip: is no readable zip archive (zip file version 9.9). Get it again." in told


def test_a_zip_bomb(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as opened,
        opened.open("ratings.csv", "w") as member,
    ):
        for _ in range(300):
            member.write(b"1,2,3,978300760\n" * (1 << 16))
    told = message(tmp_path / "a.zip")
    assert "a.zip!ratings.csv: 314,572,800 bytes packed into" in told


def test_a_parquet_bomb(tmp_path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(20_000_000, np.int8)), pa.array([978_300_760])
    )
    pq.write_table(pa.table(dict.fromkeys(CLEAN, column)), tmp_path / "a.parquet")
    assert "a.parquet: 20,000,000 rows in" in message(tmp_path / "a.parquet")


def test_parquet_of_text_that_is_none(tmp_path: Path) -> None:
    ends = pa.py_buffer(np.arange(4, dtype=np.int32))
    broken = pa.StringArray.from_buffers(3, ends, pa.py_buffer(b"a\xffb"))
    table = pa.Table.from_pandas(CLEAN).set_column(0, "user", broken)
    pq.write_table(table, tmp_path / "a.parquet")
    assert "a.parquet: is no readable Parquet file (" in message(tmp_path / "a.parquet")


def test_a_moment_beyond_the_calendar(tmp_path: Path) -> None:
    moments = pa.array([2**62] * 3, pa.timestamp("ms"))
    table = pa.Table.from_pandas(CLEAN).set_column(3, "timestamp", moments)
    pq.write_table(table, tmp_path / "a.parquet")
    told = message(tmp_path / "a.parquet")
    assert "row 1, column 'timestamp'" in told
    assert "4611686018427387904" in told


@pytest.mark.parametrize("row", ["1,2,\xff,978300760", "1,2,3,978300760,\xff"])
def test_the_line_that_is_no_utf_8(
    tmp_path: Path, row: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """pyarrow prints a traceback for each row with too many fields that it cannot decode."""
    content = f"{HEADER}1,2,3,978300760\n{row}\n".encode("latin-1")
    told = message(write(tmp_path / "a.csv", content))
    assert "a.csv, line 3: is no UTF-8 text (" in told
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf", b"\xef\xbb\xbf\n\n"])
def test_titles_of_nothing_but_a_mark(tmp_path: Path, content: bytes) -> None:
    write(tmp_path / "movies.csv", content)
    write(tmp_path / "ratings.csv", HEADER + "1,2,3,978300760\n")
    told = message(tmp_path / "ratings.csv")
    assert "movies.csv: the first line must name the columns, and item is missing" in told


def test_a_header_is_quoted_in_few_words(tmp_path: Path) -> None:
    told = message(write(tmp_path / "a.csv", ",".join(f"column{n}" for n in range(5000))))
    assert "'column1'" in told
    assert len(told) < 1200
