"""Metrics that cannot be true, found by arithmetic from nothing but their printed digits.

With n users, lists of k and a catalogue of m items, hit rate x n, precision x n x k and
coverage x m count users, hits and items, so they are whole numbers, within the rounding of what
was printed. And a user without a hit has 0 in every metric of accuracy, one with a hit has at
most 1, so none of their means is above the hit rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

_UNITS = {"hit_rate": ("users",), "precision": ("users", "places"), "coverage": ("items",)}
_BOUNDED = ("precision", "recall", "ndcg", "map")
_FLOAT_NOISE = Decimal("1e-9")  # of means computed in float64


@dataclass(frozen=True)
class Finding:
    """A metric (hit_rate, ...) that cannot be true, and the arithmetic that shows it."""

    metric: str
    note: str


def audit(
    metrics: Mapping[str, Decimal], n_items: int | None = None, n_users: int | None = None
) -> list[Finding]:
    """Find what cannot be true among means over users.

    ``metrics`` (``coverage_at_10``, ...) have the digits that were printed. What needs a count
    that is None is not checked, and too few digits never make a finding.
    """
    findings = []
    for metric, value in metrics.items():
        name, _, k = metric.partition("_at_")
        counts = {"users": n_users, "items": n_items, "places": int(k)}
        units = [(count, unit) for unit in _UNITS.get(name, ()) if (count := counts[unit])]
        total = math.prod(count for count, _ in units)
        if units and len(units) == len(_UNITS[name]) and not _whole(value, total):
            factors = " x ".join(f"{count:,} {unit}" for count, unit in units)
            note = (
                f"{metric} {value} x {factors} = {value * total:,.2f}, "
                f"no whole number within the digits printed"
            )
            findings.append(Finding(name, note))
        hit_rate = metrics.get(f"hit_rate_at_{k}")
        if name in _BOUNDED and hit_rate is not None and _above(value, hit_rate):
            note = f"{metric} {value} is above hit_rate_at_{k} {hit_rate}, which bounds it"
            findings.append(Finding(name, note))
    return findings


def _rounding(value: Decimal) -> Decimal:
    """How far the printed ``value`` may be from the true one: half a unit of its last digit."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    return Decimal((0, (5,), exponent - 1)) + _FLOAT_NOISE


def _whole(value: Decimal, total: int) -> bool:
    count = value * total
    return abs(count - round(count)) <= _rounding(value) * total


def _above(value: Decimal, bound: Decimal) -> bool:
    return value - bound > _rounding(value) + _rounding(bound)
