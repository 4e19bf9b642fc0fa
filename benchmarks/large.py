"""Ratings larger than memory: prepared on disk within so much memory, an epoch, and a test.

    python -m benchmarks.large [--millions 200] [--memory 6] [--folder FOLDER] [--json]

The ratings are generated, as Parquet files of a part of the users each, with 100 to a user and a
catalogue of a tenth of the users; 200 million take 2 GB of disk, and their preparation some 10 GB
for a while. What was generated stays in the folder, if one is given, and is used again.
"""

from __future__ import annotations

import os
import resource
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.fresh import MIB, measure, peak_memory
from benchmarks.generated import Shape, generate
from benchmarks.report import Bar, Report, Row, Table, parser, progress
from pipeline.data.prepared import load, prepare
from pipeline.data.split_settings import SplitSettings

GIB = 2**30
PER_USER, USERS_PER_ITEM = 100, 10
PART_ROWS = 4_000_000
EPOCH: dict[str, Any] = {
    "epochs": 1, "embedding_dim": 16, "layers": (32, 16), "batch_size": 32_768,
    "learning_rate": 1e-3, "loss": "bce", "device": "cpu",
}  # fmt: skip


SAMPLE, METRIC = 1_000, "ndcg_at_10"  # of test users


def shape_of(interactions: int) -> Shape:
    """So many ratings, with users and items in proportion."""
    users = interactions // PER_USER
    return Shape(interactions, users, users // USERS_PER_ITEM)


def write_parts(folder: Path, shape: Shape) -> None:
    """Generated ratings as Parquet files, each of other users; one is in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    parts = max(1, round(shape.interactions / PART_ROWS))
    of_part = Shape(shape.interactions // parts, shape.users // parts, shape.items)
    for part in range(parts):
        made = generate(of_part, np.random.default_rng(part))
        columns = {
            "userId": made.users + (part * of_part.users + 1),
            "movieId": 3 * made.items + 1,  # with gaps, as people's ids have
            "rating": made.ratings,
            "timestamp": made.timestamps,
        }
        pq.write_table(pa.table(columns), folder / f"part-{part:04}.parquet")


@dataclass(frozen=True)
class Preparation:
    """What preparing gave."""

    fingerprint: str
    notes: tuple[str, ...]
    facts: Row
    processor: float
    """Processor time of all threads [s]."""


def prepare_in(folder: Path, source: Path, memory: int) -> Preparation:
    """Prepare ``source`` in ``folder`` within so many bytes of memory."""
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    made = prepare(str(source), SplitSettings(), reuse=False)
    facts = made.dataset.statistics
    names = ("train_interactions", "train_users", "catalogue_items", "test_users")
    return Preparation(
        made.dataset.fingerprint,
        made.notes,
        {name: facts[name] for name in names},
        time.process_time(),
    )


def load_in(folder: Path, fingerprint: str) -> None:
    """Load what was prepared, whose fingerprint is then checked."""
    os.chdir(folder)
    load(fingerprint)


def epoch_in(folder: Path, fingerprint: str) -> Row:
    """An epoch of NCF, and its test on a sample of users."""
    from pipeline.evaluation.evaluate import evaluate
    from pipeline.evaluation.sample import ERROR, standard_errors
    from pipeline.models.ncf import NCF, NCFSettings
    from pipeline.training.trainer import Epoch

    os.chdir(folder)
    epochs: list[Epoch] = []

    def note(epoch: Epoch) -> bool:
        epochs.append(epoch)
        progress(f"an epoch: {epoch.seconds:.0f} s, {peak_memory() / GIB:.2f} GiB; testing")
        return False

    dataset = load(fingerprint).dataset
    model = NCF(NCFSettings(**EPOCH), seed=0).fit(dataset, note)
    trained = peak_memory()
    started = time.perf_counter()
    ranked = evaluate(model, dataset, [10], sample=SAMPLE)
    return {
        "batch": EPOCH["batch_size"],
        "epoch [s]": epochs[0].seconds,
        "positives/s": epochs[0].examples_per_second,
        "peak [GiB]": trained / GIB,
        "test users": ranked.sample or f"{len(ranked.users):,} users",
        "test [s]": time.perf_counter() - started,
        "NDCG": ranked.evaluation.summary[METRIC],
        "error": standard_errors(ranked.evaluation.per_user, ranked.of).get(f"{METRIC}_{ERROR}", 0),
    }


def report(source: Path, folder: Path, shape: Shape, memory: int, train: bool) -> Report:
    """Prepare ``source``, load it, and train an epoch on it."""
    progress(f"preparing {shape.interactions:,} ratings in {memory / GIB:g} GiB")
    made = measure(prepare_in, folder, source, memory)
    preparation: Preparation = made.result
    fingerprint = preparation.fingerprint
    progress(f"{made.seconds:.0f} s, {made.peak / GIB:.2f} GiB; loading")
    loaded = measure(load_in, folder, fingerprint)
    stored = folder / "data" / "prepared" / fingerprint
    row: Row = {
        "rows": shape.interactions,
        "source [MiB]": _size(source) / MIB,
        "prepare [s]": made.seconds,
        "processor [s]": preparation.processor,
        "peak [GiB]": made.peak / GIB,
        "stored [MiB]": _size(stored) / MIB,
        "load [s]": loaded.seconds,
        "peak of load [GiB]": loaded.peak / GIB,
        "fingerprint": fingerprint,
    }
    tables = [Table("Preparing on disk", [row]), Table("What it is", [preparation.facts])]
    if train:
        progress("training")
        trained = measure(epoch_in, folder, fingerprint)
        title = f"An epoch of NCF, embedding_dim {EPOCH['embedding_dim']}, and a test at 10"
        tables.append(Table(title, [trained.result]))
    what = f"prepare {shape.interactions:,} ratings, peak memory"
    bars = [Bar(what, made.peak / GIB, memory / GIB, "GiB")]
    return Report("Larger than memory", tables, bars, list(preparation.notes))


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def main() -> None:
    """Command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--millions", type=float, default=200, help="ratings")
    arguments.add_argument("--memory", type=float, default=6, help="GiB to prepare them in")
    arguments.add_argument("--folder", type=Path, help="where ratings and datasets lie, and stay")
    arguments.add_argument("--no_epoch", action="store_true", help="prepare and load alone")
    given = arguments.parse_args()
    shape = shape_of(int(given.millions * 1e6))
    with ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(TemporaryDirectory()))
        folder = folder.absolute()
        source = folder / f"ratings-{given.millions:g}M"
        if not source.exists():
            progress(f"generating {shape.interactions:,} ratings")
            measure(write_parts, source, shape)
        memory = int(given.memory * GIB)
        report(source, folder, shape, memory, not given.no_epoch).publish(given.json)


if __name__ == "__main__":
    main()
