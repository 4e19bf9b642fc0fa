"""What each stage costs from a million interactions to ten thousand million: docs/scale.md.

    python -m benchmarks.estimates [--cpu_hour 0.04] [--gib_hour 0.005] [--json]

No measurement is made here. Times come from what docs/performance.md measured at the largest size,
carried on with the exponent measured there (1 where that was less), fits from ``Recommender.cost``.
All on two cores of one machine that has the memory. Data have ML-25M's shape: a user for 154
interactions and an item for 423.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd

from benchmarks.generated import ML_25M
from benchmarks.report import Report, Row, Table, parser
from pipeline.data.dataset import Dataset
from pipeline.models import family
from pipeline.models.costs import LONGEST

SIZES = (1e6, 1e7, 1e8, 1e9, 1e10)
LARGEST = 25e6  # interactions, of what was measured
GIB = 2**30
CORES = 2  # of the machine that is paid for
MODELS: dict[str, dict[str, Any]] = {
    "svd": {"components": 64}, "als": {"factors": 64}, "sequential_ridge": {}, "item_knn": {},
    "ease": {}, "slim": {}, "ncf": {"epochs": 20},
    "two_tower": {"epochs": 20, "batch_size": 32_768},
}  # fmt: skip
# Pairs of a user and an item that a full ranking gets through in a second on one core, and users
# that an index answers: measured at a million items.
PRODUCTS, LAYERS, BY_INDEX = 2.5e8, 1e8, 1000.0
INDEXED = 1.2e-4  # seconds to put an item into an index of a million
TESTED = 10_000  # users of a test: a sample where there are more
TRIALS, WINDOWS = 40, 1  # of a study, on four fifths of the interactions each
NUMBERS = 64  # of a vector
INDEX_BYTES = 4 * (NUMBERS + 2 * 48 + 4)  # of an item: its vector and its neighbours


class Size(NamedTuple):
    """A data set."""

    interactions: float
    users: float
    items: float

    @property
    def dataset(self) -> Dataset:
        """What ``Recommender.cost`` asks of one; all users, and all items, are alike."""
        users, items = round(self.users), round(self.items)
        rows = round(0.8 * self.interactions)
        stand_in = SimpleNamespace(
            n_users=users, n_items=items, n_interactions=rows,
            activity=np.array([np.sqrt(rows * rows / users)]),
            popularity=np.array([np.sqrt(rows * rows / items)]),
            items=pd.DataFrame({"genres": [""]}),
        )  # fmt: skip
        return cast("Dataset", stand_in)


class Estimate(NamedTuple):
    """Of one stage."""

    seconds: float
    memory: float
    """Bytes."""


def measured(seconds: float, memory: float, exponent: float = 1.0) -> Callable[[Size], Estimate]:
    """What was measured at LARGEST, carried on; memory is linear."""

    def at(size: Size) -> Estimate:
        times = size.interactions / LARGEST
        return Estimate(seconds * times ** max(1.0, exponent), memory * times)

    return at


def fitted(name: str) -> Callable[[Size], Estimate]:
    """A fit, beside its dataset; infinite where it is refused for its time."""

    def at(size: Size) -> Estimate:
        kind = family(name)
        cost = kind(kind.settings_class.read(MODELS[name], name), 0).cost(size.dataset)
        assert cost is not None
        seconds = cost.seconds or 0.0
        refused = seconds > LONGEST and not cost.goes_on
        dataset = DATASET(size).memory
        return Estimate(float("inf") if refused else seconds, dataset + cost.memory)

    return at


def ranked(users: Callable[[Size], float], rate: float) -> Callable[[Size], Estimate]:
    """A full ranking for so many users, from vectors."""

    def at(size: Size) -> Estimate:
        memory = DATASET(size).memory + 4 * NUMBERS * (size.users + size.items)
        return Estimate(users(size) * size.items / rate, memory)

    return at


def indexed(size: Size) -> Estimate:
    """Lists for everybody by an index, which is made first."""
    # Making it and searching it grow with the logarithm of the items, beyond their number.
    deeper = max(1.0, np.log(size.items) / np.log(1e6))
    exact = ranked(lambda each: each.users, PRODUCTS)(size)
    seconds = size.items * INDEXED * deeper + size.users / BY_INDEX * deeper
    return Estimate(seconds, exact.memory + INDEX_BYTES * size.items)


def studied(size: Size) -> Estimate:
    """A study of NCF: trials of a fit and a validation each, one after another."""
    fit, test = fitted("ncf")(size), STAGES["evaluate, layers"](size)
    return Estimate(TRIALS * WINDOWS * (0.8 * fit.seconds + test.seconds), fit.memory)


DATASET = measured(0.8, 1006 * 2**20)
STAGES: dict[str, Callable[[Size], Estimate]] = {
    "prepare": measured(15.6, 2.73 * GIB, 1.09),
    "load": DATASET,
    **{f"train {name}": fitted(name) for name in MODELS},
    "evaluate, products": ranked(lambda size: min(TESTED, size.users / 4), PRODUCTS),
    "evaluate, layers": ranked(lambda size: min(TESTED, size.users / 4), LAYERS),
    f"tune ncf, {TRIALS} trials": studied,
    "recommend to all, exact": ranked(lambda size: size.users, PRODUCTS),
    "recommend to all, index": indexed,
    "serve": lambda size: Estimate(0.0, 8 * 0.8 * size.interactions + 4 * NUMBERS * sum(size[1:])),
}


def shape(interactions: float) -> Size:
    """ML-25M's shape at another size."""
    share = interactions / ML_25M.interactions
    return Size(interactions, share * ML_25M.users, share * ML_25M.items)


def table(title: str, of: Callable[[Estimate], float], form: Callable[[float], str]) -> Table:
    """A line for each stage, a column for each size."""
    rows: list[Row] = []
    for stage, estimate in STAGES.items():
        found = [of(estimate(shape(size))) for size in SIZES]
        cells = ["refused" if np.isinf(value) else form(value) for value in found]
        heads = (f"{size / 1e6:,.0f} M" for size in SIZES)
        if any(found):
            rows.append({"stage": stage, **dict(zip(heads, cells, strict=True))})
    return Table(title, rows)


def spelled(seconds: float) -> str:
    """Seconds in the largest unit that there is one of."""
    for unit, length in (("y", 365 * 86400), ("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{rounded(seconds / length)} {unit}"
    return f"{rounded(seconds)} s"


def rounded(value: float) -> str:
    """Two figures: estimates have no more."""
    return f"{float(f'{value:.1e}'):,.15g}"


def report(cpu_hour: float, gib_hour: float) -> Report:
    """Time, memory and money."""

    def money(estimate: Estimate) -> float:
        hours = estimate.seconds / 3600
        return hours * (CORES * cpu_hour + gib_hour * estimate.memory / GIB)

    return Report(
        "Estimates, not measurements",
        [
            table("Time", lambda each: each.seconds, spelled),
            table("Memory [GiB]", lambda each: each.memory / GIB, rounded),
            table("Money [$]", money, lambda value: rounded(value) if value >= 0.01 else "< .01"),
        ],
        notes=[
            f"{CORES} cores at ${cpu_hour:g} an hour each, and ${gib_hour:g} for a GiB of memory."
        ],
    )


def main() -> None:
    """Command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--cpu_hour", type=float, default=0.04, help="$ for a core")
    arguments.add_argument("--gib_hour", type=float, default=0.005, help="$ for a GiB of memory")
    given = arguments.parse_args()
    report(given.cpu_hour, given.gib_hour).publish(given.json)


if __name__ == "__main__":
    main()
