"""What RecBole is given and how it is asked; RecBole itself is not here."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.recbole import atomic, first_epoch, foreign, ours, theirs
from pipeline.data.dataset import Dataset
from tests.conftest import checkerboard

STAND_IN = """
import json, sys
steps = json.loads(sys.argv[1])["steps"]
print(json.dumps({"steps": steps, "path": sys.path}), flush=True)
for line in sys.stdin:
    if line.strip() == "3":
        sys.exit("three are too many")
    print(json.dumps({"seconds": 0.5, "loss_sum": 2.0 * int(line)}), flush=True)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A script that answers as RecBole's does."""
    path = tmp_path / "stand_in.py"
    path.write_text(STAND_IN)
    return path


def test_interactions_become_an_atomic_file(dataset: Dataset, tmp_path: Path) -> None:
    atomic(dataset.train).to_csv(tmp_path / "a.inter", sep="\t", index=False)
    read = pd.read_csv(tmp_path / "a.inter", sep="\t")
    assert list(read) == ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    assert len(read) == len(dataset.train)
    for name, column in zip(("user", "item", "rating", "timestamp"), read, strict=True):
        assert read[column].tolist() == dataset.train[name].tolist()


def test_steps_hold_as_many_positives() -> None:
    assert theirs(1024)["train_batch_size"] == 2048  # RecBole counts the negative, too
    assert ours(1024, verified=True).batch_size == 1024


def test_an_epoch_here_is_timed() -> None:
    seconds, loss = first_epoch(checkerboard(), ours(32, verified=True))
    assert seconds > 0
    assert loss == pytest.approx(0.693, abs=0.01)


def test_epochs_are_asked_for_one_by_one(script: Path, tmp_path: Path) -> None:
    with foreign(sys.executable, script, {"steps": 4}, tmp_path) as process:
        assert process.facts["steps"] == 4
        # benchmarks/ holds a module of RecBole's name.
        assert str(script.parent) not in process.facts["path"]
        assert process.epoch(threads=1) == (0.5, 0.5)
        assert process.epoch(threads=2) == (0.5, 1.0)
    assert process.process.poll() is not None


def test_a_process_that_ends_is_told_with_what_it_said(script: Path, tmp_path: Path) -> None:
    with (
        foreign(sys.executable, script, {"steps": 4}, tmp_path) as process,
        pytest.raises(RuntimeError, match="has ended: three are too many"),
    ):
        process.epoch(threads=3)
