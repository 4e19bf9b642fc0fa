"""Where steps run in tests: a folder with ratings, an experiment and a tracking store."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from mlflow.entities import Run as MlflowRun
from optuna.trial import FrozenTrial
from safetensors.numpy import load_file

from pipeline.cli import run
from pipeline.console import log

ROOT = Path(__file__).parents[2]
SMALL = """
model: ncf
seed: 3
loss: bpr
epochs: 8
patience: 2
batch_size: 256
learning_rate: 0.01
embedding_dim: 4
layers: [8, 4]
dropout: 0.1
windows: [0.7, 0.85]
"""
PASSWORD = "s3cret-Passw0rd"  # of a database; must never be seen anywhere
PROXIED = "mlflow-artifacts:/0"  # where a server says that experiment 0 has its files
DEADLINE = 60.0  # seconds, for what takes one or two


def counting(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those that count: without what two workers began at once when one was left to begin."""
    return [trial for trial in trials if "surplus" not in trial.user_attrs]


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it told."""

    status: int
    told: str


@dataclass(frozen=True)
class Workplace:
    """A folder to run steps in."""

    folder: Path

    @property
    def uri(self) -> str:
        """The tracking store, the one that MLflow takes by default in this folder."""
        return f"sqlite:///{self.folder}/mlflow.db"

    @property
    def client(self) -> mlflow.MlflowClient:
        """To look at what was tracked."""
        return mlflow.MlflowClient(self.uri)

    @contextmanager
    def entered(self, uri: str | None = None) -> Iterator[None]:
        """This process works here."""
        before = mlflow.get_tracking_uri()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            for name in (
                "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "PIPELINE_DATA_DIR",
                "_MLFLOW_SERVER_ARTIFACT_ROOT",
            ):  # fmt: skip
                patch.setenv(name, "")  # so that what a command sets there is taken back
                patch.delenv(name)
            mlflow.set_tracking_uri(uri or self.uri)
            try:
                yield
            finally:
                mlflow.set_tracking_uri(before)

    def cli(self, *words: str, uri: str | None = None) -> Outcome:
        """``python -m pipeline WORDS``, but in this process; a traceback is a failed test."""
        told = io.StringIO()
        handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
        # The tests themselves may be a shell's background job, which ignores SIGINT.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with (
            self.entered(uri),
            pytest.MonkeyPatch.context() as patch,
            redirect_stderr(told),
        ):
            patch.setattr(sys, "argv", ["pipeline", *words])
            patch.setattr(log, "handlers", [])
            patch.setattr(log, "propagate", True)
            try:
                run()
                status = 0
            except SystemExit as end:
                status = int(end.code or 0)
            finally:
                for each, handler in handlers.items():
                    signal.signal(each, handler)
        return Outcome(status, told.getvalue())

    def start(
        self,
        *command: str,
        on: Sequence[str] = (),
        told: IO[str] | None = None,
        **variables: str,
    ) -> subprocess.Popen[str]:
        """A Python module in a process of its own, as in ``start("pipeline", "train")``.

        ``on`` is what brings it to another host, ``told`` a file for what it says, instead of a
        pipe, and ``variables`` are environment.
        """
        return subprocess.Popen(
            [*on, sys.executable, "-m", *command],
            cwd=self.folder,
            env={**environment(), **variables},
            stdout=told or subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell's background job ignores SIGINT, and its children would, too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            start_new_session=True,
        )

    def call(self, *command: str) -> Outcome:
        """``start``, and wait for the end."""
        return finish(self.start(*command))

    def runs(self, **tags: str) -> list[MlflowRun]:
        """Runs with these tags, latest first."""
        wanted = " and ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
        return list(self.client.search_runs(["0"], wanted, order_by=["attributes.start_time DESC"]))

    def run(self, **tags: str) -> MlflowRun:
        """The only run with these tags."""
        (found,) = self.runs(**tags)
        return found

    def artifact(self, run: MlflowRun, name: str) -> Path:
        """A file of a run, where the store keeps it."""
        assert run.info.artifact_uri is not None
        return Path(run.info.artifact_uri.removeprefix("file://")) / name

    def files(self, run: MlflowRun) -> set[str]:
        """The paths of all files of a run."""
        root = self.artifact(run, "")
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}

    def json(self, run: MlflowRun, name: str) -> Any:
        """What a JSON artifact holds."""
        return json.loads(self.artifact(run, name).read_text())

    def model(self, run: MlflowRun) -> Path:
        """The folder of a run's model."""
        (logged,) = self.client.search_logged_models(
            ["0"], filter_string=f"source_run_id = '{run.info.run_id}'"
        )
        return Path(logged.artifact_location.removeprefix("file://"))

    def weights(self, run: MlflowRun) -> dict[str, npt.NDArray[Any]]:
        """What a run's model has learned."""
        (file,) = self.model(run).rglob("weights.safetensors")
        return dict(load_file(file))

    def history(self, run: MlflowRun, metric: str) -> dict[int, float]:
        """A metric's values by step; a step that was logged twice is a failed test."""
        points = self.client.get_metric_history(run.info.run_id, metric)
        assert len({point.step for point in points}) == len(points), f"{metric}: step logged twice"
        return {point.step: point.value for point in points}


