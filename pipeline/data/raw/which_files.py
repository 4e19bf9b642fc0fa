"""Which files to read: ratings, and the titles beside them, in a file, a folder or a zip.

In a folder or zip the ratings are, in this order,

    the table that --table names
    train.csv, test.csv, meta.json: an existing split
    the one file called ratings.*, u.data or *.inter
    trainingset.tsv and testset.tsv, train.txt and test.txt, ...: an existing split
    the only table
    the only table whose columns have the names of a user and an item
    several such that are called alike but for numbers: part-0.parquet, part-1.parquet, ...
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.data.raw.columns import ALIASES, plain
from pipeline.data.raw.files import Part, TableFiles, open_zip
from pipeline.data.raw.formats import find_ratings, read_header
from pipeline.data.raw.items import find_titles
from pipeline.data.raw.reading import AS_IT_IS, Reading
from pipeline.data.raw.text import LAYOUTS
from pipeline.errors import UserError, brief

KNOWN = (*LAYOUTS, ".parquet")
"""Endings of tables."""
_TABLES = (*KNOWN, ".txt", "")
"""Endings of what may be a table."""
_OTHER = (
    ".xlsx", ".xls", ".ods", ".pdf", ".json", ".jsonl", ".db", ".sqlite", ".7z", ".rar", ".tar",
    ".tgz", ".pkl", ".npz", ".npy", ".mat", ".h5", ".html", ".xml", ".yaml", ".yml", ".toml", ".py",
    ".md",
)  # fmt: skip
"""Endings of what is no table of text."""
_SPLIT = re.compile(r"(?:^|(?<=[._-]))(train|test)(?:ing)?[._-]?(?:set|data)?$")

_VALIDATION = re.compile(r"(?:^|(?<=[._-]))(valid|validation|val|dev)[._-]?(?:set|data)?$")
"""Of a third part, which has no use here: validation is inside the training part."""


@dataclass(frozen=True)
class ChosenFiles:
    """What to read of a file, folder or zip: one table or an existing split, and the titles."""

    tables: tuple[TableFiles, ...]  # one table, or train and test
    items: Part | None
    notes: tuple[str, ...] = ()


def choose(path: Path, reading: Reading = AS_IT_IS) -> ChosenFiles:
    """Find the ratings in a file, a folder or a zip.

    Raises:
        UserError: no file or several could be meant; what is there is listed.
    """
    if not path.is_dir() and path.suffix.lower() != ".zip":
        return _file(path, reading)
    parts = _parts(path)
    tables, notes = _tables(path, parts, reading)
    chosen = [part for table in tables for part in table.parts]
    first = chosen[0]
    if first.member is None and first.suffix == ".zip":
        return choose(first.path, reading)
    folder = first.name.parent
    beside = [part for part in parts if part.name.parent == folder and part not in chosen]
    named = {part.name.name: part for part in beside}
    names = _item_names(first.name.name if len(chosen) == 1 else "ratings.csv")
    items = next((named[name] for name in names if name in named), None)
    return ChosenFiles(tables, items or _titles(first, beside, reading), notes)


def _file(path: Path, reading: Reading) -> ChosenFiles:
    part = Part(path)
    if reading.table is not None:
        raise UserError(f"{path}: is one file, so that --table names nothing in it. Leave it out.")
    if part.suffix in _OTHER:
        raise UserError(
            f"{path}: unknown kind of file. Expected a folder, a .zip, a .parquet, or text in "
            f"rows and columns. Save it as .csv."
        )
    siblings = [Part(path.with_name(name)) for name in _item_names(part.name.name)]
    items = next((sibling for sibling in siblings if sibling.path.is_file()), None)
    return ChosenFiles((TableFiles((part,)),), items)


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


def _tables(
    path: Path, parts: list[Part], reading: Reading
) -> tuple[tuple[TableFiles, ...], tuple[str, ...]]:
    tables, notes = _chosen(path, parts, reading)
    return tuple(TableFiles(files) for files in tables), notes


def _chosen(
    path: Path, parts: list[Part], reading: Reading
) -> tuple[tuple[tuple[Part, ...], ...], tuple[str, ...]]:
    """The files of each table, and what to say of that choice."""
    if reading.table is not None:
        return ((_called(path, parts, reading.table),),), ()
    named = {part.name.name: part for part in parts}
    if {"train.csv", "test.csv", "meta.json"} <= named.keys():
        return ((named["train.csv"],), (named["test.csv"],)), ()
    known = [part for part in parts if part.suffix in KNOWN]
    wanted = [p for p in known if p.name.stem == "ratings" or p.suffix == ".inter"]
    wanted += [part for part in known if part.name.name == "u.data"]
    if len(wanted) == 1:
        return ((wanted[0],),), ()
    split = _split(parts)
    if split is not None:
        names = " and ".join(part.name.name for part in split)
        third = [part.name.name for part in parts if _VALIDATION.search(part.name.stem.lower())]
        unused = f"; not used: {', '.join(third)}" if third else ""
        note = f"{path}: {names} are taken as a split that is there already{unused}"
        return tuple((part,) for part in split), (note,)
    if len(known) == 1 and not wanted:
        return ((known[0],),), ()
    zips = [part for part in parts if part.member is None and part.suffix == ".zip"]
    if len(zips) == 1 and not known:
        return ((zips[0],),), ()
    headers = _headers([p for p in wanted or parts if p.suffix in _TABLES], reading)
    candidates = [part for part in headers if _has_ratings(part, headers[part], reading)]
    if len(candidates) == 1:
        return ((candidates[0],),), ()
    if alike := _alike(parts, candidates):
        first, last = alike[0].name.name, alike[-1].name.name
        return (alike,), (
            f"{path}: {len(alike):,} files, {first} to {last}, are read as one table",
        )
    headers = {part: headers[part] for part in headers if part in candidates or part in known}
    raise UserError(_unclear(path, parts, headers, candidates, bool(candidates or known or zips)))


def _called(path: Path, parts: list[Part], table: str) -> Part:
    """The part with this name, with or without its folder and endings."""
    spelled = {
        part: (str(part.name), part.name.name, part.name.stem, _file_name(part)) for part in parts
    }
    for place in range(4):
        found = [part for part, names in spelled.items() if names[place] == table]
        if len(found) == 1:
            return found[0]
    several = "several files are" if any(table in n for n in spelled.values()) else "no file is"
    raise UserError(
        f"{path}: {several} called {brief(repr(table))}, as --table says. It contains "
        f"{_listed(parts)}."
    )


def _split(parts: list[Part]) -> tuple[Part, ...] | None:
    """The only two tables that are called train and test, and otherwise alike."""
    halves: dict[tuple[str, ...], dict[str, Part]] = {}
    for part in parts:
        stem = part.name.stem.lower()
        found = _SPLIT.search(stem)
        if found and part.suffix in _TABLES:
            key = str(part.name.parent), stem[: found.start()], part.suffix
            halves.setdefault(key, {})[found[1]] = part
    pairs = [pair for pair in halves.values() if len(pair) == 2]
    return (pairs[0]["train"], pairs[0]["test"]) if len(pairs) == 1 else None


def _alike(parts: list[Part], candidates: list[Part]) -> tuple[Part, ...]:
    """The files that are called as all ``candidates`` are but for numbers, in the order of these.

    One of them that cannot be read is among them: whoever reads them says so.
    """
    patterns = {_pattern(part) for part in candidates}
    if len(patterns) != 1:
        return ()
    return tuple(sorted((p for p in parts if _pattern(p) in patterns), key=_numbers))


def _pattern(part: Part) -> str:
    return re.sub(r"\d+", "#", str(part.name.with_name(_file_name(part))))


def _numbers(part: Part) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", _file_name(part))]


def _headers(parts: list[Part], reading: Reading) -> dict[Part, list[str]]:
    """The names of the columns of all that can be read as a table."""
    headers = {}
    for part in parts:
        try:
            headers[part] = read_header(part, reading)[1]
        except UserError:
            continue
    return headers


def _has_ratings(part: Part, header: Sequence[str], reading: Reading) -> bool:
    try:
        found = find_ratings(part, header, reading)
    except UserError:
        return False
    return len(found) > 2 or part.suffix in KNOWN or reading.columns is not None


def _titles(table: Part, beside: list[Part], reading: Reading) -> Part | None:
    """The only table beside the ratings that has titles of items, and no users."""
    users = set(ALIASES["user"])
    headers = _headers([part for part in beside if part.suffix in KNOWN], reading)
    found = [
        part
        for part, header in headers.items()
        if not users & set(map(plain, header)) and {"item", "title"} <= find_titles(header).keys()
    ]
    return found[0] if len(found) == 1 else None


def _unclear(
    path: Path,
    parts: list[Part],
    headers: dict[Part, list[str]],
    candidates: list[Part],
    is_any: bool,
) -> str:
    found = "several files could hold" if is_any else "no file holds"
    if not headers:
        return (
            f"{path}: {found} the ratings. It contains {_listed(parts)}. Expected one file called "
            f"ratings.csv, ratings.tsv, ratings.parquet, ratings.dat, u.data or *.inter, or its "
            f"name in --table."
        )
    lines = [f"\n  {part.name}: {brief(', '.join(names), 100)}" for part, names in headers.items()]
    first = next((part for part in candidates if part in headers), next(iter(headers)))
    nameless = " and its columns: --columns user=NAME,item=NAME" if first not in candidates else ""
    return (
        f"{path}: {found} the ratings. It contains {_listed(parts)}. Say which is meant, as in "
        f"--table {first.name.stem}{nameless}. What their columns are called:{''.join(lines[:20])}"
    )


def _file_name(part: Part) -> str:
    return PurePosixPath(part.member or part.path).name


def _listed(parts: list[Part]) -> str:
    names = (part.member or part.path.name for part in parts)
    return brief(", ".join(names), 500) or "nothing"


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
