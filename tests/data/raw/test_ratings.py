from __future__ import annotations

import csv
import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from pipeline.data.raw.ratings import read_ratings
from pipeline.data.raw.reading import Reading
from pipeline.errors import UserError

DROP = Reading(on_bad_rows="drop")
HEADER = "user_id,item_id,rating,timestamp\n"
CLEAN = pd.DataFrame(
    {
        "user": np.array([1, 1, 22], np.int64),
        "item": np.array([10, 20, 10], np.int64),
        "rating": np.array([5, 3.5, 1], np.float32),
        "timestamp": np.array([978300760, 978302109, 978300761], np.int64),
    }
)


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def zipped(path: Path, members: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def message(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_ratings(path)
    return str(caught.value)


def separated(frame: pd.DataFrame, separator: str, header: str | None) -> str:
    lines = [] if header is None else [header]
    lines += [separator.join(map(str, row)) for row in frame.itertuples(index=False)]
    return "\n".join(lines) + "\n"


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


TYPED = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
LAYOUTS: dict[str, Callable[[pd.DataFrame], str | bytes]] = {
    "ratings.csv": lambda frame: separated(frame, ",", HEADER.strip()),
    "mine.tsv": lambda frame: separated(frame, "\t", "\t".join(CLEAN)),
    "ratings.dat": lambda frame: separated(frame, "::", None),
    "u.data": lambda frame: separated(frame, "\t", None),
    "toy.inter": lambda frame: separated(frame, "\t", TYPED),
    "mine.parquet": parquet,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_read_alike_from_file_folder_and_zip(name: str, tmp_path: Path) -> None:
    content = LAYOUTS[name](CLEAN)
    alone = write(tmp_path / "folder" / name, content)
    archive = zipped(tmp_path / "a.zip", {f"deep/{name}": content, "deep/README": "hello"})
    for path in (alone, alone.parent, archive):
        ratings = read_ratings(path)
        assert_frame_equal(ratings.table, CLEAN)
        assert ratings.held_out is None
        assert ratings.items.empty
        assert list(ratings.items) == ["item", "title", "genres"]
        assert ratings.counts == {"rows_read": 3, "bad_rows_dropped": 0}


integers = st.integers(-(2**63), 2**63 - 1)
words = st.text("abcXYZ019_.-", min_size=1, max_size=6).filter(lambda text: text[0] in "abcXYZ")
frames = st.one_of(integers, words).flatmap(
    lambda first: st.lists(
        st.tuples(
            *[words if isinstance(first, str) else integers] * 2,
            st.floats(width=32, allow_nan=False, allow_infinity=False),
            st.integers(631_152_000, 1_700_000_000),
        ),
        min_size=1,
        max_size=20,
        unique_by=lambda row: row[:2],
    )
)


@pytest.mark.parametrize("name", LAYOUTS)
@settings(max_examples=25, deadline=None)
@given(rows=frames)
def test_every_layout_gives_back_what_was_written(
    name: str, rows: list[tuple[object, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    frame = pd.DataFrame(rows, columns=list(CLEAN)).astype({"rating": np.float32})
    path = write(tmp_path_factory.mktemp("t") / name, LAYOUTS[name](frame))
    assert_frame_equal(read_ratings(path).table, frame)


cells = st.sampled_from(["7", " 7 ", "u1", "", "x,y", 'say "hi"', "two\nlines", "nan", "3.5"])


@settings(max_examples=60, deadline=None)
@example(
    rows=[[*"777", " 7 ", "7"], *2 * [[*"77", " 7 "]], *2 * [["7", *2 * ['say "hi"']]]], ending="\n"
)
@given(
    rows=st.lists(
        st.one_of(st.lists(cells, min_size=5, max_size=5), st.lists(cells, max_size=6)), max_size=9
    ),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_bad_rows_are_the_same_whether_reported_or_dropped(
    rows: list[list[str]], ending: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The line of every bad row, against Python's csv module and the rules applied by hand."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator=ending)
    writer.writerow(["note", *HEADER.strip().split(",")])
    writer.writerow(["", "good", "1", "1", "978300760"])
    line, bad = 3, []
    for row in rows:
        fields = [*row[:4], "978300760"] if len(row) == 5 else row
        start = buffer.tell()
        writer.writerow(fields)
        written = buffer.getvalue()[start:]
        if written != ending:
            names = [cell.strip() for cell in fields]
            good = len(fields) == 5 and names[1] and names[2] and names[3] in ("7", "3.5")
            bad += [] if good else [line]
        line += written.count("\n")
    path = write(tmp_path_factory.mktemp("t") / "r.csv", buffer.getvalue())
    dropped = read_ratings(path, DROP)
    assert dropped.counts["bad_rows_dropped"] == len(bad)
    read = dropped.counts["rows_read"]
    assert read == 1 + sum(len(row) > 0 for row in rows)
    assert len(dropped.table) == read - len(bad)
    if bad:
        text = message(path)
        assert f"{len(bad)} of {read} rows" in text
        assert f"line {bad[0]}" in text.splitlines()[1]
        told = re.findall(r"r\.csv, line (\d+)", text)
        assert {int(line) for line in told} <= set(bad)
    else:
        assert_frame_equal(read_ratings(path).table, dropped.table)


def test_names_of_columns(tmp_path: Path) -> None:
    text = " UserId ,MovieID,Value,extra,TS\n 7 , a b ,4,zzz, 978300760 \n"
    table = read_ratings(write(tmp_path / "r.csv", "\ufeff" + text)).table
    assert table.to_dict("list") == {
        "user": [7],
        "item": ["a b"],
        "rating": [4.0],
        "timestamp": [978300760],
    }
    assert table["user"].dtype == np.int64


def test_ids_that_are_no_plain_integers_stay_text(tmp_path: Path) -> None:
    rows = "007,1,1,978300760\n7,2,1,978300760\n0x7,3,1,978300760\n"
    table = read_ratings(write(tmp_path / "r.csv", HEADER + rows)).table
    assert table["user"].tolist() == ["007", "7", "0x7"]
    assert table["item"].tolist() == [1, 2, 3]


def test_double_colons_wherever_the_reads_end(tmp_path: Path) -> None:
    """Single colons belong to ids; the separator is found across the borders of blocks."""
    rows = [f"{'u' * (i % 7)}:{i}::i{i}::1::978300760" for i in range(60_000)]
    table = read_ratings(write(tmp_path / "ratings.dat", "\n".join(rows))).table
    assert table["user"].tolist() == [row.split("::")[0] for row in rows]
    assert table["timestamp"].eq(978300760).all()


def test_parquet_dates_categories_and_whole_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "uid": pd.Categorical(["b", "a"]),
            "iid": np.array([3, 4], np.uint8),
            "score": np.array([1, 2], np.int16),
            "time": pd.to_datetime(
                ["2000-12-31 22:12:40.9", "2001-01-01 00:00:00"], format="ISO8601"
            ).tz_localize("UTC"),
        }
    )
    table = read_ratings(write(tmp_path / "r.parquet", parquet(frame))).table
    assert table["user"].tolist() == ["b", "a"]
    assert table["item"].dtype == np.int64
    assert table["timestamp"].tolist() == [978300760, 978307200]


def test_rows_of_the_same_pair_stay(tmp_path: Path) -> None:
    """Which of them counts depends on the split."""
    rows = ["1,1,1,978300900", "1,1,2,978300800", "2,1,3,978300700"]
    ratings = read_ratings(write(tmp_path / "r.csv", HEADER + "\n".join(rows)))
    assert ratings.table["rating"].tolist() == [1, 2, 3]
    assert ratings.counts == {"rows_read": 3, "bad_rows_dropped": 0}


# The same item in every way that titles come in.
TITLES: dict[str, dict[str, str | bytes]] = {
    "dat": {
        "ratings.dat": "1::10::5::978300760\n",
        "movies.dat": "10::Misérables, Les (1995)::Drama|Musical\n11::Other::War\n".encode(
            "latin-1"
        ),
    },
    "csv": {
        "ratings.csv": "userId,movieId,rating,timestamp\n1,10,5,978300760\n",
        "movies.csv": (
            'movieId,title,genres\n10,"Misérables, Les (1995)",Drama|Musical\n11,Other,War\n'
        ),
    },
    "u": {
        "u.data": "1\t10\t5\t978300760\n",
        "u.item": (
            "10|Misérables, Les (1995)|01-Jan-1995||http://x|0|0|0|0|0|0|0|0|1|0|0|0|1|0|0|0|0|0|0\n"
            "11|Other|01-Jan-1995||http://x|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|1|0\n"
        ).encode("latin-1"),
        "u1.base": "1\t10\t5\t978300760\n",
    },
    "recbole": {
        "x.inter": f"{TYPED}\n1\t10\t5\t978300760\n",
        "x.item": (
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
            "10\tMisérables, Les (1995)\t1995\tDrama Musical\n11\tOther\t1995\tWar\n"
        ),
    },
}


@pytest.mark.parametrize("layout", TITLES)
def test_titles_beside_the_ratings(layout: str, tmp_path: Path) -> None:
    for name, content in TITLES[layout].items():
        write(tmp_path / "folder" / name, content)
    archive = zipped(tmp_path / "x.zip", {f"x/{k}": v for k, v in TITLES[layout].items()})
    ratings_file = tmp_path / "folder" / next(iter(TITLES[layout]))
    for path in (archive, tmp_path / "folder", ratings_file):
        items = read_ratings(path).items
        assert items.to_dict("list") == {
            "item": [10, 11],
            "title": ["Misérables, Les (1995)", "Other"],
            "genres": ["Drama|Musical", "War"],
        }


def test_titles_only_of_ids_of_the_same_kind_and_once(tmp_path: Path) -> None:
    write(tmp_path / "ratings.csv", HEADER + "1,10,5,978300760\n")
    write(tmp_path / "movies.csv", "item,title\nx,No\n10,First\n10,Second\n,Nameless\n")
    assert read_ratings(tmp_path).items.to_dict("list") == {
        "item": [10],
        "title": ["First"],
        "genres": [""],
    }


def test_broken_titles_are_told(tmp_path: Path) -> None:
    write(tmp_path / "ratings.csv", HEADER + "1,10,5,978300760\n")
    write(tmp_path / "movies.csv", "item,title,genres\n10,First,War\n11,Toy, Story,War\n")
    text = message(tmp_path)
    assert "movies.csv, line 3: 4 fields, expected 3" in text


def test_existing_split_is_taken_as_it_is(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", HEADER + "1,10,5,978300760\n1,10,4,978300761\n2,10,1,978300760\n")
    write(tmp_path / "test.csv", HEADER + "1,10,3,978300799\nu9,11,3,978300799\n")
    write(tmp_path / "meta.json", json.dumps({"quantile": 0.8}))
    ratings = read_ratings(tmp_path)
    assert ratings.held_out is not None
    assert ratings.table["user"].tolist() == ["1", "1", "2"]  # text, as one id of the test is
    assert ratings.held_out["user"].tolist() == ["1", "u9"]
    assert ratings.held_out["item"].tolist() == [10, 11]
    assert ratings.counts == {"rows_read": 5, "bad_rows_dropped": 0}


def test_zip_in_a_folder(tmp_path: Path) -> None:
    zipped(tmp_path / "x.zip", {"ratings.csv": LAYOUTS["ratings.csv"](CLEAN)})
    assert_frame_equal(read_ratings(tmp_path).table, CLEAN)


def test_table_can_be_changed(tmp_path: Path) -> None:
    table = read_ratings(write(tmp_path / "ratings.csv", LAYOUTS["ratings.csv"](CLEAN))).table
    table.loc[0, ["rating", "timestamp"]] = [1, 2]
    assert table.iloc[0].tolist() == [1, 10, 1, 2]


def test_movielens_1m() -> None:
    folder = os.environ.get("PIPELINE_DATA_DIR")
    if not folder or not (path := Path(folder) / "ml-1m.zip").exists():
        pytest.skip("needs PIPELINE_DATA_DIR with ml-1m.zip")
    ratings = read_ratings(path)
    assert ratings.counts == {"rows_read": 1_000_209, "bad_rows_dropped": 0}
    assert ratings.table["user"].nunique() == 6040
    assert ratings.table["item"].nunique() == 3706
    assert ratings.table.iloc[0].tolist() == [1, 1193, 5, 978300760]
    assert len(ratings.items) == 3883
    titles = ratings.items.set_index("item")
    assert titles.loc[73].tolist() == ["Misérables, Les (1995)", "Drama|Musical"]
    assert (titles != "").all().all()
