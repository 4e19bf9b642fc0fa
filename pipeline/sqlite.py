"""A database of SQLite that is there whole, or not at all.

MLflow and Optuna make their tables one by one. A first command that is killed meanwhile would leave
a database that is broken for ever, and several first commands at once would break each other's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from pipeline.disk import sync
from pipeline.errors import UserError


def make_whole(path: Path, make: Callable[[Path], None]) -> None:
    """Make the database at ``path`` where there is none, whoever else is about to do the same.

    ``make`` fills a file beside it, which gets its name when it is whole. Without a folder for it,
    nothing is done.

    Raises:
        UserError: it cannot be written.
    """
    lock = path.with_name(f".{path.name}.lock")
    if (_is_made(path) and not lock.exists()) or not path.parent.is_dir():
        return
    new = path.with_name(f".{path.name}.partial")
    try:
        with FileLock(lock):
            _remove(new)  # what a command that was killed has left
            if not _is_made(path):
                make(new)
                sync(new)
                new.replace(path)
                sync(path.parent)
            lock.unlink()  # who waits for it finds the database
    except OSError as error:
        _remove(new)
        raise UserError(
            f"The database {path} cannot be made: {error.strerror or error}. Make room, or run "
            f"where you may write."
        ) from None


def _is_made(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _remove(new: Path) -> None:
    for each in new.parent.glob(f"{new.name}*"):  # and the journal of SQLite
        each.unlink(missing_ok=True)
