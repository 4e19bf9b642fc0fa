"""The names under which metrics are logged, as ndcg_at_10: made, and read again."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pipeline.errors import UserError
from pipeline.evaluation.metrics import BY_NAME, METRICS, Metric


def at(metric: Metric, k: int) -> str:
    """The name under which a metric of lists of length k is logged, as ndcg_at_10."""
    return f"{metric.name}_at_{k}"


def parse(name: str) -> tuple[Metric, int] | None:
    """The metric and the k of a name such as ndcg_at_10; None for any other name."""
    found = re.fullmatch(r"([a-z_]+)_at_([1-9]\d*)", name)
    metric = BY_NAME.get(found[1]) if found else None
    return None if found is None or metric is None else (metric, int(found[2]))


def parse_accuracy(name: str) -> tuple[Metric, int]:
    """The same of a metric that models are ranked by.

    Raises:
        UserError: it is none of accuracy.
    """
    found = parse(name)
    if found is None or not found[0].accuracy:
        raise UserError(
            f"metric={name}: expected one of accuracy with its k, as in ndcg_at_10; these are "
            f"{', '.join(metric.name for metric in METRICS if metric.accuracy)}."
        )
    return found


def in_order(names: Iterable[str]) -> list[str]:
    """Those that are of metrics, shorter lists first, then as in ``METRICS``."""
    known = [(found[1], METRICS.index(found[0]), name) for name in names if (found := parse(name))]
    return [name for _, _, name in sorted(known)]
