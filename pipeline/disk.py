"""Disk writes that neither a power cut nor a kill undoes by half."""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

NUMBER = re.compile(r"\[Errno (\d+)\]|\(os error (\d+)\)")


def system_error(error: BaseException) -> OSError | None:
    """What the system said behind a library's own error; None where it said nothing.

    One that copies many files, and one written in Rust, tell its number in their text alone.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause
        if found := NUMBER.search(str(cause)):
            number = int(found[1] or found[2])
            return OSError(number, os.strerror(number))
        cause = cause.__cause__
    return None


def sync(path: Path) -> None:
    """Return when a file, or the names in a folder, are on the disk itself.

    Raises:
        OSError: they are not.
    """
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def unfinished(parent: Path, name: str) -> Iterator[Path]:
    """A path in ``parent`` for a file or folder that is moved to its place when it is whole.

    What is still there in the end is removed, and so is what processes that were killed have left
    of the same ``name``. The sign of life of a process is the lock beside what it writes.

    Raises:
        OSError: there can be none.
    """
    if not parent.is_dir():  # the lock would make it
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(parent))
    remove_left(parent, name)
    new = parent / f".{name}.{uuid4().hex[:8]}.partial"
    lock = FileLock(f"{new}.lock")
    with lock:
        try:
            yield new
        finally:
            _remove(new)
            Path(lock.lock_file).unlink(missing_ok=True)


def remove_left(parent: Path, name: str) -> None:
    """Remove what processes that were killed have left unfinished in ``parent``."""
    for path in parent.glob(f".{glob.escape(name)}.*.partial.lock"):
        with suppress(Timeout, OSError), FileLock(path, timeout=0):
            _remove(path.with_suffix(""))
            path.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
