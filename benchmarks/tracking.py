"""What tracking costs: an experiment trained and evaluated with MLflow, and without.

    python -m benchmarks.tracking [--dataset ml-1m] [--epochs 20] [--rounds 3] [--json]

All sides load the same prepared dataset, train the notebook's network without windows, write a
checkpoint after every epoch, rank the test and save the model, each time in a new process that
imports what it needs and is timed from its start to its end. "none" ends there, without MLflow;
the others are the steps ``train`` and ``evaluate`` on a SQLite store and on an ``mlflow server``
of this machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

# What the sides measure is imported by them: it is a part of what they cost.
from benchmarks.fresh import measure
from benchmarks.report import Bar, Report, Row, Table, parser, progress
from benchmarks.servers import tracking_server
from pipeline.process import collect_rarely

if TYPE_CHECKING:
    from pipeline.config import Experiment

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "experiments" / "ncf_bpr.yaml"
SHARE, FIXED = 0.03, 3.0  # what tracking may cost: of the run without, and seconds
HELP_SECONDS, HELP_CALLS = 0.5, 10


def untracked(folder: Path, dataset: str, epochs: int) -> dict[str, float]:
    """Train, evaluate and save as the steps do, without MLflow; the test metrics by name."""
    from pipeline.data.prepared import prepare
    from pipeline.evaluation.evaluate import evaluate
    from pipeline.models.fitting import fit
    from pipeline.models.folder import save_model
    from pipeline.training.checkpoint import Journal

    os.chdir(folder)
    collect_rarely()
    experiment = _experiment(epochs)
    data = prepare(dataset, experiment.split).dataset
    with tempfile.TemporaryDirectory(dir=folder) as kept:
        model = experiment.recommender()
        fit(model, data, "final", Journal(Path(kept) / "checkpoint.pt"))
        save_model(experiment.model, model, data, Path(kept))
        summaries = {
            segment: evaluate(model, data, experiment.k, segment).evaluation.summary
            for segment, found in data.segments.items()
            if len(found.users)
        }
    return summaries["warm"]


def tracked(folder: Path, dataset: str, epochs: int, uri: str) -> dict[str, float]:
    """The steps ``train`` and ``evaluate`` on the store ``uri``; the test metrics by name."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # where the report goes
    os.chdir(folder)
    collect_rarely()
    from pipeline.data.raw.reading import AS_IT_IS
    from pipeline.evaluation.prepared import prepare_and_tell
    from pipeline.steps.evaluate import evaluate
    from pipeline.steps.inputs import Inputs
    from pipeline.steps.train import train

    experiment = _experiment(epochs)
    prepared = prepare_and_tell(dataset, experiment.split)
    inputs = Inputs(experiment, dataset, AS_IT_IS, prepared.dataset.fingerprint)
    trained = train(inputs, prepared, reuse=False)
    evaluate(trained, prepared)
    metrics = trained.run.metrics.items()
    return {name.removeprefix("test/"): value for name, value in metrics if "test/" in name}


def _experiment(epochs: int) -> Experiment:
    from pipeline.config import read_experiment

    return read_experiment(CONFIG, {"epochs": epochs, "windows": "none", "device": "cpu"})


def compare(dataset: str, epochs: int, rounds: int) -> list[Row]:
    """A row per side: the best of ``rounds`` processes, all sides taking turns.

    Raises:
        RuntimeError: the sides did not come to the same test metrics.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    taken: dict[str, list[float]] = {"none": [], "SQLite": [], "server": []}
    with (
        tempfile.TemporaryDirectory() as temporary,
        tracking_server((folder := Path(temporary)) / "server") as url,
    ):
        uris = {"SQLite": f"sqlite:///{folder / 'mlflow.db'}", "server": url}
        progress("the dataset and the stores are made")
        for uri in uris.values():
            measure(tracked, folder, dataset, 1, uri)
        for number in range(rounds):
            results = {}
            for side, seconds in taken.items():
                progress(f"round {number + 1}: tracking: {side}")
                to = (uris[side],) if side in uris else ()
                started = time.perf_counter()
                measured = measure(tracked if to else untracked, folder, dataset, epochs, *to)
                seconds.append(time.perf_counter() - started)
                results[side] = measured.result
            require_alike(results)
    best = {side: min(seconds) for side, seconds in taken.items()}
    return [
        {
            "tracking": side,
            "run [s]": seconds,
            "more than none [s]": seconds - best["none"],
            "allowed [s]": allowed(best["none"]) if side in uris else 0.0,
            "all rounds [s]": " ".join(f"{each:.2f}" for each in taken[side]),
        }
        for side, seconds in best.items()
    ]


def require_alike(results: dict[str, dict[str, float]]) -> None:
    """The same work was done: the same model was evaluated."""
    for side, metrics in results.items():
        for name, value in results["none"].items():
            if abs(metrics[name] - value) > 1e-9:
                raise RuntimeError(f"{side}: {name} is {metrics[name]}, without tracking {value}")


def allowed(run: float) -> float:
    """Seconds that tracking may cost a run that takes ``run`` seconds without it."""
    return SHARE * run + FIXED


def help_seconds(calls: int) -> float:
    """The best time of a whole process that prints the help."""
    command = [sys.executable, "-m", "pipeline", "--help"]
    taken = []
    for _ in range(calls):
        started = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - started)
    return min(taken)


def report(dataset: str, epochs: int, rounds: int) -> Report:
    """The whole comparison on a named dataset."""
    rows = compare(dataset, epochs, rounds)
    bars = [
        Bar(
            f"cost of tracking on {row['tracking']}, {SHARE:.0%} of the run and {FIXED:g} s",
            float(row["more than none [s]"]),
            float(row["allowed [s]"]),
            "s",
        )
        for row in rows[1:]
    ]
    progress("--help")
    bars.append(Bar("python -m pipeline --help", help_seconds(HELP_CALLS), HELP_SECONDS, "s"))
    table = Table(f"{CONFIG.stem}, {epochs} epochs on {dataset}: train and evaluate", rows)
    note = (
        f"Best of {rounds} new processes a side, taking turns, with their imports and their end; "
        f"the help is the best of {HELP_CALLS}. What only a run keeps (lists, per-user values, the "
        "environment, the code of the model) counts as tracking. Stores were made before."
    )
    return Report("Tracking", [table], bars, [note])


def main() -> None:
    """Command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--dataset", default="ml-1m", help="what to prepare and train on")
    arguments.add_argument("--epochs", type=int, default=20, help="of the experiment")
    arguments.add_argument("--rounds", type=int, default=3, help="processes a side")
    given = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without ending the server
    report(given.dataset, given.epochs, given.rounds).publish(given.json)


if __name__ == "__main__":
    main()
