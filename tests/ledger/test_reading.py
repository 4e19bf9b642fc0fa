"""The notebook's ledger: what is read, repaired and left out; names; the real file."""

from __future__ import annotations

import csv
import io
import os
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.ledger.names import read_name
from pipeline.ledger.reading import LEDGER, read_ledger
from tests.ledger.ledgers import (
    GOOD,
    HEADER,
    LAST,
    METRICS,
    MOMENT,
    SECOND,
    VALUES,
    read_one,
    write,
)


def left_out(path: Path) -> str:
    """The problem of the only row that cannot be read, where others can."""
    ledger = read_ledger([path])
    assert [row.name for row in ledger.rows] == ["slim_alpha_0.4"]
    (problem,) = ledger.left_out
    return problem


def test_a_row_is_read_to_the_letter(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    row = read_one(path)
    assert row.name == "ease_lambda=5"
    assert row.key == "ease_lambda=5 20240102_030405"
    assert row.time == MOMENT
    assert row.metrics == {
        f"{name}_at_10": Decimal(text)
        for name, text in zip(METRICS, VALUES.split(","), strict=True)
    }
    assert row.repairs == []
    assert row.where == f"{path}, line 2"
    assert (row.raw_name, row.raw) == ("row.csv", path.read_bytes())


def test_digits_are_kept_for_the_audit(tmp_path: Path) -> None:
    row = read_one(write(tmp_path, GOOD.replace("0.125", "0.125000")))
    assert str(row.metrics["coverage_at_10"]) == "0.125000"


def test_other_lengths_of_lists(tmp_path: Path) -> None:
    header = "model_name,ndcg@5,ndcg@20,seconds,timestamp"
    row = read_one(write(tmp_path, "x,0.1,0.2,33,20240102_030405", header=header))
    assert row.metrics == {"ndcg_at_5": Decimal("0.1"), "ndcg_at_20": Decimal("0.2")}
    assert row.time == SECOND
    assert row.repairs == []  # there is no evaluation_date to repair


def test_times_with_a_zone_are_converted(tmp_path: Path) -> None:
    row = read_one(write(tmp_path, GOOD.replace("05.678901", "05.678901-02:00")))
    assert row.time == MOMENT.replace(hour=5)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_endings_bom_and_blank_lines(tmp_path: Path, end: str) -> None:
    path = write(tmp_path, "", GOOD, "", LAST, header="\ufeff" + HEADER, end=end)
    first, second = read_ledger([path]).rows
    assert (first.where, second.where) == (f"{path}, line 3", f"{path}, line 5")
    assert first.raw.decode() == f"\ufeff{HEADER}{end}{GOOD}{end}"


def test_last_line_without_ending(tmp_path: Path) -> None:
    path = tmp_path / "made.csv"
    path.write_text(f"{HEADER}\n{GOOD}")
    assert read_one(path).metrics["ndcg_at_10"] == Decimal("0.35")


@pytest.mark.parametrize(
    ("date", "time"),
    [
        ('"2024-01-02T03:04:05.678901,,,,,,,,,"', MOMENT),
        ("2024-01-02T03:04:05.678901,,,,,,,,,", MOMENT),
        ('",,2024-01-02T03:04:05.678901,"', MOMENT),
        ('"2024-01-02,T03:04:05.678901"', MOMENT),
        ("", SECOND),
        ('",,,"', SECOND),
        ("2024-01-", SECOND),
        ("NaT", SECOND),
    ],
)
def test_damaged_dates_are_repaired_and_told(tmp_path: Path, date: str, time: datetime) -> None:
    row = read_one(write(tmp_path, GOOD.replace("2024-01-02T03:04:05.678901", date)))
    assert row.time == time
    assert row.key == "ease_lambda=5 20240102_030405"
    (repair,) = row.repairs
    assert "evaluation_date" in repair
    assert time.isoformat() in repair
    assert ("taken from timestamp" in repair) == (time == SECOND)


def test_the_date_and_its_comma_are_missing(tmp_path: Path) -> None:
    row = read_one(write(tmp_path, GOOD.rpartition(",")[0]))
    assert row.time == SECOND
    assert row.repairs == [
        "evaluation_date is empty: 2024-01-02T03:04:05+00:00 taken from timestamp"
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("ease_lambda=5,0.75,0.3", "3 fields where the header has 9"),
        (GOOD.replace("0.75", "0.75,0.75"), "10 fields where the header has 9"),
        (GOOD.replace("0.75", "0,75"), "10 fields where the header has 9"),
        (GOOD.replace("0.35", "high"), "ndcg@10 is 'high', expected a number"),
        (GOOD.replace("0.35", "nan"), "ndcg@10 is 'nan', expected a number"),
        (GOOD.replace("0.35", ""), "ndcg@10 is '', expected a number"),
        (GOOD.replace("0.35", "0.3_5"), "ndcg@10 is '0.3_5', expected a number"),
        (GOOD.replace("0.35", "1.35"), "ndcg@10 is 1.35, expected a number from 0 to 1"),
        (GOOD.replace("0.35", "-0.35"), "ndcg@10 is -0.35, expected a number from 0 to 1"),
        (f"ease,{VALUES},,", "there is no date: evaluation_date is '', timestamp is ''"),
        (f"ease,{VALUES},20249999_030405,x", "there is no date: evaluation_date is 'x'"),
        (f",{VALUES},20240102_030405,", "model_name is empty"),
        (HEADER, "hit_rate@10 is 'hit_rate@10', expected a number"),
    ],
)
def test_a_bad_row_is_left_out_with_its_line(tmp_path: Path, line: str, problem: str) -> None:
    path = write(tmp_path, line, LAST)
    assert left_out(path).startswith(f"{path}, line 2: {problem}")


