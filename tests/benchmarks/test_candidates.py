from __future__ import annotations

import pytest

from benchmarks import candidates
from benchmarks.candidates import Found


def test_both_ways_are_compared_on_a_small_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "USERS", 300)
    found = candidates.compare(1000)
    assert min(found.exact, found.by_index, found.build) > 0
    assert found.first <= 1
    assert found.recall > 0.98  # of all 300, of whom 200 were looked at
    assert 64 <= found.width <= 1024


def test_an_index_pays_where_it_is_faster() -> None:
    row = candidates.row(10**6, Found(100.0, 60.0, 2**20, 0.9, 0.99, 128, 1000.0))
    assert row["pays from [users]"] == round(60 / (0.01 - 0.001))
    assert row["times as fast"] == 10
    assert candidates.row(10, Found(100.0, 1.0, 0, 1.0, 1.0, 64, 50.0))["pays from [users]"] == "-"
