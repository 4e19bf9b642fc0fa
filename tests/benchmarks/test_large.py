"""The benchmark of what does not fit into memory, on what does."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks import large
from benchmarks.generated import Shape
from pipeline.data.large import memory


def test_the_parts_are_of_other_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "PART_ROWS", 5_000)
    large.write_parts(tmp_path / "r", Shape(20_000, 400, 500))
    parts = [pd.read_parquet(file) for file in sorted((tmp_path / "r").iterdir())]
    assert [len(part) for part in parts] == [5_000] * 4
    users = pd.concat([part["userId"].drop_duplicates() for part in parts])
    assert users.is_unique
    assert users.between(1, 400).all()


def test_it_tells_what_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "SAMPLE", 10)
    monkeypatch.setattr(large, "measure", lambda function, *given: Made(function(*given)))
    monkeypatch.setattr(large.resource, "setrlimit", lambda *_: None)
    monkeypatch.setattr(memory, "BYTES_PER_ROW", 10**9)
    monkeypatch.chdir(tmp_path)
    large.write_parts(tmp_path / "ratings", shape := Shape(40_000, 400, 1_000))
    found = large.report(tmp_path / "ratings", tmp_path, shape, 2**31, train=True)
    prepared, facts, epoch = (table.rows[0] for table in found.tables)
    assert prepared["rows"] == 40_000
    assert any("prepared on disk, by DuckDB" in note for note in found.notes)
    assert str(epoch["test users"]) == f"10 of {facts['test_users']:,} users"
    assert float(epoch["error"]) > 0


class Made:
    """What a call in this process gave, where its memory is not looked at."""

    seconds, before, peak = 1.0, 0, 2**30

    def __init__(self, result: object) -> None:
        self.result = result
