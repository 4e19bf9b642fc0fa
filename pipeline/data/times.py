"""Moments, however a file has them: seconds or parts of them, dates, or points in an order.

The column is judged as a whole; what then does not fit is a bad row.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

EARLIEST = 631_152_000
"""1990-01-01 UTC: before it nobody rated anything in a file."""
PARTS = {"milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
"""Of how many a second consists."""
_DAY = 86_400
_US_DATES = "%m %d, %Y"  # 07 21, 2014, as in Amazon's reviews


@dataclass(frozen=True)
class Times:
    """The moments of all rows, and which of them are none."""

    seconds: npt.NDArray[np.int64]
    """[rows], since 1970 UTC, or, if ``unit`` is order, points in time; 0 where ``bad``."""
    bad: npt.NDArray[np.bool_]
    """[rows]."""
    unit: str
    """seconds, one of ``PARTS``, date or order."""

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


def read_times(
    numbers: Floats, text: pd.Series[str] | None = None, *, are_dates: bool = False
) -> Times:
    """The moments of a column.

    Fractions of a second are cut off.

    Args:
        numbers: [rows], the cells as numbers, NaN where they are none.
        text: the cells as they stand; None where they are no text.
        are_dates: that is known of ``numbers``, which are seconds since 1970.
    """
    latest = time.time() + _DAY
    unit, seconds = "seconds", numbers
    low, high = (
        least(numbers, initial=np.nan)
        for least in (np.fmin.reduce, np.fmax.reduce)  # no NaN
    )
    if text is not None and 2 * np.isfinite(numbers).sum() < np.count_nonzero(text != ""):
        unit, seconds = "date", _dates(text)
    elif are_dates:
        unit = "date"
    elif parts := [p for p, n in PARTS.items() if low >= EARLIEST * n and high <= latest * n]:
        unit, seconds = parts[0], numbers / PARTS[parts[0]]
    elif low >= 0 and high < EARLIEST and not np.any(np.fmod(numbers, 1) > 0):
        unit = "order"
    earliest = 0 if unit == "order" else EARLIEST
    good = (seconds >= earliest) & (seconds <= latest)
    if not good.all():
        seconds = np.where(good, seconds, 0)
    return Times(seconds.astype(np.int64), ~good, unit)


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


def _dates(text: pd.Series[str]) -> Floats:
    """Seconds since 1970 of dates as in ISO 8601 (UTC where they do not say), else as in the US."""
    moments = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
    if 2 * moments.notna().sum() < len(moments):
        others = pd.to_datetime(text, format=_US_DATES, utc=True, errors="coerce")
        moments = others if others.notna().sum() > moments.notna().sum() else moments
    seconds = (moments - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    return np.asarray(seconds, np.float64)
