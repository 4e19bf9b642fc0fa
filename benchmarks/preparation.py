"""Preparation, from ratings to a stored Dataset, and loading what was prepared.

    python -m benchmarks.preparation [--json]

MovieLens-1M as it lies in its zip, and generated ratings of ML-25M's shape as CSV in the order of
time. Every call has a process of its own, whose imports are not counted.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.fresh import MIB, measure
from benchmarks.generated import ML_25M, Shape, write
from benchmarks.report import Bar, Report, Row, Table, parser, progress
from pipeline.data.prepared import load, prepare
from pipeline.data.raw.sources import find
from pipeline.data.split_settings import SplitSettings
from pipeline.errors import UserError

GIB = 2**30
ROUNDS = 5
SECONDS, MEMORY_GIB = 60.0, 4.0  # to prepare 25 million
SMALL_SECONDS, LOAD_SECONDS = 3.0, 0.3  # to prepare MovieLens-1M, and to load it


def prepare_in(folder: Path, source: Path) -> tuple[str, int]:
    """Prepare ``source`` in ``folder``: its fingerprint, and how many ratings were read."""
    os.chdir(folder)
    prepared = prepare(str(source), SplitSettings(), reuse=False)
    return prepared.dataset.fingerprint, prepared.counts["rows_read"]


def load_in(folder: Path, fingerprint: str) -> str:
    """Load what was prepared in ``folder``: the fingerprint of what was found."""
    os.chdir(folder)
    return load(fingerprint).dataset.fingerprint


def figures(source: Path, folder: Path, rounds: int) -> Row:
    """One row: medians over ``rounds`` of preparing ``source`` in ``folder``, and of loading."""
    made = [measure(prepare_in, folder, source) for _ in range(rounds)]
    fingerprint, rows = made[0].result
    loaded = [measure(load_in, folder, fingerprint) for _ in range(rounds)]
    stored = folder / "data" / "prepared" / fingerprint
    return {
        "ratings": source.name,
        "rows": rows,
        "source [MiB]": source.stat().st_size / MIB,
        "prepare [s]": median(run.seconds for run in made),
        "peak [GiB]": max(run.peak for run in made) / GIB,
        "stored [MiB]": sum(file.stat().st_size for file in stored.iterdir()) / MIB,
        "load [s]": median(run.seconds for run in loaded),
        "peak of load [GiB]": max(run.peak for run in loaded) / GIB,
        "fingerprint": fingerprint,
    }


def report(shape: Shape, rounds: int) -> Report:
    """MovieLens-1M, where it can be had, and generated ratings of ``shape``, prepared once."""
    rows: list[Row] = []
    bars: list[Bar] = []
    notes = [
        f"MovieLens-1M: medians of {rounds} rounds; generated ratings: one preparation, one load. "
        "Peaks are of the whole process, imports included. Files were in the page cache. Loading "
        "reads every byte: the fingerprint is computed again."
    ]
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            source = find("ml-1m").path.resolve()
        except UserError:
            notes.append("MovieLens-1M could not be had here, so its bars are not shown.")
        else:
            progress("ml-1m")
            rows.append(row := figures(source, folder, rounds))
            prepared, loaded = float(row["prepare [s]"]), float(row["load [s]"])
            bars.append(Bar("prepare MovieLens-1M", prepared, SMALL_SECONDS, "s"))
            bars.append(Bar("load MovieLens-1M", loaded, LOAD_SECONDS, "s"))
        progress(f"generating {shape.interactions:,} ratings")
        file = folder / "generated.csv"
        measure(write, file, shape)
        progress("preparing them")
        rows.append(row := figures(file, folder, 1))
    what = f"prepare {shape.interactions:,} ratings"
    bars.append(Bar(what, float(row["prepare [s]"]), SECONDS, "s"))
    bars.append(Bar(f"{what}, peak memory", float(row["peak [GiB]"]), MEMORY_GIB, "GiB"))
    shaped = f"{shape.users:,} users, {shape.items:,} items"
    table = Table(f"Preparing and loading; the generated ratings have {shaped}", rows)
    return Report("Preparation", [table], bars, notes)


def main() -> None:
    """Command line."""
    given = parser(__doc__).parse_args()
    report(ML_25M, ROUNDS).publish(given.json)


if __name__ == "__main__":
    main()
