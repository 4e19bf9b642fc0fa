"""Damage to files, and what reading a damaged file may come to: a result or a refusal."""

from __future__ import annotations

import io
import os
import re
import resource
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pipeline.errors import UserError

FUZZ = int(os.environ.get("FUZZ", "1"))
"""How many times as many examples to try, and then at random: FUZZ=20 looks for new faults."""
SECONDS = 20
MEMORY = 3 << 30  # bytes: files are a few kilobytes, but pyarrow's allocator reserves a lot at once
LONGEST = 5000  # characters of a message

WORDS = [
    b"", b"0", b"-1", b"1e999", b"nan", b"inf", b"-inf", b"null", b"true", b"[]", b"{}", b"\0",
    b"9" * 25, b"9" * 5000, b"'", b'"', b",", b":", b"\t", b"\n", b"\r", b"\r\n", b"\xef\xbb\xbf",
    b"\xff", b"\xed\xa0\x80", b"\\ud800", b"%s", b"../..", b"\x1b[2J", "\u0663\u202e".encode(),
    b"[" * 3000, b"{" * 3000, b"a" * 300, b"2024-13-45",
]  # fmt: skip


def fuzzed(examples: int) -> settings:
    """Settings of a test that tries ``examples``, always the same ones unless FUZZ is set."""
    return settings(
        max_examples=examples * FUZZ,
        derandomize=FUZZ == 1,
        deadline=SECONDS * 1000,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def _cut_off(draw: st.DrawFn, content: bytes, _: Sequence[bytes]) -> bytes:
    return content[: _place(draw, content)]


def _cut_out(draw: st.DrawFn, content: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _piece(draw, content)
    return content[:start] + content[end:]


def _repeat(draw: st.DrawFn, content: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _piece(draw, content)
    return content[:end] + content[start:end] * draw(st.integers(1, 20)) + content[end:]


def _splice(draw: st.DrawFn, content: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _piece(draw, content)
    place = _place(draw, content)
    return content[:place] + content[start:end] + content[place + end - start :]


def _flip(draw: st.DrawFn, content: bytes, _: Sequence[bytes]) -> bytes:
    flipped = bytearray(content)
    for _each in range(draw(st.integers(1, 5)) if content else 0):
        place = min(_place(draw, content), len(content) - 1)
        flipped[place] ^= draw(st.integers(1, 255))
    return bytes(flipped)


def _insert(draw: st.DrawFn, content: bytes, words: Sequence[bytes]) -> bytes:
    place = _place(draw, content)
    piece = draw(st.one_of(st.sampled_from(words), st.binary(max_size=20)))
    return content[:place] + piece + content[place:]


def _replace(draw: st.DrawFn, content: bytes, words: Sequence[bytes]) -> bytes:
    """Another word in the place of a word or number."""
    found = list(re.finditer(rb"[\w.+-]+", content))
    if not found:
        return content
    start, end = found[draw(st.integers(0, len(found) - 1))].span()
    return content[:start] + draw(st.sampled_from(words)) + content[end:]


_DAMAGES: list[Callable[[st.DrawFn, bytes, Sequence[bytes]], bytes]] = [
    _cut_off, _cut_out, _repeat, _splice, _flip, _insert, _replace,
]  # fmt: skip


def _place(draw: st.DrawFn, content: bytes) -> int:
    """Anywhere, near the ends too, where binary formats keep what they are about."""
    near = draw(st.sampled_from([64, 1 << 30]))
    place = draw(st.integers(0, min(near, len(content))))
    return len(content) - place if draw(st.booleans()) else place


def _piece(draw: st.DrawFn, content: bytes) -> tuple[int, int]:
    start, end = sorted((_place(draw, content), _place(draw, content)))
    return start, end


@st.composite
def damaged(draw: st.DrawFn, content: bytes, words: Sequence[bytes] = ()) -> bytes:
    """``content`` after one to four damages; ``words`` are more of those put in. Or mere noise."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=200))
    for _ in range(draw(st.integers(1, 4))):
        content = draw(st.sampled_from(_DAMAGES))(draw, content, [*WORDS, *words])
    return content


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


@contextmanager
def read_or_refused(file: Path) -> Iterator[None]:
    """Reading succeeds, or is refused in few words that name the file; within bounded memory.

    Nothing is printed either, as Python does for an exception that cannot be raised.
    """
    with _bounded_memory(), pytest.MonkeyPatch.context() as patch:
        unraised: list[object] = []
        patch.setattr(sys, "unraisablehook", lambda told: unraised.append(told.exc_value))
        try:
            yield
        except UserError as error:
            message = str(error)
            assert file.name in message
            assert len(message) < LONGEST
            assert all(text.isprintable() for text in message.split("\n")), message
        assert not unraised


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """A reader that takes much more than there is now gets a MemoryError, which is no refusal."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
