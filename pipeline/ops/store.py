"""What a tracking server keeps: a database and artifacts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import SQLAlchemyError

from pipeline.database import hidden, is_sqlite, read_url, shown
from pipeline.errors import UserError

DATABASE_URL = "DATABASE_URL"
EMBEDDED = "mlflow.db"  # in the server's folder, where there is no PostgreSQL
CONNECT_SECONDS = 10


@dataclass(frozen=True)
class ServerStore:
    """Where runs, models, users and permissions are (one database), and where files are."""

    database: URL
    artifacts: Path | str  # a string is the URI of an object store

    @property
    def url(self) -> str:
        """The database's, with its password."""
        return self.database.render_as_string(hide_password=False)

    def engine(self) -> Engine:
        """Connections to the database, which has answered once.

        Raises:
            UserError: it cannot be reached or used.
        """
        wait = {"timeout" if is_sqlite(self.database) else "connect_timeout": CONNECT_SECONDS}
        engine = create_engine(self.database, connect_args=wait)
        try:
            engine.connect().close()
        except SQLAlchemyError as error:
            why = hidden(str(error).splitlines()[0], self.url)
            raise UserError(f"The database {shown(self.url)} cannot be used: {why}") from None
        return engine


@contextmanager
def private_files() -> Iterator[None]:
    """Files made meanwhile are this user's alone: the database holds hashes of passwords."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def find_store(folder: Path, artifacts: str | None) -> ServerStore:
    """The store that DATABASE_URL, ``artifacts`` and else ``folder`` name.

    Raises:
        UserError: DATABASE_URL names no PostgreSQL.
    """
    folder = folder.absolute()
    database = URL.create("sqlite", database=str(folder / EMBEDDED))
    if given := os.environ.get(DATABASE_URL):
        database = read_url(given)
        if database.get_backend_name() != "postgresql":
            raise UserError(
                f"{DATABASE_URL} names a database of {database.get_backend_name()}: expected "
                f"postgresql://user:password@host/database. Without it, the server keeps a SQLite "
                f"file in its folder."
            )
    if artifacts and "://" in artifacts:
        return ServerStore(database, artifacts)
    return ServerStore(database, Path(artifacts).absolute() if artifacts else folder / "artifacts")
