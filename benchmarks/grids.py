"""Whether a study's choice is as good as the best of a wide grid, on the same windows.

    python -m benchmarks.grids --dataset ml-100k [--values binary,ratings] [--split protocol=random]

EASE with lambda from 1 to 10^7, truncated SVD with 1 to 160 components and ItemKNN with 10 to 1,000
neighbours of three similarities, each on interactions as ones and as what ``auto`` takes: the mean
NDCG@10 over the windows that studies use. Nothing here looks at the test. What a study of the same
data found stands in its run; the best of each grid is to be at most 2 % above it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.report import Report, Row, Table, parser, progress
from pipeline.data.prepared import prepare
from pipeline.data.raw.reading import Reading
from pipeline.data.split_settings import SplitSettings
from pipeline.data.windows import possible_windows
from pipeline.evaluation.validation import Window, rolling_windows
from pipeline.models import family
from pipeline.tuning.plan import ROLLING_WINDOWS

K = 10
LAMBDAS = tuple(float(f"{x:.3g}") for x in np.geomspace(1, 1e7, 15))
COMPONENTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 100, 160)
NEIGHBOURS = (10, 30, 100, 300, 1000)
SIMILARITIES = ("cosine", "tfidf", "bm25")


def grid(values: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Families and settings."""
    for value, regularization in itertools.product(values, LAMBDAS):
        yield "ease", {"values": value, "regularization": regularization}
    for value, components in itertools.product(values, COMPONENTS):
        yield "svd", {"values": value, "components": components}
    for value, similarity, neighbours in itertools.product(values, SIMILARITIES, NEIGHBOURS):
        given = {"values": value, "similarity": similarity, "neighbours": neighbours}
        yield "item_knn", given


def validated(name: str, settings: dict[str, Any], windows: list[Window]) -> float:
    """Mean NDCG over the windows."""
    found = []
    for window in windows:
        model = family(name)(family(name).settings_class(**settings), 42).fit(window.dataset)
        found.append(window.ranking.evaluate(model).evaluation.summary[f"ndcg_at_{K}"])
    return float(np.mean(found))


def measure(
    dataset: str, split: SplitSettings, reading: Reading, values: tuple[str, ...]
) -> Report:
    """The best three of each family's grid."""
    whole = prepare(dataset, split, reading).dataset
    quantiles, _ = possible_windows(whole, ROLLING_WINDOWS)
    windows = rolling_windows(whole, tuple(quantiles), (K,))
    found: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    started = time.perf_counter()
    for name, settings in grid(values):
        value = validated(name, settings, windows)
        progress(f"{name} {settings}: {value:.4f}")
        found.setdefault(name, []).append((value, settings))
    rows: list[Row] = []
    for name, tried in found.items():
        for value, settings in sorted(tried, key=lambda each: -each[0])[:3]:
            words = ", ".join(f"{key} {of}" for key, of in settings.items())
            rows.append({"model": name, "settings": words, "validation NDCG": value})
    fits, took = sum(map(len, found.values())), time.perf_counter() - started
    note = f"{fits} settings on {len(windows)} windows in {took:.0f} s; {whole.fingerprint}."
    return Report(f"The best of wide grids on {dataset}", [Table("best", rows)], notes=[note])


def main() -> None:
    """Print the table."""
    arguments = parser(__doc__)
    arguments.add_argument("--dataset", default="ml-1m")
    arguments.add_argument("--values", default="binary,auto")
    arguments.add_argument("--split", nargs="*", default=[], help="fields of the split, key=value")
    arguments.add_argument("--reading", nargs="*", default=[], help="how to read, key=value")
    given = arguments.parse_args()
    split, reading = (
        dict(word.split("=", 1) for word in of) for of in (given.split, given.reading)
    )
    report = measure(
        given.dataset,
        SplitSettings.read(split, "--split"),
        Reading.read(reading, "--reading"),
        tuple(given.values.split(",")),
    )
    report.publish(given.json)


if __name__ == "__main__":
    main()
