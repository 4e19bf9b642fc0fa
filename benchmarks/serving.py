"""A model of the ledger behind HTTP: how long one user waits, and how many are answered.

    python -m benchmarks.serving [--dataset ml-1m] [--json]

NCF is trained for a few epochs as experiments/ncf.yaml has it, logged, and served by ``mlflow
models serve`` in a process of its own on this machine; one client asks over a kept connection.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests

from benchmarks.report import Bar, Report, Row, Table, parser, progress
from benchmarks.servers import model_server

CONFIG = Path(__file__).parents[1] / "experiments" / "ncf.yaml"
MEDIAN_MS, USERS_PER_SECOND = 20.0, 1000.0
CALLS, FOLDED, BATCHES, BATCH = 300, 50, 10, 1000


def logged_model(dataset: str, epochs: int) -> tuple[str, list[str], list[str]]:
    """The URI of a model logged in the present store, and the ids of its users and items."""
    from pipeline.config import read_experiment
    from pipeline.data.raw.reading import AS_IT_IS
    from pipeline.evaluation.prepared import prepare_and_tell
    from pipeline.steps.inputs import Inputs
    from pipeline.steps.train import train

    experiment = read_experiment(CONFIG, {"epochs": epochs, "windows": "none", "patience": "none"})
    prepared = prepare_and_tell(dataset, experiment.split)
    data = prepared.dataset
    inputs = Inputs(experiment, dataset, AS_IT_IS, data.fingerprint)
    run = train(inputs, prepared, reuse=False).run
    users, items = data.users["user"][: data.n_users], data.items["item"]
    return f"runs:/{run.id}/model", users.astype(str).tolist(), items.astype(str).tolist()


def ask(session: requests.Session, url: str, records: Sequence[dict[str, Any]]) -> float:
    """Seconds of one request with all ``records``.

    Raises:
        RuntimeError: the answer is not a list of ten for each.
    """
    started = time.perf_counter()
    answer = session.post(f"{url}/invocations", json={"dataframe_records": list(records)})
    taken = time.perf_counter() - started
    if answer.status_code != 200 or len(answer.json()["predictions"]) != 10 * len(records):
        raise RuntimeError(f"{answer.status_code}: {answer.text[:500]}")
    return taken


def load(url: str, users: Sequence[str], items: Sequence[str]) -> list[Row]:
    """A row per kind of request: one user, one that likes five items, a batch of users."""

    def among(ids: Sequence[str], place: int, count: int) -> list[str]:
        return [ids[(place * count + step) % len(ids)] for step in range(count)]

    kinds: dict[str, list[list[dict[str, Any]]]] = {
        "one user": [[{"user": users[call % len(users)]}] for call in range(CALLS)],
        "one by five items": [[{"items": among(items, call, 5)}] for call in range(FOLDED)],
        f"{BATCH} users": [
            [{"user": user} for user in among(users, call, BATCH)] for call in range(BATCHES)
        ],
    }
    rows: list[Row] = []
    with requests.Session() as session:
        for kind, calls in kinds.items():
            progress(kind)
            ask(session, url, calls[0])
            times = sorted(ask(session, url, records) for records in calls)
            rows.append(
                {
                    "request": kind,
                    "calls": len(times),
                    "median [ms]": statistics.median(times) * 1e3,
                    "95 % [ms]": times[int(0.95 * len(times))] * 1e3,
                    "answered/s": len(calls[0]) * len(times) / sum(times),
                }
            )
    return rows


def report(dataset: str, epochs: int) -> Report:
    """Train, serve, ask."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{temporary}/mlflow.db"
        os.chdir(temporary)
        try:
            uri, users, items = logged_model(dataset, epochs)
            with model_server(uri, Path(temporary)) as url:
                rows = load(url, users, items)
        finally:
            os.chdir(before)
    one, _, batch = rows
    bars = [
        Bar("one user, median", float(one["median [ms]"]), MEDIAN_MS, "ms"),
        Bar("users per second in batches", float(batch["answered/s"]), USERS_PER_SECOND, "", True),
    ]
    size = f"{len(users):,} users x {len(items):,} items"
    note = "Client and server share the machine's cores; every answer was checked for its length."
    return Report("Serving", [Table(f"NCF, {size}, k = 10, over HTTP", rows)], bars, [note])


def main() -> None:
    """Command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--dataset", default="ml-1m", help="what to prepare and train on")
    arguments.add_argument("--epochs", type=int, default=3, help="of the model that is served")
    given = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without ending the server
    report(given.dataset, given.epochs).publish(given.json)


if __name__ == "__main__":
    main()
