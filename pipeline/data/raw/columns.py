"""Which column of a table is which: by its name, by its place, or as somebody says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pipeline.data.raw.files import Part
from pipeline.data.raw.layouts import Sample, is_number, number, width
from pipeline.errors import UserError, brief

RATINGS = ("user", "item", "rating", "timestamp")
"""The columns of a table of ratings, in the order of a file that does not name them."""

ALIASES: Mapping[str, tuple[str, ...]] = {
    "user": (
        "user", "userid", "uid", "usr", "reviewerid", "reviewer", "customerid", "customer",
        "visitorid", "visitor", "memberid", "accountid", "profileid", "sessionid", "session",
    ),
    "item": (
        "item", "itemid", "movieid", "iid", "movie", "filmid", "film", "productid", "product",
        "asin", "parentasin", "isbn", "bookid", "book", "artistid", "artist", "trackid", "track",
        "songid", "song", "albumid", "gameid", "game", "businessid", "articleid", "newsid",
        "videoid", "recipeid", "animeid", "venueid", "placeid", "poi", "poiid", "contentid", "sku",
    ),
    "rating": (
        "rating", "score", "value", "stars", "overall", "ratingvalue", "bookrating", "weight",
        "hours", "playtime", "plays", "playcount", "listens", "count", "clicks", "views",
        "quantity", "purchase", "purchases",
    ),
    "timestamp": (
        "timestamp", "ts", "time", "datetime", "unixreviewtime", "unixtime", "date", "reviewtime",
        "createdat", "reviewdate", "ratingtime", "eventtime", "invoicedate", "orderdate", "when",
    ),
}  # fmt: skip
"""The names that columns may have, in order of preference: in small letters, only letters and
digits."""

_EPOCH = 631_152_000, 4_102_444_800  # 1990 to 2100 UTC [s]
_TYPE = re.compile(r":(token|token_seq|float|float_seq)$")
_SHOWN = 8
_MANY = 10  # rows that show whether a column counts them
INDEX = "index"
"""The name of a column that counts the rows, where no line names it."""


def plain(name: str) -> str:
    """A name as it is compared: without case, type, blanks, - and _."""
    return re.sub(r"[\s_.-]", "", _TYPE.sub("", name.strip().strip("\ufeff").lower()))


def read_choice(columns: str | None) -> dict[str, str | None]:
    """What ``--columns`` says: the name or number for each column, None for one to leave out.

    Raises:
        UserError: it is not written as user=NAME,item=NAME,...
    """
    chosen: dict[str, str | None] = {}
    for word in (columns or "").split(","):
        column, equals, name = (part.strip() for part in word.partition("="))
        if not word.strip():
            continue
        optional = column not in ("user", "item")
        if column not in RATINGS or not equals or not name:
            raise UserError(
                f"--columns: {brief(repr(word))} is not understood. Expected any of "
                f"{', '.join(RATINGS)}, each with the name of a column in the file or its number "
                f"from 1, as in --columns user=userID,item=3,rating=none."
            )
        chosen[column] = None if optional and name.lower() == "none" else name
    return chosen


def name_columns(sample: Sample, columns: str | None = None) -> tuple[str, ...] | None:
    """Names for the columns of ratings whose first row names none; None where it names them.

    Up to four columns are user, item, rating and timestamp in this order, but for a third that
    holds seconds since 1970 where the others do not; a first one that counts the rows is beside
    them. More are numbered from 1.
    """
    if not sample:
        return None
    first = {plain(cell) for cell in sample[0]}
    known = {column for column, names in ALIASES.items() if first & set(names)}
    said = [name for name in read_choice(columns).values() if name is not None]
    if {"user", "item"} <= known or any(plain(n) in first for n in said if not n.isdigit()):
        return None
    numbers = any(map(is_number, sample[0]))
    if not numbers and (known or not (said and all(name.isdigit() for name in said))):
        return None
    if not numbers and any(map(is_number, sample[-1])):
        return None  # numbers below words: these are names
    count = width(sample)
    if count > 2 and not said and _counts_rows(sample):
        rest = name_columns([row[1:] for row in sample], columns)
        return None if rest is None else (INDEX, *rest)
    if count > len(RATINGS):
        return tuple(str(number) for number in range(1, count + 1))
    moments = [_holds_moments(sample, place, count) for place in range(count)]
    if count > 2 and moments[2] and not (count > 3 and moments[3]):
        return ("user", "item", "timestamp", "rating")[:count]
    return RATINGS[:count]


def _counts_rows(sample: Sample) -> bool:
    """Whether the first cells of many rows are 0, 1, 2, ... or 1, 2, 3, ..."""
    first = [row[0].strip() for row in sample if row]
    return len(first) >= _MANY and any(
        first == [str(row + start) for row in range(len(first))] for start in (0, 1)
    )


def _holds_moments(sample: Sample, place: int, count: int) -> bool:
    cells = [row[place] for row in sample if len(row) == count]
    low, high = _EPOCH
    likely = sum(low <= (number(cell) or 0) <= high for cell in cells)
    return 2 * likely > len(cells)


def find_columns(
    part: Part,
    header: Sequence[str],
    aliases: Mapping[str, tuple[str, ...]],
    chosen: Mapping[str, str | None] | None = None,
    optional: Sequence[str] = (),
) -> dict[str, int]:
    """The position in ``header`` of every column of ``aliases``, by ``chosen`` before its aliases.

    Raises:
        UserError: one that is not ``optional`` is missing, stands there twice under the same
            name, or what was chosen is not there.
    """
    chosen = chosen or {}
    names = [plain(name) for name in header]
    found = {
        column: _place(part, header, column, name)
        for column, name in chosen.items()
        if name is not None
    }
    taken = set(found.values())
    for column, known in aliases.items():
        if column in chosen:
            continue
        name = next((n for n in known if n in names and names.index(n) not in taken), None)
        if name is None:
            continue
        if names.count(name) > 1:
            raise UserError(
                f"{part}: column {name!r} stands there more than once. Keep one, or say by its "
                f"number which is meant: --columns {column}={names.index(name) + 1}."
            )
        found[column] = names.index(name)
    missing = [c for c in aliases if c not in found and c not in optional]
    if missing:
        raise UserError(_missing(part, header, aliases, missing))
    return {column: found[column] for column in aliases if column in found}


def _place(part: Part, header: Sequence[str], column: str, name: str) -> int:
    """Where the column that somebody calls ``name`` is."""
    exact = [at for at, other in enumerate(header) if other.strip().strip("\ufeff") == name]
    like = [at for at, other in enumerate(header) if plain(other) == plain(name)]
    for places in (exact, like):
        if len(places) == 1:
            return places[0]
    if name.isdigit() and 1 <= int(name) <= len(header):
        return int(name) - 1
    what = "more than one column is called" if like else "there is no column"
    raise UserError(
        f"{part}: {what} {brief(repr(name))}, which --columns says is the {column}. There are "
        f"{_listed(header)}; give the name or the number, from 1, of one."
    )


def _listed(header: Sequence[str]) -> str:
    return brief(", ".join(f"{name.strip()!r}" for name in header), 500) or "none"


def _missing(
    part: Part, header: Sequence[str], aliases: Mapping[str, tuple[str, ...]], missing: list[str]
) -> str:
    if "user" in aliases and list(header) == [str(at + 1) for at in range(len(header))]:
        return (
            f"{part}: no line names its {len(header)} columns. Say which are which by their "
            f"numbers, as in --columns user=1,item=2,rating=3,timestamp=4."
        )
    expected = "; ".join(f"{c} (or {', '.join(aliases[c][1:_SHOWN])}, ...)" for c in missing)
    is_or_are = "is" if len(missing) == 1 else "are"
    text = (
        f"{part}: the first line must name the columns, and {', '.join(missing)} {is_or_are} "
        f"missing. Columns found: {_listed(header)}. Expected: {expected}."
    )
    if "user" not in aliases:
        return text
    return (
        f"{text} Or say which they are: --columns user=NAME,item=NAME,rating=NAME, with names or "
        f"numbers from 1."
    )