def make_workplace(folder: Path, ratings: pd.DataFrame, store: Path | None) -> Workplace:
    """Fill ``folder``; with ``store``, a migrated database, MLflow need not make its own."""
    ratings.to_csv(folder / "ratings.csv", index=False)
    (folder / "small.yaml").write_text(SMALL)
    if store is not None:
        copy_store(store, folder, str(folder / "mlruns" / "0"))
    return Workplace(folder)


def make_team(folder: Path, ratings: pd.DataFrame, store: Path) -> Workplace:
    """A workplace whose store is as a server makes it that keeps artifacts itself."""
    copy_store(store, folder, PROXIED)
    return make_workplace(folder, ratings, None)


def copy_store(store: Path, folder: Path, artifacts: str) -> None:
    """Copy an empty store into ``folder``, to keep files of its first experiment elsewhere."""
    shutil.copy(store, folder / "mlflow.db")
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.execute("UPDATE experiments SET artifact_location = ?", (artifacts,))
    database.close()


def make_project(folder: Path, ratings: pd.DataFrame, store: Path | None) -> Workplace:
    """A workplace with the project's own files, as processes need it."""
    for name in ("MLproject", "conda.yaml"):
        shutil.copy(ROOT / name, folder)
    for name in ("pipeline", "experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".*", "*.pyc.*"))
    return make_workplace(folder, ratings, store)


@contextmanager
def served(place: Workplace, address: str) -> Iterator[str]:
    """The URL of a tracking server on the store of ``place``, which proxies artifacts."""
    port = free_port(address)
    process = start_server(place, address, port)
    with answering(process, f"http://{address}:{port}") as url:
        yield url


def start_server(place: Workplace, address: str, port: int) -> subprocess.Popen[str]:
    """Start ``mlflow server`` on the store of ``place``; artifacts go through it."""
    flags = {
        "host": address,
        "port": port,
        "workers": 1,
        "backend-store-uri": place.uri,
        "artifacts-destination": place.folder / "kept",
    }
    words = [f"--{name}={value}" for name, value in flags.items()]
    # A log file and not a pipe: a server whose pipe nobody empties stops answering.
    with (place.folder / "server.log").open("a") as told:
        return place.start(
            "mlflow", "server", *words, told=told, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"
        )


def free_port(address: str) -> int:
    """One at which nobody listens."""
    with socket.socket() as free:
        free.bind((address, 0))
        port: int = free.getsockname()[1]
    return port


@contextmanager
def answering(process: subprocess.Popen[str], url: str) -> Iterator[str]:
    """Wait until the server ``process`` answers at ``url``, which is given back; end it after."""
    try:
        wait_until(lambda: answers(url), process)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=DEADLINE)


def answers(url: str) -> bool:
    """Whether a tracking server answers at ``url``."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def environment() -> dict[str, str]:
    """That of a person at a shell: no variable of MLflow, and ``python`` is this Python."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW_", "_MLFLOW_")) and name != "PIPELINE_DATA_DIR"
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**kept, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}


def finish(process: subprocess.Popen[str]) -> Outcome:
    """Wait for the end of a process."""
    told, _ = process.communicate(timeout=2 * DEADLINE)
    return Outcome(process.returncode, told)


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait until something is true, but not longer than ``process`` lives."""
    until = time.monotonic() + DEADLINE
    while not true():
        if process is not None and process.poll() is not None:
            pytest.fail(f"the process has ended with {process.returncode}: {process.communicate()}")
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)


def run_told(process: subprocess.Popen[str]) -> str:
    """The id of the run of ``train``, as a process that has just been started tells it."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.search(r"train \w+: run (\w+)", line):
            return found[1]
    pytest.fail(f"the process has ended: {''.join(lines)}")


def equal(one: dict[str, npt.NDArray[Any]], other: dict[str, npt.NDArray[Any]]) -> bool:
    """Whether arrays are the same to the bit."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name])
        for name in one
    )


def untimed(metrics: dict[str, float]) -> dict[str, float]:
    """Metrics without those that measure time."""
    timed = ("epoch_seconds", "examples_per_second")
    return {name: value for name, value in metrics.items() if not name.endswith(timed)}
