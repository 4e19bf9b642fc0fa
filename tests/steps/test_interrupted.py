"""Whatever ends a process politely ends its run, too, in a true state."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from mlflow.entities import Run as MlflowRun
from sqlalchemy import event
from sqlalchemy.engine import Engine

from pipeline.tracking.store import SYNC
from pipeline.training.checkpoint import Journal
from tests.steps.workplace import DEADLINE, Workplace, run_told, wait_until

FIELDS = {"config": "small.yaml", "dataset": "ratings.csv", "epochs": "100000", "patience": "none"}
TRAIN = ("pipeline", "train", *(word for name in FIELDS for word in (f"--{name}", FIELDS[name])))
MLFLOW = ("mlflow", "run", ".", "--env-manager", "local", "-e", "train")
MLFLOW_TRAIN = (*MLFLOW, *(word for name in FIELDS for word in ("-P", f"{name}={FIELDS[name]}")))


@dataclass(frozen=True)
class Ended:
    """A process that trained, and its run."""

    status: int
    told: str
    run: MlflowRun


@pytest.fixture(scope="module")
def training(project: Workplace) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Processes that train and would do so for long."""
    commands = {"SIGTERM": TRAIN, "SIGINT": TRAIN, "mlflow": MLFLOW_TRAIN, "Ctrl-C": MLFLOW_TRAIN}
    processes = {name: project.start(*command) for name, command in commands.items()}
    yield processes
    for process in processes.values():
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def ended(
    project: Workplace, process: subprocess.Popen[str], number: signal.Signals, group: bool = False
) -> Ended:
    run_id = run_told(process)
    assert project.client.get_run(run_id).info.status == "RUNNING"
    if group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    told, _ = process.communicate(timeout=DEADLINE)  # until all who can write to it have ended
    if SYNC in told:  # who is in a hurry may leave its end in the outbox, and says so
        assert project.call("pipeline", "sync").status == 0
    return Ended(process.returncode, told, project.client.get_run(run_id))


@pytest.fixture(scope="module")
def terminated(project: Workplace, training: dict[str, subprocess.Popen[str]]) -> Ended:
    return ended(project, training["SIGTERM"], signal.SIGTERM)


def test_sigterm(terminated: Ended) -> None:
    assert terminated.status != 0
    assert terminated.run.info.status == "KILLED", terminated.told
    assert terminated.run.data.tags["ended"] == "interrupted (TerminatedError)"
    assert "Interrupted." in terminated.told
    assert "Traceback" not in terminated.told


def test_sigterm_has_its_exit_status(terminated: Ended) -> None:
    assert terminated.status == 143


def test_ctrl_c(project: Workplace, training: dict[str, subprocess.Popen[str]]) -> None:
    end = ended(project, training["SIGINT"], signal.SIGINT)
    assert end.status == 130
    assert end.run.info.status == "KILLED", end.told
    assert "Interrupted." in end.told
    assert "Traceback" not in end.told


def test_sigterm_of_mlflow_run(
    project: Workplace, training: dict[str, subprocess.Popen[str]]
) -> None:
    end = ended(project, training["mlflow"], signal.SIGTERM)
    assert end.status == -signal.SIGTERM
    assert end.run.info.status == "KILLED", end.told
    assert end.run.info.run_name == "small epochs=100000 patience=none"


def test_ctrl_c_at_mlflow_run(
    project: Workplace, training: dict[str, subprocess.Popen[str]]
) -> None:
    end = ended(project, training["Ctrl-C"], signal.SIGINT, group=True)
    assert end.status != 0
    assert end.run.info.status in ("KILLED", "FAILED")


def test_a_killed_run_keeps_its_checkpoint(
    project: Workplace, training: dict[str, subprocess.Popen[str]]
) -> None:
    assert len(training) == len(project.runs(step="train"))
    for run in project.runs(step="train"):
        path = project.artifact(run, "checkpoint/checkpoint.pt")
        if path.exists():  # it may have been ended before its first epoch
            assert list(Journal.load(path).records) == ["window_0.7"]


def test_sigterm_of_mlflow_run_before_the_run_is_taken(project: Workplace) -> None:
    before = {run.info.run_id for run in project.runs()}
    pipe = project.folder / "endless.yaml"
    os.mkfifo(pipe)  # nobody ever writes to it: a disk that hangs
    process = project.start(*MLFLOW, "-P", "config=endless.yaml", "-P", "dataset=ratings.csv")
    ends = []

    def reads() -> bool:
        try:
            ends.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody has opened it for reading
            return False
        return True

    wait_until(reads, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=DEADLINE)
    os.close(ends.pop())
    (run,) = (run for run in project.runs() if run.info.run_id not in before)
    assert run.info.status == "KILLED"


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_amid_a_write_to_the_store(
    workplace: Workplace, number: signal.Signals, status: int
) -> None:
    struck = []

    def strike(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO metrics") and not struck:
            struck.append(statement)
            os.kill(os.getpid(), number)

    event.listen(Engine, "after_cursor_execute", strike)
    try:
        outcome = workplace.cli(*TRAIN[1:])
    finally:
        event.remove(Engine, "after_cursor_execute", strike)
    assert struck
    assert outcome.status == status
    run = workplace.run(step="train")
    assert run.info.status == "KILLED"
    assert run.data.metrics  # what was being written is whole
