"""Metrics that cannot be true, found by arithmetic, and results that do not fit together.

With n users, lists of k and a catalogue of m items, hit rate x n, precision x n x k and
coverage x m count users, hits and items, so they are whole numbers, within the rounding of what
was printed. And a user without a hit has 0 in every metric of accuracy, one with a hit has at
most 1, so none of their means is above the hit rate. That takes nothing but printed digits
(``audit``). Of our own runs more is kept: values per user and lists (``audit_evaluation``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pandas as pd

from pipeline.evaluation.metrics import (
    Hits,
    PerUser,
    average_precision,
    bounds,
    coverage,
    gini,
    hit_rate,
    ndcg,
    personalization,
    precision,
    recall,
)

_UNITS = {"hit_rate": ("users",), "precision": ("users", "places"), "coverage": ("items",)}
_BOUNDED = ("precision", "recall", "ndcg", "map")
_OF_ALL_LISTS = ("coverage", "gini", "personalization")  # which no user has a value of
ROUNDING = 1e-9
"""How far numbers may differ that are computed in float64 from the same."""
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


def audit_evaluation(
    metrics: Mapping[str, float],
    per_user: pd.DataFrame,
    lists: pd.DataFrame | None = None,
    n_items: int | None = None,
) -> list[Finding]:
    """Find what does not fit together among all that is kept of an evaluation.

    Args:
        metrics: means over users and metrics of all lists (``ndcg_at_10``, ...).
        per_user: a row per user, the index, and a column per metric of a user.
        lists: user, rank (from 1), item and hit, a row per place, as from
            ``evaluate.recommendations``; without it the lists are not looked at.
        n_items: size of the catalogue, where it is known.

    Returns:
        Nothing where metrics are within their bounds and count whole users, hits and items, are
        the means of the values per user, and these are what the lists are worth. Popularity
        overlap and novelty of a list are not computed again: they take the training data.
    """
    low, high = bounds(list(metrics)).T
    outside = [
        Finding(name, f"{name} {value:.6g} is outside of {least:g} to {most:g}")
        for (name, value), least, most in zip(metrics.items(), low, high, strict=True)
        if not least - ROUNDING <= value <= most + ROUNDING
    ]
    wrong = {finding.metric for finding in outside}
    digits = {name: Decimal(repr(x)) for name, x in metrics.items() if name not in wrong}
    found = [*outside, *audit(digits, n_items, len(per_user))]
    for name in metrics:
        if name not in per_user:
            if name.partition("_at_")[0] not in _OF_ALL_LISTS:
                found.append(Finding(name, f"{name} has no values per user"))
            continue
        mean = float(per_user[name].mean())
        if not abs(mean - metrics[name]) <= ROUNDING:
            note = (
                f"{name} is {metrics[name]:.6g}, and the mean of its values of {len(per_user):,} "
                f"users is {mean:.6g}"
            )
            found.append(Finding(name, note))
    return found if lists is None else found + _audit_lists(metrics, per_user, lists, n_items)


def _audit_lists(
    metrics: Mapping[str, float],
    per_user: pd.DataFrame,
    lists: pd.DataFrame,
    n_items: int | None,
) -> list[Finding]:
    rows = per_user.index.get_indexer(pd.Index(lists["user"]))
    places = lists["rank"].to_numpy() - 1
    ks = sorted({int(name.rpartition("_")[2]) for name in per_user.columns})
    strange = (rows < 0) | (places < 0) | (places >= max(ks, default=0))
    twice = lists.duplicated(["user", "rank"]) | lists.duplicated(["user", "item"])
    if strange.any() or twice.any():
        what = "of users without values or of places beyond k" if strange.any() else "twice"
        count = int(strange.sum() if strange.any() else twice.sum())
        return [Finding("lists", f"the lists have {count:,} rows {what}")]
    hits = np.zeros((len(per_user), max(ks)), np.bool_)
    hits[rows, places] = lists["hit"]
    found = []
    for k in ks:
        top = lists[lists["rank"] <= k]
        worth = _worth(hits[:, :k], per_user, k)
        for name in worth.keys() & set(per_user.columns):
            users = ~np.isclose(per_user[name], worth[name], rtol=0, atol=ROUNDING)
            if users.any():
                note = (
                    f"{name} of user {per_user.index[users][0]} is "
                    f"{per_user[name].to_numpy()[users][0]:.6g}, and their list is worth "
                    f"{worth[name][users][0]:.6g} ({int(users.sum()):,} users differ)"
                )
                found.append(Finding(name, note))
        if n_items is not None:
            found += _audit_catalogue(metrics, top, len(per_user), n_items, k)
    return found


def _worth(hits: Hits, per_user: pd.DataFrame, k: int) -> dict[str, PerUser]:
    """Accuracy of lists with these hits; |R_u| is what the recall of their users says."""
    worth = {f"hit_rate_at_{k}": hit_rate(hits), f"precision_at_{k}": precision(hits)}
    if f"recall_at_{k}" in per_user:
        told = per_user[f"recall_at_{k}"].to_numpy()
        some = hits.any(axis=1) & (told > 0)
        n_relevant = np.ones(len(hits), np.int64)
        n_relevant[some] = np.rint(hits.sum(axis=1)[some] / told[some])
        n_relevant = np.maximum(n_relevant, np.maximum(hits.sum(axis=1), 1))
        worth |= {
            f"recall_at_{k}": recall(hits, n_relevant),
            f"ndcg_at_{k}": ndcg(hits, n_relevant),
            f"map_at_{k}": average_precision(hits, n_relevant),
        }
    return worth


def _audit_catalogue(
    metrics: Mapping[str, float], lists: pd.DataFrame, n_users: int, n_items: int, k: int
) -> Iterator[Finding]:
    """Metrics that belong to all lists together."""
    counts = lists["item"].value_counts().to_numpy()
    if len(counts) > n_items:
        yield Finding(
            "lists", f"the lists hold {len(counts):,} items of a catalogue of {n_items:,}"
        )
        return
    times = np.zeros(n_items, np.int64)
    times[: len(counts)] = counts
    worth = {
        f"coverage_at_{k}": coverage(times),
        f"gini_at_{k}": gini(times),
        f"personalization_at_{k}": personalization(times, n_users, k),
    }
    for name, value in worth.items():
        if name in metrics and not abs(metrics[name] - value) <= ROUNDING:
            yield Finding(
                name, f"{name} is {metrics[name]:.6g}, and of the lists it is {value:.6g}"
            )
