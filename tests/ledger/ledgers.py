"""Ledgers of few rows, as the notebook writes them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from pipeline.ledger.reading import LedgerRow, read_ledger

METRICS = ("hit_rate", "precision", "recall", "ndcg", "map", "coverage")
HEADER = ",".join(["model_name", *(f"{m}@10" for m in METRICS), "timestamp", "evaluation_date"])
VALUES = "0.75,0.3,0.05,0.35,0.25,0.125"
GOOD = f"ease_lambda=5,{VALUES},20240102_030405,2024-01-02T03:04:05.678901"
MOMENT = datetime(2024, 1, 2, 3, 4, 5, 678901, UTC)
SECOND = MOMENT.replace(microsecond=0)
LAST = f"slim_alpha_0.4,{VALUES},20240203_040506,2024-02-03T04:05:06"


def write(folder: Path, *lines: str, header: str = HEADER, end: str = "\n") -> Path:
    """A ledger of these lines."""
    path = folder / "made.csv"
    path.write_bytes(end.join([header, *lines, ""]).encode())
    return path


def read_one(path: Path) -> LedgerRow:
    """Its only row."""
    ledger = read_ledger([path])
    assert ledger.left_out == []
    (row,) = ledger.rows
    return row


def write_json(folder: Path, name: str = "ease_20240102_030405.json", **fields: object) -> Path:
    """A row in a file of its own."""
    path = folder / name
    path.write_text(json.dumps(fields))
    return path
