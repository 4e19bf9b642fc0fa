"""Rows that lie in JSON files of their own."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.ledger.reading import LEDGER, read_ledger
from tests.ledger.ledgers import LAST, MOMENT, SECOND, read_one, write, write_json


def test_json_files_have_the_same_fields(tmp_path: Path) -> None:
    path = write_json(
        tmp_path,
        model_name="ease_lambda=5",
        evaluation_date="2024-01-02T03:04:05.678901",
        timestamp="20240102_030405",
        config={"lambda": 5},
        n_users=836,
        **{"ndcg@10": 0.12345678901234567, "coverage@10": 1e-3},
    )
    row = read_one(path)
    assert row.key == "ease_lambda=5 20240102_030405"
    assert (row.time, row.repairs, row.where) == (MOMENT, [], str(path))
    assert row.metrics["ndcg_at_10"] == Decimal(repr(0.12345678901234567))
    assert row.metrics["coverage_at_10"] == Decimal("0.001")
    assert row.counts == {"n_users": 836}
    assert (row.raw_name, row.raw) == ("row.json", path.read_bytes())


def test_a_json_file_tells_name_and_time_in_its_own_name(tmp_path: Path) -> None:
    row = read_one(write_json(tmp_path, "NCF_BPR_20240102_030405.json", **{"ndcg@10": 0.5}))
    assert (row.name, row.time) == ("NCF_BPR", SECOND)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{\n,", ", line 2: this is no JSON"),
        ("[1]", ": expected one JSON object"),
        ("{}", ": there is no metric such as ndcg@10"),
        ('{"ndcg@10": true}', ": ndcg@10 is True, expected a number"),
        ('{"ndcg@10": NaN}', ": ndcg@10 is 'NaN', expected a number"),
        ('{"ndcg@10": 0.5, "model_name": 3.5e1}', None),
    ],
)
def test_json_files_that_cannot_be_read(tmp_path: Path, text: str, problem: str | None) -> None:
    path = write_json(tmp_path)
    path.write_text(text)
    expected = [] if problem is None else [f"{path}{problem}"]
    told = read_ledger([path]).left_out
    assert [line[: len(start)] for line, start in zip(told, expected, strict=True)] == expected


def test_a_folder_holds_the_ledger_and_json_files(tmp_path: Path) -> None:
    write(tmp_path, LAST).rename(tmp_path / LEDGER)
    write_json(tmp_path, **{"ndcg@10": 0.5})
    write_json(tmp_path, "settings.json", lr=0.1)
    assert [row.name for row in read_ledger([tmp_path]).rows] == ["slim_alpha_0.4", "ease"]


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"model_name": ' + b"[" * 900 + b"]" * 900 + b', "ndcg@10": 0.5}',
        b'{"model_name": "\\ud800", "ndcg@10": 0.5}',
        b'{"model_name": "a\\u0000b", "ndcg@10": 0.5}',
        b'{"model_name": "' + b"n" * 300 + b'", "ndcg@10": 0.5}',
        b'{"model_name": "slim", "ndcg@10": [' + b"0.5, " * 9000 + b"1]}",
        b'{"model_name": "slim", "ndcg@10": 0.5, "timestamp": "' + b"x" * 9000 + b'"}',
        b"\xff",
    ],
)
def test_a_json_file_of_anything_is_left_out_in_few_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "slim.json").write_bytes(content)
    (told,) = read_ledger([tmp_path / "slim.json"]).left_out
    assert told.startswith(f"{tmp_path / 'slim.json'}")
    assert told.isprintable()
    assert len(told) < 800


def test_a_count_that_no_catalogue_has(tmp_path: Path) -> None:
    write_json(tmp_path, "slim_20240102_030405.json", **{"ndcg@10": 0.5, "model_name": "slim"})
    file = tmp_path / "slim_20240102_030405.json"
    file.write_text(file.read_text().replace("{", '{"n_items": ' + "9" * 5000 + ",", 1))
    (row,) = read_ledger([file]).rows
    assert row.counts == {}
