"""What happens to a program through no fault of its own, in words: disks, databases, memory.

A command ends with these sentences where it would else end with a traceback.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from pipeline.errors import brief

AGAIN = "the same command, or train --resume RUN_ID, then goes on"
OFFLINE = "--offline keeps runs here, and `python -m pipeline sync` delivers them later"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def explain(error: BaseException) -> str | None:
    """What has happened and what to do; None where it is nothing of the kind."""
    cause: BaseException | None = error
    while cause is not None:
        text = _of_memory(cause) or _of_disk(cause) or _of_database(cause)
        if text is not None:
            return text
        cause = cause.__cause__
    return None


def _of_memory(error: BaseException) -> str | None:
    names = {kind.__name__ for kind in type(error).__mro__}
    if "OutOfMemoryError" in names:  # PyTorch's, which is not imported for it
        return (
            f"The GPU has no memory left ({brief(error)}). Give a smaller batch_size or "
            f"embedding_dim, end what else is on the GPU (nvidia-smi lists it), or train with "
            f"--device cpu."
        )
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        return (
            f"This machine has no memory left ({brief(error) or 'MemoryError'}). Give a smaller "
            f"batch_size, fewer --workers or a smaller dataset, or end other programs."
        )
    return None


def _of_disk(error: BaseException) -> str | None:
    if not isinstance(error, OSError):
        return None
    place = error.filename or Path.cwd()
    if error.errno in FULL:
        return f"{place}: cannot be written ({error.strerror}). Make room; {AGAIN}."
    if error.errno in CLOSED and error.filename is not None:
        return (
            f"{place}: {error.strerror}. Run the command in a folder of your own, or have this one "
            f"made yours."
        )
    return None


def _of_database(error: BaseException) -> str | None:
    """Of SQLite, by itself or behind SQLAlchemy."""
    inner = getattr(error, "orig", error)
    if not isinstance(inner, sqlite3.DatabaseError):
        return None
    for path in _databases():
        if path.is_file() and (wrong := _damage(path)):
            return (
                f"{path.absolute()}: this SQLite database is damaged ({wrong}). Put a backup in "
                f"its place; or save what can be read, sqlite3 {path} .recover | sqlite3 "
                f"saved.db; or move it away to begin anew. The "
                f"files of runs are not part of it."
            )
    reason = str(inner)
    if "unable to open" in reason or "readonly" in reason:
        return (
            f"A SQLite database cannot be written below {Path.cwd()} ({reason}). Run the command "
            f"in a folder of your own, or have this one made yours."
        )
    if "locked" in reason:
        return f"A SQLite database is kept by other processes ({reason}). Let them end; {AGAIN}."
    if "full" in reason or "disk I/O" in reason:
        return f"A SQLite database cannot be written ({reason}). Make room; {AGAIN}."
    return None


def _databases() -> list[Path]:
    """The files in which runs and studies may be, from here."""
    given = [os.environ.get(name, "") for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE")]
    named = [url.removeprefix("sqlite:///") for url in given if url.startswith("sqlite:///")]
    return [Path(name) for name in (*named, "mlflow.db", "optuna.db", "data/offline/mlflow.db")]


def _damage(path: Path) -> str:
    """What SQLite finds wrong with a file; empty where it is whole."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError:
        return ""  # busy, or not to be opened
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if found == "ok" else brief(found)
