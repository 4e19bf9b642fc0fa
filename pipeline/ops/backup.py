"""backup and restore: the database and the artifacts of a tracking server, while it runs.

The database is first: what it then says is there, has its files, for they were written before.
The other way round, the last models of the database would have none. Files that come while the copy
is made are too many, which does no harm. `mlflow gc` takes files away: not at the same time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy import inspect

from pipeline.console import console, show_line
from pipeline.database import hidden, is_sqlite, shown, without_password
from pipeline.disk import unfinished
from pipeline.errors import UserError
from pipeline.ops.store import ServerStore, find_store, private_files

DATABASES = {"sqlite": "mlflow.db", "postgresql": "mlflow.dump"}
ARTIFACTS_FILE = "artifacts.tar"
CONTENTS = "backup.json"
NAME = "backup"  # of what is unfinished


def backup(folder: Path, artifacts: str | None, to: Path) -> Path:
    """Copy the store into a new folder in ``to``, which is there whole or not at all.

    Raises:
        UserError: the database or the artifacts cannot be read, or ``to`` not be written.
    """
    store = find_store(folder, artifacts)
    kind = store.database.get_backend_name()
    wanted = [Path(str(store.database.database))] if kind == "sqlite" else []
    wanted += [store.artifacts] if isinstance(store.artifacts, Path) else []
    for path in wanted:
        if not path.exists():
            raise UserError(f"{path} does not exist: give the --folder of the server.")
    store.engine().dispose()
    now = datetime.now(UTC)
    made = to / f"mlflow-{now:%Y%m%dT%H%M%SZ}"
    with _filled(made) as new:
        _copy_database(store, new / DATABASES[kind])
        if isinstance(store.artifacts, Path):
            _pack(store.artifacts, new / ARTIFACTS_FILE)
        else:
            console.print(f"{store.artifacts} is left to the object store's own backup.")
        files = {file.name: _digest(file) for file in sorted(new.iterdir())}
        contents = {"made": now.isoformat(), "mlflow": version("mlflow"), "sha256": files}
        (new / CONTENTS).write_text(json.dumps(contents, indent=2))
    show_line(f"backup: {made}")
    return made


@private_files()
def restore(source: Path, folder: Path, artifacts: str | None) -> None:
    """Fill an empty store with a backup.

    Raises:
        UserError: the backup is not whole or of another kind, or the store holds something.
    """
    contents = _read_contents(source)
    store = find_store(folder, artifacts)
    kind = store.database.get_backend_name()
    if DATABASES[kind] not in contents["sha256"]:
        raise UserError(
            f"{source} is no backup of {kind}: set or unset DATABASE_URL, so that the database is "
            f"of the same kind as the one that was backed up."
        )
    _check_empty(store)
    for name, expected in contents["sha256"].items():
        if not (source / name).is_file() or _digest(source / name) != expected:
            raise UserError(f"{source / name} is missing or damaged: take another backup.")
    # Artifacts first: a server that is started too early finds no run without its files.
    if isinstance(store.artifacts, Path) and (source / ARTIFACTS_FILE).exists():
        with _filled(store.artifacts) as new, tarfile.open(source / ARTIFACTS_FILE) as packed:
            _check_members(packed)
            packed.extractall(new)
    _restore_database(store, source / DATABASES[kind])
    show_line(
        f"restored {source} of {contents['made']}, by MLflow {contents['mlflow']}, into "
        f"{shown(store.url)} and {store.artifacts}"
    )


def _check_members(packed: tarfile.TarFile) -> None:
    """Refuse what ``backup`` never packs; tarfile has filters of its own only since 3.11.4."""
    for member in packed:
        place = PurePosixPath(member.name)
        if place.is_absolute() or ".." in place.parts or not (member.isfile() or member.isdir()):
            raise UserError(f"The backup holds {member.name!r}, which no backup of ours does.")


@contextmanager
def _filled(target: Path) -> Iterator[Path]:
    """A folder for this user alone, to be filled; it gets its name when that has worked."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with unfinished(target.parent, NAME) as new:
            new.mkdir(mode=0o700)
            yield new
            os.sync()  # a backup that a power cut empties is none
            new.replace(target)
    except OSError as error:
        raise UserError(f"{error.filename or target}: {error.strerror or error}") from None
    except tarfile.TarError as error:
        raise UserError(f"The artifacts could not be unpacked: {error}") from None


def _copy_database(store: ServerStore, file: Path) -> None:
    if is_sqlite(store.database):
        with closing(sqlite3.connect(str(store.database.database))) as database:
            database.execute("VACUUM INTO ?", (str(file),))
        return
    # No owners or grants: it may be restored under another name.
    _call(store, "pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={file}")


def _restore_database(store: ServerStore, file: Path) -> None:
    if is_sqlite(store.database):
        path = Path(str(store.database.database))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished(path.parent, NAME) as new:
                shutil.copyfile(file, new)
                os.sync()
                new.replace(path)
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}") from None
        return
    words = ("--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges")
    _call(store, "pg_restore", *words, str(file))


def _call(store: ServerStore, program: str, *words: str) -> None:
    """Run a program of PostgreSQL; the password goes through its environment.

    Raises:
        UserError: it is not installed, or failed.
    """
    bare, variables = without_password(store.database)
    url = bare.set(drivername="postgresql").render_as_string()
    try:
        subprocess.run(
            [program, *words, f"--dbname={url}"],
            env={**os.environ, **variables},
            check=True,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        raise UserError(
            f"{program} is not installed: it comes with PostgreSQL's client programs, as in "
            f"postgresql-client, which must not be older than the server."
        ) from None
    except subprocess.CalledProcessError as error:
        why = hidden(error.stderr.strip(), store.url)
        raise UserError(f"{program} has failed: {why}") from None


def _pack(artifacts: Path, file: Path) -> None:
    """Pack what is in a folder that others write to."""
    with tarfile.open(file, "w") as packed:
        for path in sorted(artifacts.rglob("*")):
            try:
                packed.add(path, path.relative_to(artifacts), recursive=False)
            except FileNotFoundError:
                continue  # deleted since it was listed


def _check_empty(store: ServerStore) -> None:
    """Refuse to restore over what somebody may need.

    Raises:
        UserError: the store holds something.
    """
    files = store.artifacts
    if isinstance(files, Path) and files.is_dir() and any(files.iterdir()):
        raise UserError(f"{files} holds something: restore into an empty place.")
    if is_sqlite(store.database):
        if Path(str(store.database.database)).exists():
            raise UserError(f"{store.database.database} exists: restore into an empty place.")
        return
    engine = store.engine()
    tables = inspect(engine).get_table_names()
    engine.dispose()
    if tables:
        raise UserError(
            f"The database {shown(store.url)} holds {len(tables)} tables: restore into an empty "
            f"one, as createdb makes it."
        )


def _read_contents(source: Path) -> dict[str, Any]:
    try:
        contents: dict[str, Any] = json.loads((source / CONTENTS).read_text())
    except (OSError, ValueError):
        raise UserError(f"{source} is no backup: it has no {CONTENTS} that can be read.") from None
    return contents


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
