"""How time and memory grow with the data, stage by stage: ML-25M's shape from 1 million ratings up.

    python -m benchmarks.scale [--largest 4] [--json]     # 25: all of ML-25M's shape

Twice: users, items and interactions double together; then interactions alone. An exponent is the
slope of log time over log size: 1 is linear growth.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np

from benchmarks.fresh import MIB, measure, peak_memory, restart_peak
from benchmarks.generated import ML_25M, Shape, write
from benchmarks.report import Bar, Report, Row, Table, parser, progress
from pipeline.data.dataset import Dataset
from pipeline.data.prepared import home, load, store
from pipeline.data.raw.ratings import read_ratings
from pipeline.data.split_settings import SplitSettings
from pipeline.evaluation.evaluate import evaluate
from pipeline.models.factors import SVD, SVDSettings
from pipeline.models.ncf import NCF, NCFSettings
from pipeline.models.regression import EASE, EASESettings

ROUNDS = 3
EXPONENT = "exponent"
LINEAR = 1.1  # exponent that passes for linear: sorting has a logarithm, and caches have an end
EASE_ITEMS = 10_000  # beyond, the cube of the items is minutes and gigabytes
INTERACTIONS, CELLS, CUBE = "interactions", "test users x items", "items^3"
EMBEDDINGS = "interactions x (users + items)"  # each step of Adam moves all of them
STAGES = {
    "read": INTERACTIONS,
    "split and number": INTERACTIONS,
    "store": INTERACTIONS,
    "load": INTERACTIONS,
    "fit svd": INTERACTIONS,
    "rank by svd": CELLS,
    "ncf, an epoch": EMBEDDINGS,
    "fit ease": CUBE,
}
"""The stages in their order, and what each is linear in."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Cost:
    """What a stage took."""

    seconds: float
    """Wall clock."""
    user: float
    """Processor time of all threads, without the kernel's [s]."""
    memory: int
    """Bytes resident at its peak, what earlier stages left included, imports not."""


@dataclass(frozen=True)
class Size:
    """What the stages took at one shape."""

    work: Mapping[str, int]
    """How much there is of what a stage is linear in, by its name."""
    costs: Mapping[str, Cost]
    """By stage; without EASE where the catalogue is too large."""


class Watch:
    """Times stages of this process, and looks at its memory."""

    def __init__(self) -> None:
        self.costs: dict[str, Cost] = {}
        self._imports = peak_memory()

    def __call__(self, stage: str, function: Callable[[], Answer]) -> Answer:
        """The function's answer; what it took is noted under the stage's name."""
        restart_peak()
        started, before = time.perf_counter(), user_seconds()
        answer = function()
        seconds, user = time.perf_counter() - started, user_seconds() - before
        # Where the kernel counts in ticks, a short stage may have had none.
        self.costs[stage] = Cost(seconds, max(user, 1e-3), peak_memory() - self._imports)
        return answer


