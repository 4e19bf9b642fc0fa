"""The rows of a table of ratings, checked: the good ones, and what to say of the bad ones.

What is judged of whole columns is found first, so that rows can be checked piece by piece. Only
where a row is bad is the file read once more, line by line, to say where.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.raw.columns import ALIASES, plain
from pipeline.data.raw.files import Part
from pipeline.data.raw.formats import BadRow, Chunk, RawTable, bad_rows
from pipeline.data.raw.numbering import Mask
from pipeline.data.raw.times import TimeCells, expected, find_clock
from pipeline.errors import UserError, brief

_SHOWN = 5
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


class CheckedTable:
    """A table of ratings of which the good rows can be had."""

    def __init__(self, raw: RawTable, chunks: Callable[[], Iterable[Chunk]]) -> None:
        """``chunks`` are the rows of ``raw``, from the first one every time."""
        self.raw, self._chunks = raw, chunks
        self._last: tuple[Chunk, TimeCells] | None = None
        self.rated = "rating" in raw.positions
        self.clock = None
        if "timestamp" in raw.positions:
            kinds = {chunk.cells.column("timestamp").type for chunk in islice(chunks(), 1)}
            self.clock = find_clock(
                lambda: (self._times(chunk) for chunk in chunks()),
                are_dates=any(map(pa.types.is_temporal, kinds)),
            )
        self.dropped = 0
        """Rows that ``good_rows`` has left out, of the ``rows`` that it has seen."""
        self.rows = 0
        self._ragged = 0
        self._first_bad: dict[Part, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        self._bad: Counter[str] = Counter()

    def good_rows(self) -> Iterator[Any]:
        """The good rows as Arrow tables with the columns of ratings, in the order of the files.

        Ids are text without blanks around it, or int64. A column that is not there is 1 (rating,
        float32) or 0 (timestamp, int64 seconds) everywhere.

        Raises:
            UserError: a column holds no such kind of values.
        """
        for chunk in self._chunks():
            yield self._good(chunk)
        self._last = None

    def require_good(self, *, all_of_them: bool) -> None:
        """Refuse, once all rows have been seen, a table without good ones, or with a bad one.

        Raises:
            UserError: the first bad ones are named with line, column, value and what was expected.
        """
        if self.dropped and all_of_them:
            raise UserError(self._report())
        if self.dropped == self.rows:
            raise UserError(f"{self.raw.files}: holds no {'good ' * bool(self.dropped)}ratings.")

    def _good(self, chunk: Chunk) -> Any:
        n_rows = chunk.cells.num_rows
        user, item = (_trimmed(self.raw, chunk, name) for name in ("user", "item"))
        bad = {"user": _missing(user), "item": _missing(item)}
        rating, seconds = np.ones(n_rows, np.float32), np.zeros(n_rows, np.int64)
        if self.rated:
            with np.errstate(over="ignore"):
                rating = _numbers(self.raw, chunk, "rating").astype(np.float32)
            bad["rating"] = ~np.isfinite(rating)
        if self.clock is not None:
            seconds, bad["timestamp"] = self.clock.read(self._times(chunk))
        any_bad = np.logical_or.reduce(list(bad.values()))
        self.rows += n_rows + chunk.ragged
        self.dropped += chunk.ragged
        self._ragged += chunk.ragged
        if any_bad.any():
            self._note(chunk, bad, any_bad)
            good = pa.array(~any_bad)
            user, item = user.filter(good), item.filter(good)
            rating, seconds = rating[~any_bad], seconds[~any_bad]
        return pa.table({"user": user, "item": item, "rating": rating, "timestamp": seconds})

    def _times(self, chunk: Chunk) -> TimeCells:
        """The last ones are kept: where all rows are one chunk, they are read once."""
        if self._last is None or self._last[0] is not chunk:
            column = chunk.cells.column("timestamp")
            text = column if pa.types.is_string(column.type) else None
            self._last = chunk, TimeCells(_numbers(self.raw, chunk, "timestamp"), text)
        return self._last[1]

    def _note(self, chunk: Chunk, bad: dict[str, Mask], any_bad: Mask) -> None:
        """Keep where the first bad rows are, as many as are shown, and how many there are."""
        self.dropped += int(any_bad.sum())
        for name, mask in bad.items():
            self._bad[name] += int(mask.sum())
            self._first_bad[chunk.part][name].update(
                (chunk.start + np.flatnonzero(mask)[:_SHOWN]).tolist()
            )

    def _report(self) -> str:
        places = {part: set().union(*found.values()) for part, found in self._first_bad.items()}
        problems = chain.from_iterable(
            (f"{row.part}, {row.place}{problem}" for problem in self._problems(row))
            for row in bad_rows(self.raw, places)
        )
        share = f"{self.dropped} of {self.rows} rows"
        lines = [f"{self.raw.files}: {share} cannot be used. The first problems:"]
        lines += islice(problems, _SHOWN)
        hopeless = [
            name for name in ("rating", "timestamp")
            if name in self.raw.positions and self._bad[name] == self.rows - self._ragged
        ]  # fmt: skip
        without = (
            f"go without this column: --columns {hopeless[0]}=none" if hopeless
            else "go without these rows: --on_bad_rows drop"
        )  # fmt: skip
        return "\n  ".join(lines) + f"\nMend them, or {without}."

    def _problems(self, row: BadRow) -> Iterator[str]:
        layout, header = self.raw.layout, self.raw.header
        if row.index is None:
            separator = f" separated by {layout.spelled}" if layout else ""
            yield f": {len(row.fields)} fields, expected {len(header)}{separator}"
            return
        for name, places in self._first_bad[row.part].items():
            if row.index in places:
                value = row.fields[self.raw.positions[name]]
                why = self._expected(name, value)
                yield f", column {self.raw.name(name)!r}: {value[:40]!r}, {why}"

    def _expected(self, name: str, value: str) -> str:
        if name in ("user", "item"):
            return f"the id of the {name} is missing"
        if name == "rating" or self.clock is None:
            return "expected a finite number"
        return expected(self.clock.unit, value)

    @property
    def notes(self) -> list[str]:
        """How the table was read, where it left a choice."""
        return [f"{self.raw.files}: {note}" for note in self._notes()]

    def _notes(self) -> Iterator[str]:
        raw, at = self.raw, self.raw.positions
        if raw.layout is not None and raw.layout.columns is not None and not raw.is_movielens:
            places = sorted((place, name) for name, place in at.items())
            taken = ", ".join(f"{place + 1} {name}" for place, name in places)
            yield f"no line names the columns, taken as {taken}; --columns says otherwise"
        others = [name.strip() for place, name in enumerate(raw.header) if place not in at.values()]
        for column, names in ALIASES.items():
            also = [name for name in others if plain(name) in names]
            if also and column in at:
                yield (
                    f"the {column} is {raw.name(column)!r}; {', '.join(map(repr, also))} could be "
                    f"meant too: --columns {column}={also[0]}"
                )
        left = ", ".join(repr(name) for name in others if name and not name.startswith("Unnamed: "))
        unused = f"; not used: {brief(left, 200)}" if left else ""
        if not self.rated:
            yield f"has no ratings: every interaction counts 1{unused}"
        if self.clock is None:
            yield f"has no times{unused if self.rated else ''}"
        elif self.clock.note is not None:
            yield self.clock.note


def _trimmed(raw: RawTable, chunk: Chunk, name: str) -> Any:
    """Ids without blanks around them: text, or int64 where they are numbers already."""
    column = chunk.cells.column(name)
    if pa.types.is_string(column.type):
        return pc.utf8_trim_whitespace(column)
    try:
        return column.cast(pa.int64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise UserError(
            f"{chunk.part}: column {raw.name(name)!r} holds {column.type}. Expected ids: whole "
            f"numbers or text."
        ) from None


def _missing(ids: Any) -> Mask:
    missing = pc.is_null(ids)
    if pa.types.is_string(ids.type):
        missing = pc.or_kleene(missing, pc.equal(pc.binary_length(ids), 0))
    mask: Mask = missing.to_numpy()
    return mask


def _numbers(raw: RawTable, chunk: Chunk, name: str) -> npt.NDArray[np.float64]:
    """A column as numbers, NaN where a cell is none; dates become seconds since 1970."""
    column = chunk.cells.column(name)
    try:
        if pa.types.is_string(column.type):
            column = pc.utf8_trim_whitespace(column)
            try:
                column = column.cast(pa.float64())
            except pa.ArrowInvalid:
                if raw.layout is not None and raw.layout.separator == ";":
                    column = pc.replace_substring(column, ",", ".")
                numeric = pc.match_substring_regex(column, _NUMBER)
                column = pc.if_else(numeric, column, "nan").cast(pa.float64())
        elif pa.types.is_temporal(column.type) and name == "timestamp":
            column = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
            column = pc.divide(column.cast(pa.float64(), safe=False), 1e6)
        else:
            column = column.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise UserError(
            f"{chunk.part}: column {raw.name(name)!r} holds {column.type}. Expected numbers."
        ) from None
    numbers: npt.NDArray[np.float64] = column.to_numpy()
    return numbers
