"""Lists for everybody, written to a file: how long it takes, and that memory does not grow.

    python -m benchmarks.recommend [--dataset ml-1m] [--json]

The time is that of the whole command, ``python -m pipeline recommend``, for all users of NCF as
experiments/ncf.yaml has it, trained for a few epochs. The memory is the most that a new process
has resident while it answers a file of generated users by a small model.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.fresh import MIB, measure
from benchmarks.generated import Shape, write
from benchmarks.report import Bar, Report, Row, Table, parser, progress
from benchmarks.serving import logged_model

ROOT = Path(__file__).parents[1]
SMALL = Shape(interactions=60_000, users=2_000, items=500)
FILES = (100_000, 1_000_000)
SECONDS, GROWTH_MIB = 20.0, 32.0
ROUNDS = 2
STRANGERS = 10  # one in so many of a file's users did not train


def users_file(path: Path, count: int, known: list[str]) -> None:
    """A CSV file of ``count`` users, drawn from the known ones and from others."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(known), size=count)
    strange = rng.integers(STRANGERS, size=count) == 0
    with path.open("w") as file:
        file.write("user\n")
        for place, one, other in zip(range(count), drawn, strange, strict=True):
            file.write(f"stranger {place}\n" if other else f"{known[one]}\n")


def written(run_id: str, users: str, output: str) -> dict[str, int]:
    """The step itself; how many users were answered in which way."""
    from pipeline.steps.recommend import recommend
    from pipeline.tracking.runs import Run

    return dict(recommend(Run(run_id), users, 10, Path(output), overwrite=True))


def memory(run_id: str, known: list[str], folder: Path) -> list[Row]:
    """A row per number of users in a file."""
    rows: list[Row] = []
    for count in FILES:
        progress(f"{count:,} generated users")
        users, output = folder / f"{count}.csv", folder / "lists.parquet"
        users_file(users, count, known)
        measured = measure(written, run_id, str(users), str(output))
        if sum(measured.result.values()) != count:
            raise RuntimeError(f"{count} users were asked for, answered: {measured.result}")
        rows.append(
            {
                "users": count,
                "time [s]": measured.seconds,
                "users/s": count / measured.seconds,
                "file [MiB]": output.stat().st_size / MIB,
                "peak memory [MiB]": measured.peak / MIB,
            }
        )
    return rows


def command(run_id: str, folder: Path) -> float:
    """Seconds of the command for all users of the model: the best of ``ROUNDS`` calls."""
    words = ["recommend", "--run_id", run_id, "--output", "all.parquet", "--overwrite", "true"]
    times = []
    for number in range(ROUNDS):
        progress(f"all users, {number + 1} of {ROUNDS}")
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "pipeline", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
            stderr=subprocess.DEVNULL,
        )
        times.append(time.perf_counter() - started)
    return min(times)


def report(dataset: str, epochs: int) -> Report:
    """Train, recommend, and look at time and memory."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        os.chdir(folder)
        try:
            uri, users, items = logged_model(dataset, epochs)
            seconds = command(_run_id(uri), folder)
            write(folder / "ratings.csv", SMALL)
            uri, known, few = logged_model("ratings.csv", epochs)
            peaks = memory(_run_id(uri), known, folder)
        finally:
            os.chdir(before)
    least, most = (float(row["peak memory [MiB]"]) for row in peaks)
    everybody: Row = {"users": len(users), "items": len(items), "time [s]": seconds}
    bars = [
        Bar(f"all users of {dataset}", seconds, SECONDS, "s"),
        Bar(
            f"memory that {FILES[1]:,} users take more than {FILES[0]:,}",
            max(0.0, most - least), GROWTH_MIB, "MiB",
        ),
    ]  # fmt: skip
    tables = [
        Table("All users of NCF, k = 10: the command", [everybody]),
        Table(f"Files of users, NCF of {len(few):,} items, k = 10: the step", peaks),
    ]
    note = f"Best of {ROUNDS} calls of the command, imports included; the step is called once."
    return Report("Lists for everybody", tables, bars, [note])


def _run_id(uri: str) -> str:
    return uri.removeprefix("runs:/").removesuffix("/model")


def main() -> None:
    """Command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--dataset", default="ml-1m", help="what to prepare and train on")
    arguments.add_argument("--epochs", type=int, default=2, help="of the models")
    given = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without what it started
    report(given.dataset, given.epochs).publish(given.json)


if __name__ == "__main__":
    main()
