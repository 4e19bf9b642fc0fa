"""migrate, as a command: what it tells, how it ends, and that a kill does no harm."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from tests.steps.workplace import Workplace, finish, make_team, served, wait_until
from tests.tracking.stores import fill, held


@pytest.fixture(scope="module")
def source(shared: Workplace) -> Workplace:
    """A store with something of everything."""
    fill(shared)
    return shared


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame, store: Path) -> Workplace:
    """A folder to start commands in, and to keep a server in."""
    return make_team(tmp_path_factory.mktemp("team"), ratings, store)


def test_a_killed_migration_to_a_server_is_completed(source: Workplace, team: Workplace) -> None:
    with served(team, "127.0.0.1") as url:
        words = ("migrate", "--from", source.uri, "--to", url)
        process = team.start("pipeline", *words)
        kept = team.folder / "kept"
        wait_until(lambda: sum(each.is_file() for each in kept.rglob("*")) > 20, process)
        process.kill()
        assert finish(process).status == -signal.SIGKILL
        outcome = team.call("pipeline", *words)
        assert outcome.status == 0, outcome.told
        (runs,) = (line.split() for line in outcome.told.splitlines() if line.startswith("runs "))
        assert (runs[1], runs[-1]) == ("4", "4")
        assert held(url) == held(source.uri)


def test_what_cannot_be_copied_is_an_error_in_the_end(
    source: Workplace, team: Workplace, tmp_path: Path
) -> None:
    shutil.copy(source.folder / "mlflow.db", tmp_path)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        lost = "mlflow-artifacts:/1/of/a/server"
        database.execute("UPDATE runs SET artifact_uri = ? WHERE name = 'parent'", (lost,))
    database.close()
    words = ("--from", f"sqlite:///{tmp_path}/mlflow.db", "--to", "sqlite:///new.db")
    outcome = team.cli("migrate", *words)
    assert outcome.status == 1
    assert "(parent): artifacts cannot be read: " in outcome.told
    assert "Not everything is there. The same command tries the rest again." in outcome.told
    assert "metric points" in outcome.told


def test_mistakes_are_told_in_a_line(team: Workplace) -> None:
    missing = team.cli("migrate", "--from", "sqlite:///missing.db", "--to", team.uri)
    assert missing.status == 1
    assert "The source sqlite:///missing.db: there is no file missing.db." in missing.told
    assert not (team.folder / "missing.db").exists()
    assert team.cli("migrate", "--from", team.uri).status == 2
