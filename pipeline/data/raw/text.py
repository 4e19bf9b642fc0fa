"""Text cut into rows and cells, whatever cuts it.

UTF-16 is read where a mark at the start says so; everything else has to be UTF-8.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from pipeline.data.raw.files import Part
from pipeline.errors import UserError, brief

UNIT = "\x1f"  # one character in the place of "::", which the parsers cannot take
_START, _BUFFER = 1 << 16, 1 << 20  # bytes
_MARKS = {".gz": b"\x1f\x8b", ".zip": b"PK\x03\x04", ".bz2": b"BZh", ".xz": b"\xfd7zXZ\0"}
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Layout:
    """How a text file is cut into cells."""

    separator: str
    spelled: str
    quoted: bool = True
    columns: tuple[str, ...] | None = None  # None: the first line names them


LAYOUTS: Mapping[str, Layout] = {
    ".csv": Layout(",", "','"),
    ".tsv": Layout("\t", "tabs"),
    ".inter": Layout("\t", "tabs", quoted=False),
    ".item": Layout("\t", "tabs", quoted=False),
    ".dat": Layout(UNIT, "'::'", quoted=False),
    ".data": Layout("\t", "tabs", quoted=False),
}
"""How files with these endings are cut, as a rule."""


def rows(
    part: Part, layout: Layout, encoding: str = "utf-8-sig"
) -> Iterator[tuple[int, list[str]]]:
    """The line on which each row starts, and its fields; blank lines are counted and skipped.

    Raises:
        UserError: the text cannot be cut, or not be read.
    """
    with open_text(part, layout) as stream:
        yield from _cut(part, stream, layout, encoding)


def read_start(part: Part) -> bytes:
    """The first lines of a text, whole ones unless the first has no end, in UTF-8."""
    with open_text(part, Layout("", "")) as stream:
        start = stream.read(_START)
    whole = start[: start.rfind(b"\n") + 1]
    return whole if len(start) == _START and whole else start


def cut_start(part: Part, start: bytes, layout: Layout) -> Iterator[list[str]]:
    """The fields of the rows of ``start``, from ``read_start``.

    Raises:
        UserError: the text cannot be cut.
    """
    if layout.separator == UNIT:
        start = start.replace(b"::", UNIT.encode())
    return (fields for _, fields in _cut(part, io.BytesIO(start), layout, "utf-8-sig"))


def _cut(
    part: Part, stream: BinaryIO, layout: Layout, encoding: str
) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(
        io.TextIOWrapper(stream, encoding, errors="replace", newline=""),
        delimiter=layout.separator,
        quoting=csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE,
    )
    start = 1
    try:
        for fields in reader:
            if fields:
                yield start, fields
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{part}, line {start}: cannot be cut into columns ({brief(error)})."
        ) from None


def require_text(part: Part) -> None:
    """Refuse what is no table, whatever its name says.

    Raises:
        UserError: the file is empty, binary or a web page.
    """
    with part.open() as stream:
        start = stream.read(4096)
    if start.startswith(_UTF_16):
        start = start[: len(start) & ~1].decode("utf-16", errors="replace").encode()
    if not start.strip():
        raise UserError(f"{part}: is empty. Expected a table of ratings.")
    for ending, mark in _MARKS.items():
        if start.startswith(mark):
            raise UserError(
                f"{part}: holds what is packed, without the ending that says so. Call it "
                f"{part.name.name}{ending}."
            )
    if b"\0" in start:
        raise UserError(
            f"{part}: is no text file, whatever its name says. Save it as text in UTF-8."
        )
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(
            f"{part}: is a web page saved under this name, no table. Download the file itself."
        )


@contextmanager
def open_text(part: Part, layout: Layout) -> Iterator[BinaryIO]:
    """The bytes of a text, in UTF-8 unless it is something else unsaid, with one separator."""
    with part.open() as stream:
        text = stream
        if cast(io.BufferedReader, stream).peek(2).startswith(_UTF_16):
            text = io.BufferedReader(_Recoded(text), _BUFFER)
        if layout.separator == UNIT:
            text = io.BufferedReader(_Colons(text), _BUFFER)
        yield text


class _Changed(io.RawIOBase):
    """A stream of bytes, changed on the way."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            read = self._stream.read(len(buffer))
            self._ready = self._change(read)
            if not read:
                break
        given = self._ready[: len(buffer)]
        self._ready = self._ready[len(given) :]
        buffer[: len(given)] = given
        return len(given)

    def _change(self, data: bytes) -> bytes:
        """What is ready once ``data`` is there too; without ``data``, all that is left."""
        raise NotImplementedError


class _Recoded(_Changed):
    """UTF-16 as UTF-8."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self._decoder = codecs.getincrementaldecoder("utf-16")(errors="replace")

    def _change(self, data: bytes) -> bytes:
        return self._decoder.decode(data, final=not data).encode()


class _Colons(_Changed):
    """A stream with "::" replaced, wherever the borders between reads fall."""

    _held = b""  # colons at the end of the last read: the next may begin with another

    def _change(self, data: bytes) -> bytes:
        whole = self._held + data
        complete = whole.rstrip(b":") if data else whole
        self._held = whole[len(complete) :]
        return complete.replace(b"::", UNIT.encode())
