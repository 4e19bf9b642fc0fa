"""Tables as other people left them: what is found out, what is said of it, and what to say."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.data.raw.ratings import Ratings, read_ratings
from pipeline.data.raw.reading import Reading
from pipeline.errors import UserError
from tests.data.raw.test_ratings import message, parquet, write, zipped

ROWS = [(1, 10, 5, 978300760), (1, 20, 3.5, 978302109), (22, 10, 1, 978300761)]


def rows(separator: str, width: int = 4, header: str = "") -> str:
    lines = [header] if header else []
    return "\n".join([*lines, *(separator.join(map(str, row[:width])) for row in ROWS)]) + "\n"


def values(ratings: Ratings) -> list[tuple[float, ...]]:
    return list(ratings.table.itertuples(index=False, name=None))


# name, content, --columns, how many columns have been found, what is said
KINDS: dict[str, tuple[str, str, str | None, int, list[str]]] = {
    "Last.fm": (
        "user_artists.dat", rows("\t", 3, "userID\tartistID\tweight"), None, 3, ["has no times"],
    ),
    "no names": (
        "reviews.tsv", rows("\t"), None, 4,
        ["taken as 1 user, 2 item, 3 rating, 4 timestamp; --columns"],
    ),
    "semicolons": ("BX-Ratings.csv", rows(";", 4, '"User-ID";"ISBN";"Stars";"Date"'), None, 4, []),
    "pipes": ("r.txt", rows("|", 4, "visitorid|itemid|score|time"), None, 4, []),
    "blanks, no ending": (
        "out", rows(" ", 3), None, 3, ["1 user, 2 item, 3 rating;", "has no times"],
    ),
    "two columns": (
        "pairs.csv", rows(",", 2, "customer_id,product_id"), None, 2,
        ["has no ratings: every interaction counts 1", "has no times"],
    ),
    "typed": (
        "r.csv", rows(",", 4, "user_id:token,item_id:token,rating:float,timestamp:float"),
        None, 4, [],
    ),
    "other names": (
        "r.csv", rows(",", 4, "wer,was,wie,wann"),
        "user=wer,item=was,rating=wie,timestamp=wann", 4, [],
    ),
    "numbers": (
        "r.csv", "".join(f"x,{line}\n" for line in rows(",").splitlines()),
        "user=2,item=3,rating=4,timestamp=5", 4, ["taken as 2 user, 3 item"],
    ),
    "left out": (
        "r.csv", rows(",", 4, "user,item,rating,timestamp"), "rating=none,timestamp=none", 2,
        ["every interaction counts 1; not used: 'rating', 'timestamp'", "has no times"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_as_it_comes(kind: str, tmp_path: Path) -> None:
    name, content, columns, width, said = KINDS[kind]
    ratings = read_ratings(write(tmp_path / name, content), Reading(columns=columns))
    expected = [(*row[:width], *(1, 0)[width - 4 :]) if width < 4 else row for row in ROWS]
    assert values(ratings) == expected
    assert (ratings.rated, ratings.timed) == (width > 2, width > 3)
    told = [note for note in ratings.notes if "--columns" not in note or said]
    assert len(told) == len(said)
    for note, words in zip(told, said, strict=True):
        assert words in note
        assert name in note


@pytest.mark.parametrize(
    ("third", "fourth", "order"),
    [
        ("978300760", "", ["user", "item", "timestamp"]),
        ("978300760", ",4", ["user", "item", "timestamp", "rating"]),
        ("4", "", ["user", "item", "rating"]),
    ],
)
def test_seconds_are_no_ratings(third: str, fourth: str, order: list[str], tmp_path: Path) -> None:
    ratings = read_ratings(write(tmp_path / "r.csv", f"7,8,{third}{fourth}\n" * 3))
    told = ", ".join(f"{place} {name}" for place, name in enumerate(order, 1))
    assert told in ratings.notes[0]
    assert (ratings.rated, ratings.timed) == ("rating" in order, "timestamp" in order)


def test_of_two_names_the_first_is_taken_and_said(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", "user,item,plays,rating,ts\n1,2,300,4,978300760\n")
    ratings = read_ratings(path)
    assert values(ratings) == [(1, 2, 4, 978300760)]
    assert "the rating is 'rating'; 'plays' could be meant too: --columns rating=plays" in str(
        ratings.notes
    )
    assert values(read_ratings(path, Reading(columns="rating=plays"))) == [(1, 2, 300, 978300760)]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("user=nobody", "there is no column 'nobody', which --columns says is the user"),
        ("user=7", "there is no column '7'"),
        ("user", "'user' is not understood. Expected any of user, item, rating, timestamp"),
        ("item=none", "there is no column 'none'"),
        ("name=user", "'name=user' is not understood"),
    ],
)
def test_columns_that_are_not_there(columns: str, said: str, tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", rows(",", 4, "user,item,rating,ts"))
    with pytest.raises(UserError) as caught:
        read_ratings(path, Reading(columns=columns))
    assert said in str(caught.value)


def test_many_columns_without_names(tmp_path: Path) -> None:
    told = message(write(tmp_path / "r.csv", "1,2,3,4,5\n6,7,8,9,10\n"))
    assert "no line names its 5 columns" in told
    assert "--columns user=1,item=2,rating=3,timestamp=4" in told


def test_a_column_that_counts_the_rows_and_has_no_name(tmp_path: Path) -> None:
    lines = 4 * rows(",").splitlines()
    for start in (0, 1):
        text = "".join(f"{at},{line}\n" for at, line in enumerate(lines, start))
        ratings = read_ratings(write(tmp_path / "r.csv", text))
        assert values(ratings) == 4 * ROWS
        assert "taken as 2 user, 3 item, 4 rating, 5 timestamp;" in str(ratings.notes)
    twos = "".join(f"{2 * at},{line}\n" for at, line in enumerate(lines))
    assert "no line names its 5 columns" in message(write(tmp_path / "r.csv", twos))


def test_times_that_only_order(tmp_path: Path) -> None:
    ratings = read_ratings(write(tmp_path / "r.csv", "user,item,ts\n1,2,11\n1,3,1\n2,2,0\n"))
    assert ratings.table["timestamp"].tolist() == [11, 1, 0]
    assert ratings.timed
    assert "points in time of an unknown unit" in str(ratings.notes)
    told = message(write(tmp_path / "r.csv", "user,item,ts\n1,2,11\n1,3,x\n2,2,0\n"))
    assert "line 3, column 'ts': 'x', expected a point in time" in told


def test_a_few_early_times_are_bad_rows(tmp_path: Path) -> None:
    told = message(write(tmp_path / "r.csv", "user,item,ts\n1,2,978300760\n1,3,11\n"))
    assert "line 3, column 'ts': '11', expected seconds since 1970" in told


STEAM = {
    "steam/play.dat": "User_ID\tGame_ID\tHours\n1\t10\t3.5\n2\t11\t273\n",
    "steam/buy.dat": "User_ID\tGame_ID\tPurchase\n1\t10\t1\n",
    "steam/info.dat": "Game_ID\tGame Name\n10\tThe \"Best\n11\tFall, out\n12\tNobody's\n",
    "steam/README": "SUMMARY & LICENSE\n",
}


def test_several_tables(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "steam.zip", dict(STEAM))
    for name, content in STEAM.items():
        write(tmp_path / name, content)
    for path in (archive, tmp_path / "steam"):
        told = message(path)
        assert "several files could hold the ratings" in told
        assert "play.dat: User_ID, Game_ID, Hours" in told
        assert "--table buy" in told or "--table play" in told
        for table in ("play", "play.dat"):
            ratings = read_ratings(path, Reading(table=table))
            assert values(ratings) == [(1, 10, 3.5, 0), (2, 11, 273, 0)]
            assert ratings.items["title"].tolist() == ['The "Best', "Fall, out", "Nobody's"]
        with pytest.raises(UserError, match="no file is called 'playing', as --table says"):
            read_ratings(path, Reading(table="playing"))
    with pytest.raises(UserError, match="--table names nothing in it"):
        read_ratings(tmp_path / "steam/play.dat", Reading(table="play"))


def test_several_tables_of_unknown_names(tmp_path: Path) -> None:
    write(tmp_path / "one.csv", "a,b\nx,y\n")
    write(tmp_path / "two.csv", "c,d\nx,y\n")
    told = message(tmp_path)
    assert "--table one and its columns: --columns user=NAME,item=NAME" in told
    assert "two.csv: c, d" in told
    ratings = read_ratings(tmp_path, Reading(table="one", columns="user=a,item=b"))
    assert values(ratings) == [("x", "y", 1, 0)]
    assert values(read_ratings(tmp_path, Reading(columns="user=c,item=d"))) == values(ratings)


def test_the_only_table_with_users_and_items(tmp_path: Path) -> None:
    write(tmp_path / "user_artists.dat", rows("\t", 3, "userID\tartistID\tweight"))
    write(tmp_path / "artists.dat", "id\tname\turl\n10\tMALICE MIZER\thttp\n20\tBach\thttp\n")
    ratings = read_ratings(tmp_path)
    assert len(ratings.table) == 3
    assert ratings.items["title"].tolist() == ["MALICE MIZER", "Bach"]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("trainingset.tsv", "testset.tsv"), ("train.txt", "test.txt"),
        ("ml.train.inter", "ml.test.inter"), ("x_train.csv", "x_test.csv"),
    ],
)  # fmt: skip
def test_an_existing_split_by_other_names(train: str, test: str, tmp_path: Path) -> None:
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    for name in (train, test):
        write(tmp_path / name, rows("\t", 4, header if name.endswith("inter") else ""))
    ratings = read_ratings(tmp_path)
    assert ratings.held_out is not None
    assert len(ratings.held_out) == 3
    assert f"{train} and {test} are taken as a split that is there already" in ratings.notes[0]
    assert "not used" not in ratings.notes[0]
    third = train.replace("training", "validation").replace("train", "valid")
    write(tmp_path / third, rows("\t"))
    assert f"is there already; not used: {third}" in read_ratings(tmp_path).notes[0]


def test_halves_of_a_split_of_different_kinds(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", rows(","))
    write(tmp_path / "test.csv", rows(",", 3))
    assert "only one has any. Say with --columns" in message(tmp_path)
    ratings = read_ratings(tmp_path, Reading(columns="timestamp=none"))
    assert not ratings.timed


MOMENT = "2000-12-31T22:12:40"  # 978300760


@pytest.mark.parametrize(
    "moments",
    [
        [f"{MOMENT}Z", f"{MOMENT}Z"],
        [MOMENT, MOMENT.replace("T", " ")],
        ["2001-01-01T00:12:40+02:00", f"{MOMENT}.9"],
        ["978300760000", "978300760999"],
        ["978300760000000", "978300760999999"],
        ["978300760000000000", "978300760999000000"],
    ],
)
def test_dates_and_parts_of_seconds(moments: list[str], tmp_path: Path) -> None:
    text = "user,item,rating,date\n" + "".join(f"1,{n},5,{m}\n" for n, m in enumerate(moments))
    ratings = read_ratings(write(tmp_path / "r.csv", text))
    assert ratings.table["timestamp"].tolist() == [978300760, 978300760]
    parts = {12: "milliseconds", 15: "microseconds", 18: "nanoseconds"}
    told = f"its times are {parts.get(len(moments[0]))} since 1970" in str(ratings.notes)
    assert told == moments[0].isdigit()


def test_days(tmp_path: Path) -> None:
    for first, second in (("2014-07-21", "2014-07-22"), ('"07 21, 2014"', '"07 22, 2014"')):
        path = write(tmp_path / "r.csv", f"user,item,date\n1,2,{first}\n1,3,{second}\n")
        assert read_ratings(path).table["timestamp"].tolist() == [1405900800, 1405987200]
    told = message(write(path, "user,item,date\n1,2,2014-07-21\n1,3,2014-07-22\n1,4,21/07/14\n"))
    assert "line 4, column 'date': '21/07/14', expected a date such as 2014-07-21" in told


def test_a_column_that_cannot_be_read_at_all_can_be_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", "user,item,date\n1,2,21/07/14\n1,3,22/07/14\n")
    assert "Mend them, or go without this column: --columns timestamp=none." in message(path)
    assert not read_ratings(path, Reading(columns="timestamp=none")).timed
    some = write(tmp_path / "r.csv", "user,item,date\n1,2,21/07/14\n1,3,2014-07-22\n")
    assert "Mend them, or go without these rows: --on_bad_rows drop." in message(some)


def test_what_is_packed_without_an_ending_that_says_so(tmp_path: Path) -> None:
    for ending, pack in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        path = write(tmp_path / "r.csv", pack(HEADED.encode()))
        assert f"Call it r.csv{ending}." in message(path)
    assert "Call it a.csv.zip." in message(zipped(tmp_path / "a.csv", {"r.csv": HEADED}))
    assert "Save it as text in UTF-8" in message(
        write(tmp_path / "r.csv", HEADED.encode("utf-16-le"))
    )


HEADED = rows(",", 4, "user,item,rating,timestamp")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.csv.gz", gzip.compress(HEADED.encode(), mtime=0)),
        ("ratings.CSV.bz2", bz2.compress(HEADED.encode())),
        ("r.tsv.xz", lzma.compress(HEADED.replace(",", "\t").encode())),
        ("r.dat.gz", gzip.compress(rows("::").encode(), mtime=0)),
        ("r.csv", HEADED.encode("utf-16")),
        ("r.txt", "\ufeff".encode("utf-16-be") + HEADED.replace(",", "\t").encode("utf-16-be")),
        ("r.csv", HEADED.replace("\n", "\r\n").encode("utf-8-sig")),
        ("r.csv", rows(";", 4, "user;item;rating;timestamp").replace(".", ",").encode()),
        ("r.csv", rows(";").replace(".", ",").encode()),
        (
            "indexed.csv",
            "".join(f"{n or ''},{line}\n" for n, line in enumerate(HEADED.splitlines())).encode(),
        ),
    ],
)
def test_bytes_of_all_kinds(name: str, content: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "folder" / name, content)
    for source in (path, path.parent, zipped(tmp_path / "a.zip", {name: content})):
        assert values(read_ratings(source)) == ROWS


def test_a_parquet_file_without_ratings_and_times(tmp_path: Path) -> None:
    frame = pd.DataFrame({"index": [9, 8], "visitorid": ["a", "b"], "ASIN": ["x", "y"]})
    ratings = read_ratings(write(tmp_path / "r.parquet", parquet(frame)))
    assert values(ratings) == [("a", "x", 1, 0), ("b", "y", 1, 0)]
    assert "not used: 'index'" in str(ratings.notes)


def test_damaged_and_endless_compressed_files(tmp_path: Path) -> None:
    whole = gzip.compress(rows(",").encode() * 999)
    for content in (whole[: len(whole) // 2], b"no gzip at all", whole[:20] + b"xxxx" + whole[24:]):
        assert "r.csv.gz: damaged archive" in message(write(tmp_path / "r.csv.gz", content))
    path = tmp_path / "b.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for _ in range(300):
            stream.write(b"1,2,3,978300760\n" * (1 << 16))
    assert "b.csv.gz: unpacks without end from" in message(path)


STRANGERS = Path(os.environ.get("PIPELINE_DATA_DIR", "")) / "strangers"


@pytest.mark.skipif(not STRANGERS.is_dir(), reason="needs PIPELINE_DATA_DIR with strangers/")
@pytest.mark.parametrize(
    ("name", "table", "counted", "timed", "titles"),
    [
        ("epinions.tsv", None, 300_548, True, 0),
        ("lastfm-2k", None, 92_834, False, 17_632),
        ("steam.zip", "game_play", 70_489, False, 5_155),
        ("amazon-video-games", None, 28_483, True, 0),
    ],
)
def test_strangers(name: str, table: str | None, counted: int, timed: bool, titles: int) -> None:
    ratings = read_ratings(STRANGERS / name, Reading(table=table))
    assert ratings.counts == {"rows_read": counted, "bad_rows_dropped": 0}
    assert ratings.timed == timed
    assert ratings.rated
    assert (ratings.held_out is not None) == (name == "amazon-video-games")
    assert len(ratings.items) == titles
    assert ratings.table["user"].dtype == ratings.table["item"].dtype == np.int64
