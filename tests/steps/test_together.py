"""train on several processes of torchrun: one run, whichever of them is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from mlflow.entities import Run as MlflowRun

from pipeline.cli import cli
from pipeline.config import read_experiment
from pipeline.errors import UserError
from pipeline.steps.environment import on_processes
from pipeline.training.checkpoint import Journal
from tests.steps.workplace import Outcome, Workplace, finish, run_told, untimed, wait_until

EPOCHS = 8
TRAIN = (
    "train", "--config=small.yaml", "--dataset=ratings.csv", "--windows=0.85", "--batch_size=128",
    f"--epochs={EPOCHS}", "--patience=none", "--reuse=false", "--optimizer=lazy_adam",
    "--embeddings=sharded",
)  # fmt: skip
FITS = ("window_0.85", "final")


@pytest.fixture(scope="module")
def whole(shared: Workplace) -> MlflowRun:
    """The run that one process made of two shards, and that was never killed."""
    outcome = shared.cli(*TRAIN, "--shards=2")
    assert outcome.status == 0, outcome.told
    return shared.run(step="train")


def torchrun(workplace: Workplace, *words: str) -> subprocess.Popen[str]:
    """Two processes of a command."""
    launch = ("torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "pipeline")
    return workplace.start(*launch, *words)


def alike(workplace: Workplace, run: MlflowRun, whole: MlflowRun) -> None:
    """Whether a run is what ``whole`` is, to 1e-6."""
    assert run.info.status == whole.info.status == "FINISHED"
    assert run.data.params == whole.data.params
    assert run.data.params["shards"] == "2"
    assert untimed(run.data.metrics) == pytest.approx(untimed(whole.data.metrics), abs=1e-6)
    ours, theirs = (workplace.weights(each) for each in (run, whole))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], atol=1e-6, rtol=1e-6)
    for fit in ("train", "val/window_0.85"):
        assert list(workplace.history(run, f"{fit}/loss")) == list(range(1, EPOCHS + 1))
    assert workplace.files(run) == workplace.files(whole)


def test_two_processes_make_one_run(shared: Workplace, whole: MlflowRun) -> None:
    outcome = finish(torchrun(shared, *TRAIN))
    assert outcome.status == 0, outcome.told
    told = re.findall(r"train small: run (\w+)", outcome.told)
    assert len(told) == 1  # the other process is silent
    assert "error" not in outcome.told.lower()
    alike(shared, shared.client.get_run(told[0]), whole)


def kill(workplace: Workplace, process: subprocess.Popen[str], rank: int, fit: str) -> Outcome:
    """Kill one process of torchrun's amid a fit; how torchrun ends."""
    run_id = run_told(process)
    path = workplace.folder / "data" / "checkpoints" / run_id / "checkpoint.pt"

    def trains() -> bool:
        return path.exists() and len(Journal.load(path).records.get(fit, [])) >= 2

    wait_until(trains, process)
    os.kill(process_of(process, rank), signal.SIGKILL)
    outcome = finish(process)
    kept = Journal.load(path)
    assert len(kept.records[fit]) < EPOCHS
    assert outcome.status != 0
    return outcome


def process_of(launcher: subprocess.Popen[str], rank: int) -> int:
    """The id of the process of this rank."""
    tasks = Path("/proc", str(launcher.pid), "task").glob("*/children")
    children = [pid for task in tasks for pid in task.read_text().split()]
    (found,) = (
        int(pid)
        for pid in children
        if f"RANK={rank}".encode() in Path("/proc", pid, "environ").read_bytes().split(b"\0")
    )
    return found


def test_a_process_is_killed_and_the_run_goes_on_on_two_and_on_one(
    shared: Workplace, whole: MlflowRun
) -> None:
    outcome = kill(shared, torchrun(shared, *TRAIN), 1, FITS[0])
    run = shared.runs(step="train")[0]
    resume = ("train", "--resume", run.info.run_id)
    assert run.info.status in ("FAILED", "KILLED")
    assert f"\n  python -m pipeline {' '.join(resume)}\n" in outcome.told
    assert run.info.run_id != whole.info.run_id
    # Once more: the one that leads, which can end nothing any more.
    kill(shared, torchrun(shared, *resume), 0, FITS[1])
    assert shared.client.get_run(run.info.run_id).info.status == "RUNNING"
    outcome = shared.cli(*resume)
    assert outcome.status == 0, outcome.told
    assert re.search(r"goes on after epoch \d of final", outcome.told)
    alike(shared, shared.client.get_run(run.info.run_id), whole)


def among(monkeypatch: pytest.MonkeyPatch, processes: int) -> None:
    """As the first of so many processes."""
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, str(processes))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")


def test_other_commands_are_not_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    among(monkeypatch, 2)
    with pytest.raises(UserError, match=r"2 processes of sync.*give that command without torchrun"):
        cli(["sync"], standalone_mode=False)


def test_there_is_a_shard_for_each_process_at_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    given = read_experiment(None, {"model": "ncf", "shards": 3})
    plain = read_experiment(None, {"model": "ncf"})
    assert on_processes(plain) is plain
    among(monkeypatch, 2)
    assert on_processes(plain).flat()["shards"] == 2
    assert on_processes(given) is given
    among(monkeypatch, 4)
    with pytest.raises(UserError, match=r"in 3 shards .* --nproc_per_node 3 or fewer"):
        on_processes(given)
    with pytest.raises(UserError, match="model=ease is fitted in one process"):
        on_processes(read_experiment(None, {"model": "ease"}))
