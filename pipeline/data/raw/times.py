"""Moments, however a file has them: seconds or parts of them, dates, or points in an order.

The column is judged as a whole; what then does not fit is a bad row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

Floats = npt.NDArray[np.float64]

EARLIEST = 631_152_000
"""1990-01-01 UTC: before it nobody rated anything in a file."""
PARTS = {"milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
"""Of how many a second consists."""
_DAY = 86_400
ISO, US = "ISO8601", "%m %d, %Y"  # the latter 07 21, 2014, as in Amazon's reviews


@dataclass(frozen=True)
class TimeCells:
    """Cells of a column of times."""

    numbers: Floats
    """[rows], NaN where a cell is none."""
    column: Any = None
    """Text in Arrow, [rows], as it stands; None where they are no text."""

    @property
    def text(self) -> pd.Series[str]:
        """The cells without blanks around them."""
        found: pd.Series[str] = pc.utf8_trim_whitespace(self.column).fill_null("").to_pandas()
        return found


@dataclass(frozen=True)
class Clock:
    """How the moments of a column are told: found once, of all of its rows."""

    unit: str
    """seconds, one of ``PARTS``, date or order."""
    latest: float
    """The last moment that is none in the future [s]."""
    dates: str = ISO
    """How dates that are text are written."""

    @property
    def note(self) -> str | None:
        """What a person should know of how they were taken."""
        if self.unit in PARTS:
            return f"its times are {self.unit} since 1970, taken as seconds"
        if self.unit == "order":
            return (
                "its times are no seconds since 1970: they are taken as points in time of an "
                "unknown unit, which only order what happened"
            )
        return None

    def read(self, cells: TimeCells) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """The moments of rows, int64 [rows], and which of them are none, bool [rows].

        They are seconds since 1970 UTC without fractions, or, if ``unit`` is order, points in time;
        0 where they are none.
        """
        seconds = cells.numbers
        if self.unit == "date" and cells.column is not None:
            seconds = _dates(cells.text, self.dates)
        elif self.unit in PARTS:
            seconds = seconds / PARTS[self.unit]
        earliest = 0 if self.unit == "order" else EARLIEST
        good = (seconds >= earliest) & (seconds <= self.latest)
        if not good.all():
            seconds = np.where(good, seconds, 0)
        return seconds.astype(np.int64), ~good


def find_clock(column: Callable[[], Iterable[TimeCells]], *, are_dates: bool = False) -> Clock:
    """How the moments of a column are told.

    Args:
        column: its cells, piece by piece; asked for again where they are dates.
        are_dates: that is known of the numbers, which are seconds since 1970.
    """
    latest = time.time() + _DAY
    low, high, whole, numbers, given = np.inf, -np.inf, True, 0, 0
    is_text = False
    for cells in column():
        finite = cells.numbers
        if not (is_finite := np.isfinite(finite)).all():
            finite = finite[is_finite]
        low, high = finite.min(initial=low), finite.max(initial=high)
        # Whether they are whole only matters where all are below what can be seconds.
        whole = whole and high < EARLIEST and not np.any(np.fmod(finite, 1) > 0)
        numbers += len(finite)
        if cells.column is not None:
            is_text = True
            all_numbers = len(finite) == len(cells.numbers)
            given += len(finite) if all_numbers else int(np.count_nonzero(cells.text != ""))
    if is_text and 2 * numbers < given:
        return Clock("date", latest, _spelling(cells.text for cells in column()))
    if are_dates:
        return Clock("date", latest)
    for part, count in PARTS.items():
        if numbers and low >= EARLIEST * count and high <= latest * count:
            return Clock(part, latest)
    in_order = numbers and low >= 0 and high < EARLIEST and whole
    return Clock("order" if in_order else "seconds", latest)


def expected(unit: str, value: str) -> str:
    """What stands in the place of a bad ``value``."""
    if unit == "date":
        return "expected a date such as 2014-07-21 or 2014-07-21T10:00:00Z, from 1990 until now"
    if unit == "order":
        return "expected a point in time, a whole number from 0, as in the other rows"
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if unit == "seconds" and EARLIEST <= seconds / 1000 <= time.time() + _DAY:
        return "looks like milliseconds, expected seconds since 1970 (UTC)"
    return f"expected {unit} since 1970 (UTC), from 1990 until now"


def _spelling(column: Iterable[pd.Series[str]]) -> str:
    """How most dates are written: as in ISO 8601, unless fewer than half are and more as in the
    US."""
    rows, found = 0, {ISO: 0, US: 0}
    for text in column:
        rows += len(text)
        for spelling in found:
            found[spelling] += int(np.isfinite(_dates(text, spelling)).sum())
    return US if 2 * found[ISO] < rows and found[US] > found[ISO] else ISO


def _dates(text: pd.Series[str], spelling: str) -> Floats:
    """Seconds since 1970, UTC where they do not say otherwise; NaN of what is no date."""
    moments = pd.to_datetime(text, format=spelling, utc=True, errors="coerce")
    seconds = (moments - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    return np.asarray(seconds, np.float64)
