"""A fresh tracking store is whole or absent, whoever is killed, and however many come first."""

from __future__ import annotations

import signal
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking._tracking_service import utils

from pipeline.errors import UserError
from pipeline.ops.offline import DATABASE, FOLDER, use_offline_store
from tests.forks import at_once, killed_at
from tests.steps.workplace import Workplace

TOGETHER = 4


def uri(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def create_run(folder: Path) -> None:
    mlflow.MlflowClient(uri(folder)).create_run("0")


def test_first_commands_at_once_make_one_store(tmp_path: Path) -> None:
    assert at_once(TOGETHER, lambda _: create_run(tmp_path)) == [0] * TOGETHER
    assert len(mlflow.MlflowClient(uri(tmp_path)).search_runs(["0"])) == TOGETHER
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize("statement", [3, 60])
def test_a_first_command_that_is_killed_leaves_no_half_of_a_store(
    tmp_path: Path, statement: int
) -> None:
    assert killed_at(statement, lambda: create_run(tmp_path)) == -signal.SIGKILL
    create_run(tmp_path)
    assert len(mlflow.MlflowClient(uri(tmp_path)).search_runs(["0"])) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_an_offline_store_is_made_whole_too(tmp_path: Path) -> None:
    def begin() -> None:
        with use_offline_store():
            pass

    with Workplace(tmp_path).entered():
        assert killed_at(60, begin) == -signal.SIGKILL
        begin()
        assert [path.name for path in FOLDER.glob(f"*{DATABASE}*")] == [DATABASE]


def test_a_store_that_was_left_half_made_is_explained(tmp_path: Path) -> None:
    def make() -> None:
        utils._get_sqlalchemy_store(uri(tmp_path), None)

    assert killed_at(60, make) == -signal.SIGKILL
    with pytest.raises(UserError, match=r"mlflow\.db is half made: .*delete it and run"):
        create_run(tmp_path)
