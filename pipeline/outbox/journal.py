"""The outbox: what is on its way to the tracking store, safe on local disk until that has it.

A folder per process: ``journal``, to which lines are only ever appended, ``delivered``, the number
of its bytes that the store has taken, and a folder of files for each line that has any. A line is a
checksum and JSON. Whatever is not delivered outlives its process, and ``sync`` delivers it.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from pipeline.disk import sync, unfinished
from pipeline.errors import UserError
from pipeline.process import undisturbed

ROOT = Path("data") / "outbox"
JOURNAL, DELIVERED, STORE, LOCK = "journal", "delivered", "store", "lock"
DAMAGED, REFUSED = "damaged", "refused"
RUNS = "runs"  # is there while runs of the process may be open
PIECE = 1 << 20  # bytes of the journal that are read at a time
NUMBER = 20  # digits of the number in ``delivered``, so that it is written over in one piece


class OutboxError(UserError):
    """The outbox cannot be written: a full disk, or a folder that is not ours."""


@dataclass(frozen=True)
class Entry:
    """A write to a run, in plain JSON values; ``files`` names its folder in the outbox."""

    kind: str
    run: str
    content: dict[str, Any]
    files: str | None = None


class Outbox:
    """One process's writes, in their order. Appending and reading may be in different threads.

    Raises:
        OutboxError: the folder cannot be written.
    """

    def __init__(self, folder: Path, lock: FileLock) -> None:
        self.folder, self._lock = folder, lock
        self._guard = threading.Lock()
        try:
            flags = os.O_RDWR | os.O_CREAT
            self._journal = os.open(folder / JOURNAL, flags | os.O_APPEND)
            self._delivered = os.open(folder / DELIVERED, flags)
        except OSError as error:
            raise cannot_write(folder, error) from None
        self.open_runs = 0
        self.size = os.fstat(self._journal).st_size
        number = os.pread(self._delivered, NUMBER, 0)
        # Without a number that can be read everything is delivered again, which harms nothing.
        self.delivered = min(int(number), self.size) if number.isdigit() else 0

    @classmethod
    def create(cls, store: str, root: Path = ROOT) -> Outbox:
        """A new one for what goes to ``store``.

        Raises:
            OutboxError: there can be none below ``root``.
        """
        folder = root / f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{uuid4().hex[:8]}"
        try:
            root.mkdir(parents=True, exist_ok=True)
            with unfinished(root, root.name) as new:
                new.mkdir()
                lock = FileLock(new / LOCK)
                lock.acquire()
                (new / STORE).write_text(store)
                new.replace(folder)
            sync(root)
        except OSError as error:
            raise cannot_write(root, error) from None
        return cls(folder, lock)

    @classmethod
    def left(cls, root: Path = ROOT) -> Iterator[Outbox]:
        """Those whose process is gone, oldest first."""
        for folder in sorted(root.glob("[0-9]*")) if root.is_dir() else []:
            lock = FileLock(folder / LOCK, timeout=0)
            try:
                lock.acquire()
            except (Timeout, OSError):
                continue
            if (folder / STORE).exists():
                yield cls(folder, lock)
            else:  # whoever was about to remove it may have been killed
                shutil.rmtree(folder, ignore_errors=True)
            lock.release()

    @property
    def store(self) -> str:
        """The store that it is meant for, without a password."""
        return (self.folder / STORE).read_text()

    @property
    def name(self) -> str:
        """No other has the same."""
        return self.folder.name

    @property
    def has_runs(self) -> bool:
        """Whether runs of its process may be open, or have been when that was killed."""
        return (self.folder / RUNS).exists()

    def open_run(self) -> None:
        """Note that a run is about to be opened.

        Raises:
            OutboxError: it cannot be noted.
        """
        self.open_runs += 1
        try:
            (self.folder / RUNS).touch()
            sync(self.folder)
        except OSError as error:
            raise cannot_write(self.folder, error) from None

    def end_run(self) -> None:
        """Note that a run has ended, or was not opened."""
        self.open_runs -= 1

    def end_all_runs(self) -> None:
        """Note that no run is open."""
        (self.folder / RUNS).unlink(missing_ok=True)

    @property
    def waiting(self) -> bool:
        """Whether anything is not delivered."""
        return self.delivered < self.size

    def room(self) -> Path:
        """A new, empty folder for the files of an entry."""
        try:
            folder = self.folder / uuid4().hex
            folder.mkdir()
        except OSError as error:
            raise cannot_write(self.folder, error) from None
        return folder

    def add(self, entry: Entry) -> None:
        """Append an entry; when this returns, it is on disk and so are its files.

        Raises:
            OutboxError: it cannot be written; the entries before it are what they were.
        """
        line = _line(entry)
        # An interruption between a line and its count would hide what is written after it.
        with undisturbed(), self._guard:
            try:
                if entry.files is not None:
                    _sync_files(self.folder / entry.files)
                written = 0
                while written < len(line):
                    written += os.write(self._journal, line[written:])
                os.fsync(self._journal)
            except OSError as error:
                with suppress(OSError):
                    os.ftruncate(self._journal, self.size)
                raise cannot_write(self.folder, error) from None
            self.size += len(line)

    def pending(self) -> Iterator[tuple[Entry, int]]:
        """What is not delivered, each with the number of bytes delivered once it is.

        A line that is damaged, as the last one may be after a power cut, is put aside.
        """
        place = self.delivered
        for line in self._lines(place):
            place += len(line)
            entry = _entry(line)
            if entry is None:
                self.put_aside(DAMAGED, line)
                self.mark(place)
            else:
                yield entry, place

    def _lines(self, place: int) -> Iterator[bytes]:
        """Lines of the journal from a place on, the last perhaps without its end.

        They are read from the file that is open, for its folder may be gone.
        """
        rest = b""
        while piece := os.pread(self._journal, min(PIECE, self.size - place), place):
            place += len(piece)
            *whole, rest = (rest + piece).split(b"\n")
            yield from (line + b"\n" for line in whole)
        if rest:
            yield rest

    def mark(self, delivered: int) -> None:
        """Remember how much the store has taken."""
        os.pwrite(self._delivered, b"%0*d" % (NUMBER, delivered), 0)
        self.delivered = delivered

    def put_aside(self, name: str, line: bytes) -> None:
        """Keep what cannot be delivered: damaged, or refused by the store."""
        with (self.folder / name).open("ab") as file:
            file.write(line.removesuffix(b"\n") + b"\n")

    def refuse(self, entry: Entry, why: str) -> None:
        """Keep an entry that the store does not take, with the reason that it gave."""
        content = {**asdict(entry), "why": why}
        self.put_aside(REFUSED, json.dumps(content).encode())

    def refusals(self) -> list[str]:
        """What the store has refused, and why, a line each."""
        refused = []
        for line in self._refused():
            entry = json.loads(line)
            parts = ", ".join(
                f"{part} {', '.join(str(row[0]) for row in rows[:3])}"
                for part, rows in entry["content"].items()
                if isinstance(rows, list) and rows
            )
            refused.append(f"{parts or entry['kind']} of run {entry['run']}: {entry['why']}")
        return refused

    def admit_again(self) -> None:
        """Put what the store has refused on its way once more, behind the rest.

        Raises:
            OutboxError: it cannot be written.
        """
        for line in self._refused():
            content = json.loads(line)
            content.pop("why")
            self.add(Entry(**content))
        (self.folder / REFUSED).unlink(missing_ok=True)

    def _refused(self) -> list[str]:
        path = self.folder / REFUSED
        return path.read_text().splitlines() if path.exists() else []

    def kept(self, name: str) -> int:
        """How many lines are put aside under ``name``."""
        path = self.folder / name
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def drop(self, files: str) -> None:
        """Remove the files of an entry that is delivered."""
        shutil.rmtree(self.folder / files, ignore_errors=True)

    def close(self) -> None:
        """Leave it; it is removed if nothing is left in it."""
        empty = not (self.waiting or self.has_runs or self.kept(DAMAGED) or self.kept(REFUSED))
        for file in (self._journal, self._delivered):
            os.close(file)
        if empty:
            # Its lock goes first, so that nobody finds half of it.
            (self.folder / STORE).unlink(missing_ok=True)
        self._lock.release()
        if empty:
            shutil.rmtree(self.folder, ignore_errors=True)


def _line(entry: Entry) -> bytes:
    content = json.dumps(asdict(entry)).encode()
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _entry(line: bytes) -> Entry | None:
    checksum, _, content = line.removesuffix(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(content):
        return None
    return Entry(**json.loads(content))


def _sync_files(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder, folder.parent]:
        sync(path)


def cannot_write(folder: Path, error: OSError) -> OutboxError:
    """What a person reads where the outbox cannot be written."""
    return OutboxError(
        f"{folder}: metrics and artifacts on their way to the tracking store cannot be kept here "
        f"({error.strerror or error}). Make room, or run where you may write; what was kept "
        f"before is safe."
    )
