"""Generated ratings have the shape they should; the benchmark prepares and loads one dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import preparation
from benchmarks.generated import Shape, generate, write
from pipeline.data.dataset import Dataset
from pipeline.data.raw.ratings import read_ratings
from pipeline.data.split_settings import COLD, LOW_ACTIVITY, WARM, SplitSettings
from pipeline.errors import UserError

SHAPE = Shape(12_000, 150, 1_000)


def test_generated_ratings_are_as_many_as_asked_and_no_pair_comes_twice() -> None:
    made = generate(SHAPE, np.random.default_rng(0))
    assert len(made.users) == len(made.items) == len(made.ratings) == 12_000
    pairs = pd.DataFrame({"user": made.users, "item": made.items})
    assert not pairs.duplicated().any()
    assert 0 <= made.users.min() <= made.users.max() < 150
    assert 0 <= made.items.min() <= made.items.max() < 1_000
    assert set(made.ratings) <= set(np.arange(1, 11) / 2)
    assert (np.diff(made.timestamps) >= 0).all()


def test_generated_ratings_are_unevenly_spread() -> None:
    made = generate(SHAPE, np.random.default_rng(0))
    for part, count in ((made.users, 150), (made.items, 1_000)):
        share = np.sort(np.bincount(part, minlength=count))[-count // 10 :].sum() / 12_000
        assert share > 0.25  # of the ratings belong to a tenth


def test_the_seed_decides_what_is_generated() -> None:
    one, same, other = (generate(SHAPE, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.items, same.items)
    np.testing.assert_array_equal(one.timestamps, same.timestamps)
    assert (one.items != other.items).any()


def test_what_is_too_dense_is_refused() -> None:
    with pytest.raises(ValueError, match="denser"):
        generate(Shape(2_000, 10, 1_000), np.random.default_rng(0))


def test_generated_ratings_can_be_read_and_split(tmp_path: Path) -> None:
    made = generate(SHAPE, np.random.default_rng(0))
    made.write_csv(file := tmp_path / "ratings.csv")
    read = read_ratings(file)
    assert read.counts == {
        "rows_read": 12_000,
        "bad_rows_dropped": 0,
    }
    np.testing.assert_array_equal(read.table["user"], made.users + 1)
    np.testing.assert_array_equal(read.table["timestamp"], made.timestamps)
    dataset = Dataset.from_ratings("made", read.table, read.items, SplitSettings())
    for segment in (WARM, LOW_ACTIVITY, COLD):
        assert len(dataset.segments[segment].users) > 0


def test_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str) -> None:
        raise UserError(f"{name} could not be had.")

    monkeypatch.setattr(preparation, "find", nowhere)
    found = preparation.report(SHAPE, rounds=2)
    (row,) = found.tables[0].rows
    assert (row["ratings"], row["rows"]) == ("generated.csv", 12_000)
    assert len(str(row["fingerprint"])) == 16
    assert len(found.bars) == 2  # MovieLens-1M's are left out, and a note says so
    assert "could not be had" in found.notes[-1]


def test_figures_are_of_the_dataset_that_the_file_makes(tmp_path: Path) -> None:
    write(file := tmp_path / "small.csv", SHAPE)
    row = preparation.figures(file, tmp_path, rounds=1)
    ratings = read_ratings(file)
    dataset = Dataset.from_ratings("small", ratings.table, ratings.items, SplitSettings())
    assert row["fingerprint"] == dataset.fingerprint
    assert float(row["stored [MiB]"]) > 0.05