def user_seconds() -> float:
    """Processor time of this process in user mode so far; os.times would round to hundredths."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def shapes(largest: float) -> tuple[list[Shape], list[Shape]]:
    """Shapes that double up to ``largest`` million: in all, and in interactions alone.

    The second series has the users and items of the last of the first, which ends it, too.
    """
    millions = [2.0**power for power in range(int(np.log2(largest)) + 1)]
    if millions[-1] < largest:
        millions.append(largest)
    shares = [million * 1e6 / ML_25M.interactions for million in millions]
    proportional = [
        Shape(*(round(share * n) for n in (ML_25M.interactions, ML_25M.users, ML_25M.items)))
        for share in shares
    ]
    last = proportional[-1]
    alone = [Shape(last.interactions // part, last.users, last.items) for part in (4, 2)]
    return proportional, [*alone, last]


def size(shape: Shape, rounds: int, ease: bool) -> Size:
    """All stages at one shape, each run in a process of its own; of ``rounds`` the best of each.

    EASE is run once, where ``ease`` asks for it and the catalogue is not too large.
    """
    progress(f"{shape.interactions:,} interactions, {shape.users:,} users, {shape.items:,} items")
    with TemporaryDirectory() as name:
        folder = Path(name)
        measure(write, folder / "ratings.csv", shape)
        runs: list[Size] = [
            measure(stages, folder, shape, ease and turn == 0).result for turn in range(rounds)
        ]
    return best(runs)


def best(runs: Sequence[Size]) -> Size:
    """The least time and memory of each stage, over the runs that have it; the first has all."""
    costs = {}
    for stage in runs[0].costs:
        done = [run.costs[stage] for run in runs if stage in run.costs]
        costs[stage] = Cost(
            min(cost.seconds for cost in done),
            min(cost.user for cost in done),
            min(cost.memory for cost in done),
        )
    return Size(runs[0].work, costs)


def stages(folder: Path, shape: Shape, ease: bool) -> Size:
    """The way from ``ratings.csv`` in ``folder`` to fitted models, stage by stage."""
    os.chdir(folder)
    watch = Watch()
    fingerprint = _prepare(watch)
    dataset = watch("load", lambda: load(fingerprint).dataset)
    svd = watch("fit svd", lambda: SVD(SVDSettings(), seed=0).fit(dataset))
    watch("rank by svd", lambda: evaluate(svd, dataset, ks=[10]))
    epoch = NCFSettings(epochs=1, device="cpu")
    watch("ncf, an epoch", lambda: NCF(epoch, seed=0).fit(dataset))
    if ease and dataset.n_items <= EASE_ITEMS:
        watch("fit ease", lambda: EASE(EASESettings(), seed=0).fit(dataset))
    work = {
        INTERACTIONS: shape.interactions,
        CELLS: len(dataset.test_users) * dataset.n_items,
        CUBE: dataset.n_items**3,
        EMBEDDINGS: shape.interactions * (dataset.n_users + dataset.n_items),
    }
    return Size(work, watch.costs)


def _prepare(watch: Watch) -> str:
    """What ``prepare`` does, in stages; the fingerprint."""
    ratings = watch("read", lambda: read_ratings(Path("ratings.csv")))
    table, items, split = ratings.table, ratings.items, SplitSettings()
    dataset = watch(
        "split and number", lambda: Dataset.from_ratings("generated", table, items, split)
    )
    return watch("store", lambda: _store(dataset))


def _store(dataset: Dataset) -> str:
    """Store under the fingerprint, which is computed for it."""
    record = {
        "inputs": {"split": dataset.split.model_dump(mode="json")},
        "counts": {},
        "name": dataset.name,
        "protocol": dataset.protocol,
    }
    store(dataset, home() / dataset.fingerprint, record)
    return dataset.fingerprint


def exponent(work: Sequence[float], cost: Sequence[float]) -> float:
    """The slope of log cost over log work by least squares: cost ~ work ^ exponent."""
    return float(np.polyfit(np.log(work), np.log(cost), 1)[0])


def growth(title: str, sizes: Sequence[Size], against: Mapping[str, str]) -> tuple[Table, Table]:
    """Seconds and memory by stage and size, with their exponents.

    ``against`` says by stage what the exponent of time is over; that of memory is over
    interactions.
    """
    seconds: list[Row] = []
    memory: list[Row] = []
    heads = [f"{found.work[INTERACTIONS] / 1e6:.3g} M" for found in sizes]
    for stage, name in against.items():
        done = [found for found in sizes if stage in found.costs]
        if len(done) < 2:
            continue
        costs = [found.costs[stage] for found in done]
        work = [found.work[name] for found in done]
        times, peaks = [cost.seconds for cost in costs], [cost.memory for cost in costs]
        blanks = ["-"] * (len(sizes) - len(done))
        seconds.append(
            {
                "stage": stage,
                "over": name,
                **dict(zip(heads, [*times, *blanks], strict=True)),
                "exponent of wall clock": exponent(work, times),
                EXPONENT: exponent(work, [cost.user for cost in costs]),
            }
        )
        memory.append(
            {
                "stage": stage,
                **dict(zip(heads, [*(peak / MIB for peak in peaks), *blanks], strict=True)),
                EXPONENT: exponent([found.work[INTERACTIONS] for found in done], peaks),
            }
        )
    return Table(f"{title}: time [s]", seconds), Table(f"{title}: memory [MiB]", memory)


def steepest(what: str, table: Table) -> Bar:
    """The largest exponent of a table against what passes for linear; the cube stands apart."""
    rows = [row for row in table.rows if row["stage"] != "fit ease"]
    row = max(rows, key=lambda row: row[EXPONENT])
    what = f"exponent of {what}, the steepest: {row['stage']}"
    return Bar(what, float(row[EXPONENT]), LINEAR)


def report(proportional: Sequence[Shape], alone: Sequence[Shape], rounds: int) -> Report:
    """Both series; a shape that is in both is measured once."""
    found = {
        shape: size(shape, rounds, ease=shape in proportional)
        for shape in dict.fromkeys([*proportional, *alone])
    }
    every = growth("Everything doubles", [found[shape] for shape in proportional], STAGES)
    linear = {stage: INTERACTIONS for stage in STAGES if stage != "fit ease"}
    fixed = f"{alone[0].users:,} users, {alone[0].items:,} items"
    only = growth(f"Interactions double, {fixed}", [found[shape] for shape in alone], linear)
    bars = [
        steepest("user time, everything doubles", every[0]),
        steepest("memory, everything doubles", every[1]),
        steepest("user time, interactions double", only[0]),
        steepest("memory, interactions double", only[1]),
    ]
    notes = [
        "Exponents of time are over what the table names: a full ranking scores test users x "
        "items cells, so it is quadratic where both double and flat where neither does; an epoch "
        "of NCF has a step for each batch, and in each Adam moves all embeddings. The item-item "
        "models are the exception to linear growth: EASE inverts a matrix of items x items, cubic "
        f"in time and quadratic in memory; it is left out above {EASE_ITEMS:,} items. Exponents of "
        "memory are over interactions.",
        "The table shows wall clock. The exponent, and its bar, is that of the processor time in "
        "user mode, which a busy machine and first touches of a virtual machine's memory stretch "
        "less. Sorting and looking up ids in tables larger than the caches cost more a row as rows "
        "become many.",
        f"Best of {rounds} runs (EASE: of one), all stages of a size in one process. Memory is the "
        "peak of the process in a stage, less its imports; store includes computing the "
        "fingerprint, load checking it.",
    ]
    return Report("Growth", [*every, *only], bars, notes)


def main() -> None:
    """Command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--largest", type=float, default=4, help="million interactions, over 1")
    given = arguments.parse_args()
    if given.largest < 2:
        arguments.error("--largest: expected 2 or more, as growth needs two sizes")
    report(*shapes(given.largest), ROUNDS).publish(given.json)


if __name__ == "__main__":
    main()
