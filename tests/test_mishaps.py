"""What happens to a command through no fault of its own is told in words, with what to do."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from pipeline.disk import system_error
from pipeline.mishaps import explain
from tests.steps.workplace import SMALL, Outcome, Workplace, environment, make_workplace

TRAIN = ("train", "--config=small.yaml", "--dataset=ratings.csv", "--epochs=1", "--validate=false")
# A name that a URL spells otherwise, and that a shell, SQL and HTML would take apart.
ODD = "100%20 o'neil #1?x;y&z <ü\"+"
# Root writes anywhere, unless it gives that up.
POWERLESS = [
    "setpriv",
    *(f"--{kind}=-dac_override,-dac_read_search" for kind in ("bounding-set", "inh-caps")),
]


@pytest.fixture
def workplace(tmp_path: Path, ratings: pd.DataFrame, store: Path) -> Workplace:
    return make_workplace(tmp_path, ratings, store)


def test_a_folder_of_any_name(tmp_path: Path, ratings: pd.DataFrame) -> None:
    folder = tmp_path / ODD
    folder.mkdir()
    ratings.to_csv(folder / "ratings.csv", index=False)
    (folder / "small.yaml").write_text(SMALL)
    place = Workplace(folder)
    outcome = place.call("pipeline", *TRAIN)
    assert outcome.status == 0, outcome.told
    run = outcome.told.partition("train small: run ")[2][:32]
    outcome = place.call("pipeline", "recommend", f"--run_id={run}", "--output=lists.csv")
    assert outcome.status == 0, outcome.told
    outcome = place.call("pipeline", *TRAIN, "--seed=5", "--offline")
    assert outcome.status == 0, outcome.told
    assert [path.name for path in tmp_path.iterdir()] == [ODD]
    assert list((folder / "mlruns").rglob("checkpoint.pt"))
    assert list((folder / "data" / "offline" / "artifacts").rglob("checkpoint.pt"))


def test_a_truncated_store(workplace: Workplace) -> None:
    store = workplace.folder / "mlflow.db"
    os.truncate(store, store.stat().st_size // 2)
    outcome = workplace.call("pipeline", "compare")
    assert outcome.status == 1
    assert "Traceback" not in outcome.told
    assert f"error: {store}: this SQLite database is damaged (" in outcome.told
    assert "Put a backup in its place" in outcome.told


def powerless(place: Workplace, *words: str) -> Outcome:
    """A command by somebody who may not write where they are not let."""
    before = POWERLESS if os.geteuid() == 0 else []
    done = subprocess.run(
        [*before, sys.executable, "-m", "pipeline", *words],
        cwd=place.folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    return Outcome(done.returncode, done.stdout + done.stderr)


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root, no setpriv")
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("prepare", "--dataset=ratings.csv"), "data: Permission denied. Run the command in a"),
        (("compare",), "cannot be kept here (Permission denied). Make room, or run where you may"),
    ],
)
def test_a_folder_of_somebody_else(workplace: Workplace, words: tuple[str, ...], why: str) -> None:
    (workplace.folder / "mlflow.db").unlink()
    workplace.folder.chmod(0o555)
    try:
        outcome = powerless(workplace, *words)
    finally:
        workplace.folder.chmod(0o755)
    assert outcome.status == 1
    assert why in outcome.told
    assert "Traceback" not in outcome.told


def test_a_server_that_is_down(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for words in (("compare",), ("evaluate", "--run_id=x"), ("prepare", "--dataset=ratings.csv")):
        outcome = workplace.cli(*words, uri="http://127.0.0.1:9")
        assert outcome.status == 1
        (last,) = outcome.told.splitlines()[-1:]
        assert last.startswith("error: The tracking server http://127.0.0.1:9 does not answer (")
        assert "--offline keeps runs here, and `python -m pipeline sync`" in last


def test_memory() -> None:
    told = explain(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."))
    assert told is not None
    assert told.startswith("The GPU has no memory left (CUDA out of memory.")
    assert "--device cpu" in told
    try:
        torch.empty(2**60, dtype=torch.uint8)
    except RuntimeError as error:
        told = explain(error)
    assert told is not None
    assert told.startswith("This machine has no memory left (")
    assert "smaller batch_size" in str(explain(MemoryError()))


def test_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "data/x")
    assert str(explain(full)).startswith(
        "data/x: cannot be written (No space left on device). Make"
    )
    with pytest.raises(OSError, match="No space"), open("/dev/full", "w") as file:
        file.write("x" * 100_000)
    many = shutil.Error([("a", "b", f"[Errno {errno.ENOSPC}] No space left on device: 'b'")])
    behind = RuntimeError("a library's own")
    behind.__cause__ = many
    assert getattr(system_error(behind), "errno", None) == errno.ENOSPC
    assert getattr(system_error(ValueError("I/O error (os error 5)")), "errno", None) == errno.EIO
    assert system_error(ValueError("a mistake of ours")) is None
    behind.__cause__ = full
    assert "No space left" in str(explain(behind))
    assert explain(OSError(errno.ENOENT, "not there", "x")) is None
    assert explain(ValueError("a mistake of ours")) is None


def test_databases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def asked() -> SQLAlchemyError:
        engine = create_engine("sqlite:///optuna.db")
        with pytest.raises(SQLAlchemyError) as caught, engine.connect() as connection:
            connection.execute(text("SELECT * FROM x"))
        return caught.value

    assert explain(asked()) is None  # no such table: a mistake of ours
    Path("optuna.db").write_text("no database" * 1000)
    told = f"{tmp_path}/optuna.db: this SQLite database is damaged (file is not a database)"
    assert str(explain(asked())).startswith(told)
    Path("optuna.db").unlink()
    for said, word in {
        "disk is full": "Make room",
        "unable to open": "a folder of your own",
        "table is locked": "other processes",
    }.items():
        assert word in str(explain(sqlite3.OperationalError(f"database or {said}")))
