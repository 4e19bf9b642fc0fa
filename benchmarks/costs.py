"""What a fit is said to take before it starts, and what it takes.

    python -m benchmarks.costs [--data ml-1m ...] [--models ncf ...] [--json]

Each model is fitted once to each data set, in a process of its own that has fitted it to a
small one before, so that imports do not count. Data sets are what ``prepare`` takes, or sizes of
generated ones, in thousands of interactions, users and items: 5000x100x1000. Times are those of
the processor, of all threads together.
"""

from __future__ import annotations

import ctypes
import os
import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.fresh import MIB, measure, peak_memory, restart_peak
from benchmarks.generated import Shape, generate, write
from benchmarks.report import Bar, Report, Row, Table, parser, progress
from pipeline.api import load
from pipeline.data.dataset import Dataset
from pipeline.data.split_settings import SplitSettings
from pipeline.errors import UserError
from pipeline.models import family
from pipeline.models.costs import Cost, announce

DATA = ("ml-1m", "1000x10x50", "5000x100x1000")
MODELS: dict[str, dict[str, Any]] = {
    "item_knn": {}, "user_knn": {}, "svd": {"components": 64}, "als": {"factors": 64}, "ease": {},
    "slim": {}, "sequential_ridge": {}, "two_tower": {"epochs": 1, "batch_size": 32_768},
    "ncf": {"epochs": 1},
}  # fmt: skip
FACTOR, FROM = 1.5, 64.0  # how far an estimate may be from the truth, where that is so many MiB
LONG = 240.0  # seconds: what is said to take longer is not measured
SMALL = Shape(4_000, 200, 300)


class Found(NamedTuple):
    """What a fit was said to take, and what it took where it was not too long or refused."""

    said: Cost
    refused: bool
    seconds: float | None
    memory: int | None


def fit(data: str, model: str) -> Found:
    """A fit to ``data`` in this process, which knows the model's modules already."""
    family_ = family(model)
    settings = family_.settings_class.read(MODELS[model], model)
    family_(settings, 0).fit(small())
    dataset, fresh = load(data), family_(settings, 0)
    said = fresh.cost(dataset)
    assert said is not None
    try:
        announce(said)
    except UserError:
        return Found(said, True, None, None)
    if (said.seconds or 0) > LONG:
        return Found(said, False, None, None)
    ctypes.CDLL(None).malloc_trim(0)
    restart_peak()
    before, started = peak_memory(), time.process_time()
    fresh.fit(dataset)
    return Found(said, False, time.process_time() - started, peak_memory() - before)


def small() -> Dataset:
    """Generated ratings that any model is fitted to at once."""
    ratings = generate(SMALL, np.random.default_rng(0))
    columns = (ratings.users, ratings.items, ratings.ratings, ratings.timestamps)
    names = ("user", "item", "rating", "timestamp")
    table = pd.DataFrame(dict(zip(names, columns, strict=True)))
    items = pd.DataFrame({"item": np.unique(ratings.items), "title": "", "genres": ""})
    return Dataset.from_ratings("small", table, items, SplitSettings())


def row(data: str, model: str, found: Found) -> Row:
    """A line of the table; estimate over measurement."""
    said = found.said.memory / MIB
    line: Row = {
        "data": data, "model": model, "said [MiB]": said, "took [MiB]": "-", "memory, ratio": "-",
        "said [s]": found.said.seconds or 0.0, "took [s]": "refused" if found.refused else "-",
        "time, ratio": "-",
    }  # fmt: skip
    if found.seconds is not None and found.memory is not None:
        took = found.memory / MIB
        line |= {"took [MiB]": took, "memory, ratio": said / max(took, 1e-3)}
        line |= {
            "took [s]": found.seconds,
            "time, ratio": (found.said.seconds or 0) / found.seconds,
        }
    return line


def report(names: list[str], models: list[str]) -> Report:
    """Every model on every data set."""
    os.environ["PIPELINE_DATA_DIR"] = str(
        Path(os.environ.get("PIPELINE_DATA_DIR", "data")).resolve()
    )
    before, rows = Path.cwd(), list[Row]()
    paths = [str(Path(name).resolve()) if Path(name).exists() else name for name in names]
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for data in paths:
                if size := re.fullmatch(r"(\d+)x(\d+)x(\d+)", data):
                    measure(
                        write, Path(f"{data}.csv"), Shape(*(1000 * int(n) for n in size.groups()))
                    )
                read = f"{data}.csv" if size else data
                measure(load, read)
                for model in models:
                    progress(f"{model} on {Path(data).name}")
                    rows.append(row(Path(data).name, model, measure(fit, read, model).result))
        finally:
            os.chdir(before)
    large = [
        line for line in rows if isinstance(took := line["took [MiB]"], float) and took >= FROM
    ]
    ratios = [float(line["memory, ratio"]) for line in large]
    bars = [
        Bar(f"said over taken memory, the furthest of {len(ratios)} fits that take {FROM:.0f} MiB",
            max(max(ratio, 1 / ratio) for ratio in ratios), FACTOR, "times"),
    ] if ratios else []  # fmt: skip
    return Report("What a fit will take", [Table("Said before it starts, and taken", rows)], bars, [
        f"Memory is that beside the dataset. What is said to take more than {LONG:.0f} s is not "
        f"measured; networks learn for one epoch, SVD and ALS have 64 components."
    ])  # fmt: skip


def main() -> None:
    """Command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--data", nargs="+", default=list(DATA), help="names, paths or sizes")
    arguments.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    given = arguments.parse_args()
    report(given.data, given.models).publish(given.json)


if __name__ == "__main__":
    main()
