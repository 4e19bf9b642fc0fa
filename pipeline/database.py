"""Database URLs: read in one way, and shown without their secrets."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, quote_plus

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from pipeline.errors import UserError
from pipeline.extras import require

PSYCOPG = "postgresql+psycopg"


def read_url(url: str) -> URL:
    """The parts of ``url``; ``postgres://`` and ``postgresql://`` are spoken to by psycopg 3.

    Raises:
        UserError: it is no URL of a database that SQLAlchemy knows, or psycopg is not installed.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername=PSYCOPG)
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        scheme = url.partition("://")[0] if "://" in url else ""
        raise UserError(
            f"The URL{f' with {scheme}://' if scheme else ''} is none of a database: expected one "
            f"as in sqlite:///file.db or postgresql://user:password@host/database."
        ) from None
    if parsed.drivername == PSYCOPG:
        require("psycopg", "server", "PostgreSQL")
    if "@" in (parsed.host or ""):
        raise UserError("The database URL has an '@' in its password: write it as %40.")
    return parsed


def is_sqlite(url: URL) -> bool:
    """Whether the database is a file of SQLite."""
    return url.get_backend_name() == "sqlite"


def absolute(url: str) -> str:
    """The URL as it is right from any folder: that of a SQLite file may be from this one."""
    if not url.startswith("sqlite"):
        return url
    parsed = read_url(url)
    return parsed.set(database=str(Path(str(parsed.database)).resolve())).render_as_string(
        hide_password=False
    )


def shown(url: str) -> str:
    """The URL with its password hidden."""
    return hidden(read_url(url).render_as_string(hide_password=True), url)


def hidden(message: str, url: str) -> str:
    """``message`` without the password of ``url``."""
    for secret in secrets(read_url(url)):
        message = message.replace(secret, "***")
    return message


def secrets(url: URL) -> list[str]:
    """The password, before the host or among the parameters; as it is, and as URLs spell it."""
    named = ((name.lower(), value) for name, value in url.query.items())
    values = [value for name, value in named if "pass" in name and name != "passfile"]
    given = [value if isinstance(value, str) else ",".join(value) for value in values]
    found = [each for each in [str(url.password or ""), *given] if each]
    return [spelling for each in found for spelling in (each, quote(each, ""), quote_plus(each))]


def without_password(url: URL) -> tuple[URL, dict[str, str]]:
    """A PostgreSQL URL that may stand in files and process lists, and the environment for it.

    Raises:
        UserError: it holds another secret, for which libpq has no variable.
    """
    given = url.query.get("password", url.password)
    query = {name: value for name, value in url.query.items() if name != "password"}
    bare = URL.create(url.drivername, url.username, None, url.host, url.port, url.database, query)
    if secrets(bare):
        raise UserError(
            "The database URL holds a secret besides its password: put it into a file that libpq "
            "reads, as PGSERVICEFILE names one."
        )
    return bare, {"PGPASSWORD": str(given)} if given else {}