def test_a_line_that_is_no_utf8(tmp_path: Path) -> None:
    path = write(tmp_path, LAST)
    path.write_bytes(path.read_bytes() + GOOD.replace("ease", "\xe9").encode("latin-1"))
    assert f"{path}, line 3: this is no line of UTF-8 text" in left_out(path)


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("user,item,rating", "expected the columns of the notebook's ledger, model_name and metr"),
        ("model_name,rmse", "but found: model_name, rmse"),
        (f"{HEADER},ndcg@10", "there are several columns 'ndcg@10'"),
    ],
)
def test_a_file_that_is_no_ledger(tmp_path: Path, header: str, problem: str) -> None:
    path = write(tmp_path, header=header)
    with pytest.raises(UserError, match=re.escape(problem)) as caught:
        read_ledger([path])
    assert f"{path}, line 1" in str(caught.value)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    for path, problem in (
        (tmp_path / "none.csv", r"none\.csv: this cannot be read: No such file"),
        (tmp_path / "ledger.xls", r"ledger\.xls: expected a \.csv or \.json file"),
        (tmp_path, f"this folder has no {LEDGER} and no NAME_TIMESTAMP.json"),
    ):
        with pytest.raises(UserError, match=problem):
            read_ledger([path])


SHARE = st.decimals(0, 1, places=6)
WORD = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"]), min_size=1)
ANY_TIME = st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1))


@given(name=WORD, values=st.lists(SHARE, min_size=6, max_size=6), time=ANY_TIME)
@settings(max_examples=100)
def test_reading_what_was_written_gives_the_values_back(
    tmp_path_factory: pytest.TempPathFactory, name: str, values: list[Decimal], time: datetime
) -> None:
    text = io.StringIO()
    cells = [name, *map(str, values), time.strftime("%Y%m%d_%H%M%S"), time.isoformat()]
    csv.writer(text, lineterminator="").writerow(cells)
    row = read_one(write(tmp_path_factory.mktemp("ledger"), text.getvalue()))
    assert (row.name, row.time) == (name, time.replace(tzinfo=UTC))
    assert list(row.metrics.values()) == values
    assert row.repairs == []


@given(
    place=st.integers(0, len("2024-01-02T03:04:05.678901")),
    removed=st.integers(0, 26),
    damage=st.text(st.sampled_from(",;\"' \t\r\n\\0.Tx-:é"), max_size=12),
    quoted=st.booleans(),
)
@settings(max_examples=300)
def test_damage_in_the_date_changes_no_metric_and_no_other_row(
    tmp_path_factory: pytest.TempPathFactory, place: int, removed: int, damage: str, quoted: bool
) -> None:
    date = GOOD.rpartition(",")[2]
    damaged = date[:place] + damage + date[place + removed :]
    line = GOOD.replace(date, f'"{damaged}"' if quoted else damaged)
    rows = read_ledger([write(tmp_path_factory.mktemp("ledger"), line, LAST)]).rows
    assert [row.name for row in rows][-1] == "slim_alpha_0.4"
    for row in rows:
        assert [str(value) for value in row.metrics.values()] == VALUES.split(",")
    assert rows[-1].repairs == []
    assert [row.key for row in rows[:-1]] in ([], ["ease_lambda=5 20240102_030405"])
    if not {"\r", "\n"} & set(damage):
        assert len(rows) == 2  # the timestamp is whole, so the row can always be dated


def test_the_notebooks_ledger() -> None:
    folder = os.environ.get("PIPELINE_DATA_DIR")
    if not folder or not (Path(folder) / LEDGER).is_file():
        pytest.skip(f"there is no {LEDGER} in PIPELINE_DATA_DIR, the folder of the data")
    ledger = read_ledger([Path(folder) / LEDGER])
    assert ledger.left_out == []
    assert len(ledger.rows) == 10
    assert [len(row.repairs) for row in ledger.rows] == [1] * 7 + [0] * 3
    assert all("stray commas" in row.repairs[0] for row in ledger.rows[:6])
    assert ledger.rows[6].repairs == [
        "evaluation_date is empty: 2025-12-14T17:11:41+00:00 taken from timestamp"
    ]
    assert all(read_name(row.name).experiment for row in ledger.rows)


def test_a_name_that_no_file_has(tmp_path: Path) -> None:
    for name in ("n" * 300, "n" * 300 + ".csv"):
        with pytest.raises(UserError, match=r"expected a \.csv|cannot be read"):
            read_ledger([tmp_path / name])
