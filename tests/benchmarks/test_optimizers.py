from __future__ import annotations

import pytest

from benchmarks.device import PLAN, Size
from benchmarks.optimizers import auto, report


def test_an_epoch_is_reckoned_from_its_steps() -> None:
    sizes = [Size(60, 40, 4 * PLAN.batch_size), Size(120, 80, 8 * PLAN.batch_size)]
    found = report(sizes, steps=2, rounds=1)
    (table,) = found.tables
    assert [row["users"] for row in table.rows] == [60, 120]
    for row, steps in zip(table.rows, (4, 8), strict=True):
        for name in ("adam", "lazy_adam"):
            assert row[f"{name}, epoch [s]"] == pytest.approx(
                steps * row[f"{name}, step [ms]"] / 1e3
            )
        times = row["adam, epoch [s]"] / row["lazy_adam, epoch [s]"]
        assert row["times as fast"] == pytest.approx(times)
    assert [row["auto"] for row in table.rows] == ["adam", "adam"]
    assert len(found.bars) == 2


def test_what_auto_takes() -> None:
    assert auto(Size(50_000, 12_000, 100)) == "lazy_adam"
