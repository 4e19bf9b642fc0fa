"""Files as bytes: on disk or in a zip, compressed or not.

Nothing is unpacked to disk: members of a zip are read from within it.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from pipeline.errors import UserError, brief

PACKED: Mapping[str, Callable[[BinaryIO], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
"""Endings of compressed files, and what opens them."""

_PACKING = 4  # bytes of ratings as text that one packed byte stands for, about
_BOMB_BYTES, _BOMB_RATIO = 1 << 28, 100  # ratings and titles shrink to a quarter, at most a tenth
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError)


@dataclass(frozen=True)
class Part:
    """One file that holds a table: on disk, or a member of a zip."""

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}!{brief(self.member)}"

    @property
    def name(self) -> PurePosixPath:
        """Without the ending of a compression: that of r.csv.gz is r.csv."""
        whole = self._whole_name
        return whole.with_suffix("") if self.is_packed else whole

    @property
    def suffix(self) -> str:
        """The ending of ``name``, in small letters."""
        return self.name.suffix.lower()

    @property
    def is_packed(self) -> bool:
        """Whether it is compressed by itself."""
        return self._whole_name.suffix.lower() in PACKED

    @property
    def is_parquet(self) -> bool:
        """Whether its ending says that it is a Parquet file."""
        return self.suffix == ".parquet"

    @property
    def unpacked_bytes(self) -> int:
        """About how long it is once it is unpacked.

        Raises:
            UserError: its archive cannot be read.
        """
        size = self.path.stat().st_size
        if self.member is not None:
            try:
                with open_zip(self.path) as archive:
                    size = archive.getinfo(self.member).file_size
            except (zipfile.BadZipFile, OSError) as error:
                raise UserError(
                    f"{self}: damaged archive ({brief(error)}). Get it again."
                ) from None
        return size * (_PACKING if self.is_packed else 1)

    @property
    def _whole_name(self) -> PurePosixPath:
        return PurePosixPath(self.path.as_posix() if self.member is None else self.member)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The bytes of this part, uncompressed.

        Raises:
            UserError: it cannot be read, or an archive is none, is damaged, is encrypted or is a
                bomb.
        """
        try:
            with self._stored() as stream:
                if self.is_packed:
                    with PACKED[self._whole_name.suffix.lower()](stream) as unpacked:
                        yield cast(BinaryIO, io.BufferedReader(_Bounded(unpacked, self), 1 << 20))
                else:
                    yield stream
        except (*_DAMAGE, gzip.BadGzipFile) as error:
            raise UserError(f"{self}: damaged archive ({brief(error)}). Get it again.") from None
        except (OSError, RuntimeError, NotImplementedError) as error:
            raise UserError(f"{self}: cannot be read ({brief(error)}).") from None

    @contextmanager
    def _stored(self) -> Iterator[BinaryIO]:
        if self.member is None:
            with self.path.open("rb") as stream:
                yield stream
        else:
            with open_zip(self.path) as archive, _member(archive, self) as member:
                yield member


@dataclass(frozen=True)
class TableFiles:
    """The files of one table, whose rows follow one another: mostly it is one."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        first = self.parts[0]
        if len(self.parts) == 1:
            return str(first)
        return str(first.path.parent if first.member is None else first.path)


class _Bounded(io.RawIOBase):
    """What comes out of a compressed file, which does not say how much it is, until too much."""

    def __init__(self, stream: BinaryIO, part: Part) -> None:
        self._stream = stream
        self._part = part
        self._packed = part.path.stat().st_size
        self._left = max(_BOMB_BYTES, _BOMB_RATIO * self._packed)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise UserError(
                f"{self._part}: unpacks without end from {self._packed:,} bytes, as no ratings "
                f"do. Unpack it and look whether it is what it should be."
            )
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive ``path``.

    Raises:
        BadZipFile: it is none, or is damaged.
        OSError: it cannot be read.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (ValueError, NotImplementedError, struct.error) as error:  # of a damaged directory
        raise zipfile.BadZipFile(str(error)) from None
    with archive:
        yield archive


def _member(archive: zipfile.ZipFile, part: Part) -> BinaryIO:
    """The bytes of ``part``; zipfile gives no more of them than the archive says it has."""
    entry = archive.getinfo(cast(str, part.member))
    packed = min(entry.compress_size, part.path.stat().st_size)
    if entry.file_size > max(_BOMB_BYTES, _BOMB_RATIO * packed):
        raise UserError(
            f"{part}: {entry.file_size:,} bytes packed into {packed:,}, as no ratings are. "
            f"Unpack it and look whether it is what it should be."
        )
    try:
        return cast(BinaryIO, archive.open(entry))
    except ValueError as error:  # of a damaged name or place
        raise zipfile.BadZipFile(str(error)) from None
