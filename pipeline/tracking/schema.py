"""MLflow's tables in a file of SQLite: made whole before any part of MLflow finds none."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from mlflow.tracking._tracking_service import utils  # MLflow has no public name for these
from sqlalchemy.engine import URL, make_url

from pipeline.errors import UserError
from pipeline.sqlite import make_whole


def make_ready(uri: str, artifacts: str | None = None) -> None:
    """Make the tracking store ``uri``, if it is a file of SQLite and there is none.

    ``artifacts`` is where it keeps files; ``mlruns`` by default.

    Raises:
        UserError: it cannot be made, or a command that was killed has left a part of it.
    """
    url = make_url(uri)
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return
    path = Path(str(url.database))
    make_whole(path, lambda new: _make(url.set(database=str(new)), artifacts))
    if _is_half_made(path):
        raise UserError(
            f"{path} is half made: the first command that used it was killed, or is making it "
            f"just now by MLflow's own means. It holds no runs. Wait a moment, else delete it and "
            f"run the same command again."
        )


def open_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """What MLflow opens for a URI of SQLite, made ready before."""
    make_ready(store_uri, artifact_uri)
    return utils._get_sqlalchemy_store(store_uri, artifact_uri)  # type: ignore[no-untyped-call]


def _make(url: URL, artifacts: str | None) -> None:
    store = utils._get_sqlalchemy_store(  # type: ignore[no-untyped-call]
        url.render_as_string(), artifacts
    )
    store.engine.dispose()


def _is_half_made(path: Path) -> bool:
    """Whether tables are there, and not the experiment that MLflow makes last."""
    with closing(sqlite3.connect(path)) as database:
        try:
            known = database.execute("SELECT count(*) FROM sqlite_master WHERE name='experiments'")
            if not known.fetchone()[0]:
                return False
            return database.execute("SELECT 1 FROM experiments LIMIT 1").fetchone() is None
        except sqlite3.DatabaseError:  # what it is, is for MLflow to say
            return False


utils._register("sqlite", open_store)  # type: ignore[no-untyped-call]
