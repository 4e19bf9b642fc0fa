"""Which file to read: ratings, and the titles beside them, in a file, a folder or a zip.

Nothing is unpacked to disk: members of a zip are read from within it.

    *.csv *.tsv *.parquet   named columns
    *.dat                   user::item::rating::timestamp, no header (MovieLens 1M)
    u.data                  user, item, rating, timestamp between tabs, no header (MovieLens 100K)
    *.inter                 tabs, typed header such as user_id:token (RecBole)
"""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from pipeline.errors import UserError, brief

COLUMNS = ("user", "item", "rating", "timestamp")
UNIT = "\x1f"  # one character in the place of "::", which the parsers cannot take

_BOMB_BYTES, _BOMB_RATIO = 1 << 28, 100  # ratings and titles shrink to a quarter, at most a tenth
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError)


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
    ".dat": Layout(UNIT, "'::'", quoted=False, columns=COLUMNS),
    ".data": Layout("\t", "tabs", quoted=False, columns=COLUMNS),
}
KNOWN = (*LAYOUTS, ".parquet")


@dataclass(frozen=True)
class Part:
    """One file that holds a table: on disk, or a member of a zip."""

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}!{brief(self.member)}"

    @property
    def name(self) -> PurePosixPath:
        return PurePosixPath(self.path.as_posix() if self.member is None else self.member)

    @property
    def layout(self) -> Layout | None:
        """How its text is cut into cells; None for Parquet."""
        return LAYOUTS.get(self.name.suffix.lower())

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The bytes of this part.

        Raises:
            UserError: it cannot be read, or the zip is none, is damaged, is encrypted or is a bomb.
        """
        try:
            if self.member is None:
                with self.path.open("rb") as stream:
                    yield stream
            else:
                with open_zip(self.path) as archive, _member(archive, self) as member:
                    yield member
        except _DAMAGE as error:
            raise UserError(
                f"{self}: damaged zip archive ({brief(error)}). Get it again."
            ) from None
        except (OSError, RuntimeError, NotImplementedError) as error:
            raise UserError(f"{self}: cannot be read ({brief(error)}).") from None


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


@dataclass(frozen=True)
class Choice:
    """What to read of a file, folder or zip: one table or an existing split, and the titles."""

    tables: tuple[Part, ...]  # one table, or train and test
    items: Part | None


def choose(path: Path) -> Choice:
    """Find the ratings in a file, a folder or a zip.

    A folder or zip with train.csv, test.csv and meta.json is an existing split. Otherwise the
    ratings are the one file called ratings.*, u.data or *.inter, else the only data file.

    Raises:
        UserError: no file or several could be meant; what is there is listed.
    """
    if not path.is_dir() and path.suffix.lower() != ".zip":
        if path.suffix.lower() not in KNOWN:
            raise UserError(
                f"{path}: unknown kind of file. Expected a folder, a .zip or one of "
                f"{', '.join(KNOWN)}."
            )
        siblings = [Part(path.with_name(name)) for name in _item_names(path.name)]
        return Choice(
            (Part(path),),
            next((part for part in siblings if part.path.is_file()), None),
        )
    parts = _parts(path)
    named = {part.name.name: part for part in parts}
    if {"train.csv", "test.csv", "meta.json"} <= named.keys():
        tables: tuple[Part, ...] = (named["train.csv"], named["test.csv"])
    else:
        tables = (_only_table(path, parts),)
    if tables[0].member is None and tables[0].name.suffix == ".zip":
        return choose(tables[0].path)
    folder = tables[0].name.parent
    beside = {part.name.name: part for part in parts if part.name.parent == folder}
    names = _item_names(tables[0].name.name if len(tables) == 1 else "ratings.csv")
    return Choice(tables, next((beside[name] for name in names if name in beside), None))


def _parts(path: Path) -> list[Part]:
    if path.is_dir():
        return [Part(file) for file in sorted(path.iterdir()) if file.is_file()]
    try:
        with open_zip(path) as archive:
            names = [name for name in archive.namelist() if name and not name.endswith("/")]
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(
            f"{path}: is no readable zip archive ({brief(error)}). Get it again."
        ) from None
    return [Part(path, name) for name in names if not name.startswith("__MACOSX/")]


def _only_table(path: Path, parts: list[Part]) -> Part:
    known = [part for part in parts if part.name.suffix.lower() in KNOWN]
    wanted = [p for p in known if p.name.stem == "ratings" or p.name.suffix == ".inter"]
    wanted += [part for part in known if part.name.name == "u.data"]
    zips = [part for part in parts if part.member is None and part.name.suffix == ".zip"]
    for candidates in (wanted, known, zips):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            break
    names = [str(part.name) if part.member else part.name.name for part in parts]
    listed = brief(", ".join(names), 500) or "nothing"
    found = "several files could hold" if candidates else "no file holds"
    raise UserError(
        f"{path}: {found} the ratings. It contains {listed}. Expected one file called "
        f"ratings.csv, ratings.tsv, ratings.parquet, ratings.dat, u.data or *.inter."
    )


def _item_names(name: str) -> list[str]:
    """Names of the file with the titles that goes with ratings called ``name``."""
    file = PurePosixPath(name)
    if file.suffix == ".inter":
        return [f"{file.stem}.item"]
    if name == "u.data":
        return ["u.item"]
    if file.stem != "ratings":
        return []
    suffixes = (".dat",) if file.suffix == ".dat" else (".csv", ".tsv", ".parquet")
    return [stem + suffix for stem in ("movies", "items") for suffix in suffixes]
