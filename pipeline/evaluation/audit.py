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

from pipeline.evaluation.metrics import METRICS, Counts, Hits, Judged, Metric, PerUser, bounds
from pipeline.evaluation.names import at, parse

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
    for name, value in metrics.items():
        metric, k = _parsed(name)
        counts = {"users": n_users, "items": n_items, "places": k}
        units = [(count, unit) for unit in metric.counts if (count := counts[unit])]
        total = math.prod(count for count, _ in units)
        if units and len(units) == len(metric.counts) and not _whole(value, total):
            factors = " x ".join(f"{count:,} {unit}" for count, unit in units)
            note = (
                f"{name} {value} x {factors} = {value * total:,.2f}, "
                f"no whole number within the digits printed"
            )
            findings.append(Finding(metric.name, note))
        hit_rate = metrics.get(f"hit_rate_at_{k}")
        if metric.accuracy and hit_rate is not None and _above(value, hit_rate):
            note = f"{name} {value} is above hit_rate_at_{k} {hit_rate}, which bounds it"
            findings.append(Finding(metric.name, note))
    return findings


def _parsed(name: str) -> tuple[Metric, int]:
    found = parse(name)
    if found is None:
        raise ValueError(f"{name} is no metric: expected a name such as ndcg_at_10")
    return found


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
    low, high = bounds(_parsed(name)[0] for name in metrics).T
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
            if _parsed(name)[0].per_user:
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
    items, catalogue = pd.factorize(lists["item"])
    if n_items is not None and len(catalogue) > n_items:
        note = f"the lists hold {len(catalogue):,} items of a catalogue of {n_items:,}"
        return [Finding("lists", note)]
    hits = np.zeros((len(per_user), max(ks)), np.bool_)
    listed = np.full(hits.shape, -1, np.int32)
    hits[rows, places], listed[rows, places] = lists["hit"], items
    found: list[Finding] = []
    for k in ks:
        if f"recall_at_{k}" not in per_user:
            found.append(Finding("recall", f"users have no recall_at_{k}, which tells of others"))
            continue
        relevant = _relevant(hits[:, :k], per_user[f"recall_at_{k}"].to_numpy())
        nobody = np.zeros(n_items or len(catalogue), np.int64)
        judged = Judged(hits[:, :k], relevant, listed[:, :k], listed[:, :0], nobody, 0)
        for metric in METRICS:
            name = at(metric, k)
            if metric.accuracy and name in per_user:
                found += _audit_users(name, per_user[name], np.asarray(metric.of(judged)))
            elif not metric.per_user and name in metrics and n_items is not None:
                worth = float(metric.of(judged))
                if not abs(metrics[name] - worth) <= ROUNDING:
                    note = f"{name} is {metrics[name]:.6g}, and of the lists it is {worth:.6g}"
                    found.append(Finding(name, note))
    return found


def _relevant(hits: Hits, recall: PerUser) -> Counts:
    """|R_u| as the recall of a list with these hits says; without one, what the list has."""
    had = hits.sum(axis=1)
    some = (had > 0) & (recall > 0)
    n_relevant: Counts = np.maximum(had, 1)
    n_relevant[some] = np.maximum(np.rint(had[some] / recall[some]), had[some])
    return n_relevant


def _audit_users(name: str, logged: pd.Series[float], worth: PerUser) -> Iterator[Finding]:
    """Values that are not what the users' lists are worth."""
    users = ~np.isclose(logged, worth, rtol=0, atol=ROUNDING)
    if users.any():
        yield Finding(
            name,
            f"{name} of user {logged.index[users][0]} is {logged.to_numpy()[users][0]:.6g}, and "
            f"their list is worth {worth[users][0]:.6g} ({int(users.sum()):,} users differ)",
        )
