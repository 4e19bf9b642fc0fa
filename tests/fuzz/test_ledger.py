"""Damaged ledgers: rows that can be read are, the others are told; never a crash."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger.names import read_name
from pipeline.ledger.reading import read_ledger
from tests.fuzz.damage import LONGEST, damaged, fuzzed, read_or_refused
from tests.ledger.ledgers import GOOD, HEADER

CSV = f"{HEADER},n_items,n_users\n{GOOD},3000,500\n"
JSON = (
    '{"model_name": "slim", "ndcg@10": 0.25, "hit_rate@10": 5e-1, "n_items": 3000, "n_users": 500,'
    '\n "timestamp": "20240102_030405", "evaluation_date": "2024-01-02T03:04:05.678901"}'
)
WORDS = [b"NaN", b"Infinity", b"1e999999999", b"@10", b"9999-12-31T23:59:59-23:59", b"_a" * 2000]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ledger")


@pytest.mark.parametrize(
    ("name", "content"), [("ledger.csv", CSV), ("slim_20240102_030405.json", JSON)]
)
@fuzzed(300)
@given(data=st.data())
def test_a_ledger(folder: Path, name: str, content: str, data: st.DataObject) -> None:
    file = folder / name
    file.write_bytes(data.draw(damaged(content.encode(), WORDS)))
    with read_or_refused(file):
        ledger = read_ledger([file])
        for told in ledger.left_out:
            assert told.startswith(str(file))
            assert len(told) < LONGEST
            assert told.isprintable()
        for row in ledger.rows:
            assert row.key.startswith(row.name)
            assert not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in row.key)
            assert all(0 <= value <= 1 for value in row.metrics.values())
            assert all(0 < count < 2**63 for count in row.counts.values())
            assert row.time.year >= 1970
            read_name(row.name)
