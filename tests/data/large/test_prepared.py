"""When a dataset is prepared on disk, what is told then, and what is left of it when it fails."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from pandas.testing import assert_frame_equal

from pipeline.data import prepared as module
from pipeline.data.dataset import ALL
from pipeline.data.large import memory
from pipeline.data.prepared import Prepared, load, prepare
from pipeline.data.raw.files import Part, TableFiles
from pipeline.data.raw.reading import Reading
from pipeline.data.split_settings import SplitSettings
from pipeline.data.stored import StoredDataset
from pipeline.data.windows import window_of
from pipeline.errors import UserError
from pipeline.models.base import Recommender
from pipeline.models.ncf import NCF, NCFSettings
from pipeline.models.popularity import MostPopular
from pipeline.models.regression import EASE, EASESettings
from pipeline.settings import Settings
from pipeline.training.parts import interactions_of
from pipeline.training.trainer import TrainingSettings

ROOT = Path(__file__).parents[3]
SPLIT = SplitSettings()
# Every row is said to take a gigabyte.
LARGE = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pipeline.data.large import memory
memory.BYTES_PER_ROW = 10**9
from pipeline.data.prepared import prepare
from pipeline.data.split_settings import SplitSettings
from pipeline.errors import UserError
from pipeline.mishaps import explain
"""
KILLED = """
from pipeline.data.large import preparation
preparation._written = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
prepare("ratings.csv", SplitSettings())
"""
TOLD = """
try:
    prepare("ratings.csv", SplitSettings())
except Exception as error:
    print(error if isinstance(error, UserError) else explain(error))
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratings: pd.DataFrame) -> Path:
    monkeypatch.chdir(tmp_path)
    ratings.to_csv("ratings.csv", index=False)
    return tmp_path


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "BYTES_PER_ROW", 10**9)


def run(here: Path, program: str, *, file_bytes: int = resource.RLIM_INFINITY) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", LARGE + program, str(ROOT)],
        cwd=here,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes)),
    )
    return done.returncode, done.stdout + done.stderr


def left() -> list[str]:
    return sorted(path.name for path in module.home().iterdir())


def test_what_does_not_fit_is_prepared_on_disk_and_is_the_same(
    monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    monkeypatch.setattr(memory, "BYTES_PER_ROW", 10**9)
    made = prepare("ratings.csv", SPLIT)
    assert isinstance(made.dataset, StoredDataset)
    files = ["items", "later", "meta", "train", "users"]
    assert sorted(path.stem for path in made.folder.iterdir()) == files
    (note,) = made.notes
    assert re.fullmatch(
        r"ratings would take about [\d.]+ GiB of memory to be prepared in it, and [\d.]+ are free: "
        r"it is prepared on disk, by DuckDB",
        note,
    )
    again = prepare("ratings.csv", SPLIT)
    assert again.reused
    assert again.notes == ()
    monkeypatch.undo()
    monkeypatch.chdir(here)
    small = prepare("ratings.csv", SPLIT, reuse=False)
    assert not any("DuckDB" in note for note in small.notes)
    assert small.folder == made.folder
    assert small.dataset.fingerprint == made.dataset.fingerprint
    assert small.counts == made.counts


@pytest.mark.usefixtures("large")
def test_a_split_that_is_given_has_to_fit(ratings: pd.DataFrame, here: Path) -> None:
    (here / "given").mkdir()
    ratings[:5000].to_csv("given/train.csv", index=False)
    ratings[5000:].to_csv("given/test.csv", index=False)
    with pytest.raises(UserError, match="A split that is given has to fit"):
        prepare("given", SPLIT)


def test_the_extra_is_asked_for(here: Path) -> None:
    status, told = run(here, "sys.modules['duckdb'] = None" + TOLD)
    assert status == 0
    assert "preparing it on disk needs duckdb: pip install 'ncf-pipeline[large]'" in told


def test_a_killed_preparation_leaves_nothing_that_counts(here: Path) -> None:
    status, told = run(here, KILLED)
    assert status == -signal.SIGKILL, told
    partial, lock = left()
    assert lock == f"{partial}.lock"
    assert list((module.home() / partial / "work").glob("train-*.parquet"))
    made = prepare("ratings.csv", SPLIT)
    assert left() == [made.dataset.fingerprint]


def test_a_full_disk_is_told_and_leaves_nothing(here: Path) -> None:
    status, told = run(here, TOLD, file_bytes=200_000)
    assert status == 0
    assert "cannot be written (File too large). Make room" in told
    assert left() == []


@pytest.mark.usefixtures("large")
def test_what_cannot_be_split_leaves_nothing(here: Path) -> None:
    with pytest.raises(UserError, match="no user with at least"):
        prepare("ratings.csv", SplitSettings(min_held_out=10**6))
    assert left() == []


def test_rows_are_counted_or_estimated(ratings: pd.DataFrame, here: Path) -> None:
    needed = memory.BYTES_PER_ROW * len(ratings)
    ratings.to_parquet("ratings.parquet")
    assert memory.needed(TableFiles((Part(Path("ratings.parquet")),))) == needed
    for name in ("ratings.csv", "ratings.csv.gz"):
        ratings.to_csv(name, index=False)
        assert needed / 2 < memory.needed(TableFiles((Part(Path(name)),))) < needed * 2


MODELS: list[Recommender] = [
    MostPopular(Settings(), seed=0),
    EASE(EASESettings(), seed=0),
    NCF(NCFSettings(epochs=1, rating_confidence=1, device="cpu"), seed=0),
]


@pytest.fixture
def made(here: Path) -> Prepared:
    """The ratings, prepared in memory."""
    return prepare("ratings.csv", SPLIT)


@pytest.fixture
def stored(made: Prepared, monkeypatch: pytest.MonkeyPatch) -> StoredDataset:
    """The same, left on disk."""
    monkeypatch.setattr(module, "READ_AT_ONCE", 0)
    stored = load(made.dataset.fingerprint).dataset
    assert isinstance(stored, StoredDataset)
    return stored


def test_ratings_are_not_kept_where_they_are_only_looked_at(
    made: Prepared, stored: StoredDataset
) -> None:
    assert stored.values_explained == made.dataset.values_explained
    assert "rating" not in stored._columns


def test_rows_of_a_column_are_read_from_where_they_lie(
    made: Prepared, stored: StoredDataset
) -> None:
    path = made.folder / "train.parquet"
    made.dataset.train.to_parquet(path, index=False, row_group_size=100)
    assert pq.read_metadata(path).num_row_groups > 3
    assert stored.n_interactions == len(made.dataset.train)
    n = stored.n_interactions
    for rows in (slice(0, 0), slice(0, 100), slice(99, 101), slice(250, n), slice(n, n), ALL):
        for name in ("user", "item", "rating"):
            expected = made.dataset.column(name, rows)
            np.testing.assert_array_equal(stored.column(name, rows), expected, strict=True)
            assert (name in stored._columns) == (rows == ALL)
    np.testing.assert_array_equal(
        stored.column("item", slice(9, 11)), made.dataset.column("item")[9:11]
    )


def test_a_process_reads_no_more_than_its_own_interactions(
    made: Prepared, stored: StoredDataset
) -> None:
    settings = TrainingSettings(shards=3, steps_per_epoch=7)
    portions = []
    for dataset in (made.dataset, stored):
        taken, interactions = interactions_of(dataset, settings)
        assert taken.batch_size == -(-len(made.dataset.train) // 7)
        portions.append(interactions.portion(1, 2))
    in_memory, on_disk = portions
    assert (on_disk.sizes, on_disk.shards) == (in_memory.sizes, in_memory.shards)
    for name in ("users", "items", "popularity"):
        assert torch.equal(getattr(on_disk, name), getattr(in_memory, name))
    for name in ("users", "items"):  # of the whole nothing is held
        own = getattr(in_memory, name)
        assert own.untyped_storage().nbytes() == 4 * len(own)
    assert stored._columns == {}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_models_learn_the_same_of_what_is_on_disk(
    model: Recommender, made: Prepared, stored: StoredDataset
) -> None:
    users = np.arange(stored.n_users, dtype=np.int32)
    expected = model.fit(made.dataset).scores(users).copy()
    assert (model.fit(stored).scores(users) == expected).all()
    assert window_of(stored, 0.7).fingerprint == window_of(made.dataset, 0.7).fingerprint
    for name in ("train", "later"):
        assert_frame_equal(getattr(stored, name), getattr(made.dataset, name))


def test_titles_are_laid_over_what_is_on_disk(
    ratings: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_AT_ONCE", 0)
    titles = pd.DataFrame({"item": ratings["item"].unique()}).assign(title="Film, the")
    titles.to_csv("titles.csv", index=False)
    made = prepare("ratings.csv", SPLIT)
    again = prepare("ratings.csv", SPLIT, Reading(items="titles.csv"))
    assert isinstance(again.dataset, StoredDataset)
    assert set(again.dataset.items["title"]) == {"Film, the"}
    assert again.dataset.fingerprint == made.dataset.fingerprint


def test_changed_tables_on_disk_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = prepare("ratings.csv", SPLIT)
    monkeypatch.setattr(module, "READ_AT_ONCE", 0)
    table = pd.read_parquet(made.folder / "later.parquet")
    table.loc[3, "rating"] = np.float32(1.5)
    table.to_parquet(made.folder / "later.parquet", index=False)
    with pytest.raises(UserError, match="no longer have the fingerprint"):
        load(made.dataset.fingerprint)
