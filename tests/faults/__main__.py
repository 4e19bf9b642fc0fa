"""A table of faults, and what comes of a run that meets each.

    python -m tests.faults                        (or: make faults)
    python -m tests.faults --only "in HTML"       the rows whose name has that in it

Real parts: ``mlflow server`` behind a real proxy that answers wrongly, a disk that is full because
it is small, a second user, many processes, a clock that goes back. A command meets the fault, the
fault ends, ``sync`` delivers what is left, and what did not come to its end is gone on with as its
own words say. A row is ``exact`` if the run is then equal to its twin, which met nothing:
parameters, every point of every metric but times, tags, datasets, files, weights and lists to the
bit; if no run is RUNNING, no point there twice, and nothing is left in the outbox; and if nobody
was shown a traceback. Exit status 1 if a row is not.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import mlflow
import numpy as np
from rich.console import Console
from rich.table import Table

from tests.conftest import make_ratings
from tests.faults import clocks, crowds, disks, secrets, servers, users
from tests.faults.rows import EXACT, Row
from tests.steps import workplace

GROUPS = (servers, disks, users, crowds, clocks, secrets)


def main() -> None:
    """Try all rows, and print a table of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--folder", type=Path, help="where to work; it is kept")
    given = parser.parse_args()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    workplace.DEADLINE = 600.0  # seconds; the machine may be busy, and nothing here measures time
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    folder = given.folder or Path(tempfile.mkdtemp(prefix="faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # for other users
    ratings = make_ratings(np.random.default_rng(0), n_users=120)
    found: list[Row] = []
    for group in GROUPS:
        below = folder / group.__name__.rpartition(".")[2]
        below.mkdir(exist_ok=True)
        began = time.monotonic()
        for row in group.rows(below, ratings, given.only):
            found.append(row)
            seconds, began = time.monotonic() - began, time.monotonic()
            print(f"{row.group}: {row.fault}: {row.verdict} ({seconds:.0f} s)", flush=True)
    show(found)
    print(f"mlflow {mlflow.__version__}, in {folder}")
    sys.exit(any(row.verdict != EXACT for row in found))


def show(found: list[Row]) -> None:
    """Print the table."""
    table = Table("", "fault", "on the way", "verdict")
    for row in found:
        table.add_row(row.group, row.fault, ", ".join(row.ways) or "went on", row.verdict)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
