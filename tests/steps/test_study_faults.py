"""A study survives what happens to its processes: every trial is run, none twice, all runs end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml
from mlflow.entities import Run as MlflowRun
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from tests.steps.workplace import DEADLINE, PASSWORD, Workplace, counting, make_project, wait_until

NAME = "killed"
N_TRIALS = 6
STUDY = {  # choices have no edge at which the space would be widened, and the budget with it
    "config": "small.yaml",
    "space": {
        "learning_rate": [0.001 * number for number in range(1, 41)],
        "l2": [1e-6 * number for number in range(1, 41)],
    },
}
TUNE = (
    "pipeline", "tune", "--study", "killed.yaml", "--dataset", "ratings.csv",
    "--study_name", NAME, "--n_trials", str(N_TRIALS), "--heartbeat", "1", "--n_seeds", "1",
    "--windows", "0.85", "--epochs", "80", "--patience", "none", "--pruner", "none",
)  # fmt: skip


@dataclass
class Site:
    """Where a study runs, and a look at both of its stores."""

    workplace: Workplace
    url: str

    @cached_property
    def storage(self) -> BaseStorage:
        """Opened once: who looks often must not take all connections."""
        return optuna.storages.get_storage(self.url)

    @property
    def study(self) -> Study:
        return optuna.load_study(study_name=NAME, storage=self.storage)

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        with suppress(KeyError):  # while there is no study yet
            return self.study.get_trials(deepcopy=False, states=states or None)
        return []

    @property
    def done(self) -> list[FrozenTrial]:
        return self.trials(TrialState.COMPLETE, TrialState.PRUNED)

    @property
    def told(self) -> Path:
        return self.workplace.folder / "told.log"

    @contextmanager
    def launched(self, *flags: str) -> Iterator[subprocess.Popen[str]]:
        """A launcher, which writes to ``told``; whatever is left of it is killed in the end."""
        with self.told.open("a") as told:
            process = self.workplace.start(*TUNE, *flags, told=told, OPTUNA_STORAGE=self.url)
        try:
            yield process
        finally:
            kill_all(process)

    def wait_for(self, true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
        try:
            wait_until(true, process)
        except BaseException:
            print(self.told.read_text())  # pytest shows it
            raise


def workers_of(process: subprocess.Popen[str]) -> dict[int, int]:
    """The process ids of a launcher's workers, by their number."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            started_by = f"PIPELINE_STARTED_BY={process.pid}"
            if started_by in (folder / "environ").read_bytes().decode().split("\0"):
                found[int(words[words.index("--number") + 1])] = int(folder.name)
    return found


def kill_all(process: subprocess.Popen[str]) -> None:
    """SIGKILL for a launcher and its workers, as when the machine goes down."""
    pids = [process.pid, *workers_of(process).values()]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def make_site(folder: Path, ratings: pd.DataFrame, store: Path, url: str) -> Site:
    place = make_project(folder, ratings, store)
    (place.folder / "killed.yaml").write_text(yaml.safe_dump(STUDY))
    return Site(place, url)


@pytest.fixture
def on_sqlite(tmp_path: Path, ratings: pd.DataFrame, store: Path) -> Site:
    return make_site(tmp_path, ratings, store, f"sqlite:///{tmp_path}/optuna.db")


@pytest.fixture
def on_postgresql(tmp_path: Path, ratings: pd.DataFrame, store: Path, postgresql: str) -> Site:
    return make_site(tmp_path, ratings, store, postgresql)


def runs_of(site: Site, step: str) -> list[MlflowRun]:
    return site.workplace.runs(step=step)


def test_killed_workers_and_launchers_lose_no_trial(on_postgresql: Site) -> None:
    site = on_postgresql  # on SQLite: `make soak`
    with site.launched("--workers", "2") as launcher:
        site.wait_for(lambda: len(site.done) >= 1 and is_busy(site, launcher), launcher)
        os.kill(max(workers_of(launcher).values()), signal.SIGKILL)  # in mid-trial
        site.wait_for(lambda: len(site.done) >= 3 and is_busy(site, launcher), launcher)
        assert launcher.poll() is None
        kill_all(launcher)
    done = len(site.done)
    assert done < N_TRIALS, "it was too quick to be killed"
    with site.launched("--workers", "2") as launcher:
        status = launcher.wait(timeout=2 * DEADLINE)
    told = site.told.read_text()
    assert status == 0, told
    assert "ended by signal SIGKILL; another takes its place" in told

    trials = counting(site.trials())
    counted = [each for each in trials if each.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert len(counted) == N_TRIALS
    assert len({str(sorted(each.params.items())) for each in counted}) == N_TRIALS
    lost = [each for each in trials if each.state == TrialState.FAIL]
    assert {each.state for each in trials} == {TrialState.COMPLETE, TrialState.FAIL}
    assert 2 <= len(lost) <= 4
    again = {str(each.params) for each in counted if "retry_history" in each.system_attrs}
    assert {str(each.params) for each in lost if each.params} <= again

    assert not [run for run in site.workplace.runs() if run.info.status == "RUNNING"]
    (parent,) = runs_of(site, "tune")
    assert parent.info.status == "FINISHED"
    for metric in parent.data.metrics:
        site.workplace.history(parent, metric)  # no step twice
    children = {int(run.data.tags["trial"]): run for run in runs_of(site, "trial")}
    for each in counted:
        assert children[each.number].info.status == "FINISHED"
        assert children[each.number].data.tags["trial_state"] == "complete"
        assert children[each.number].data.tags["mlflow.parentRunId"] == parent.info.run_id
    for each in lost:
        if each.number in children:
            assert children[each.number].info.status == "KILLED"
            assert children[each.number].data.tags["trial_state"] == "lost"
    (refitted,) = runs_of(site, "train")
    assert "test/ndcg_at_10" in refitted.data.metrics
    version = site.workplace.client.get_model_version_by_alias("killed-ratings", "champion")
    assert version.run_id == refitted.info.run_id
    assert_no_password(site.workplace.folder)


def is_busy(site: Site, launcher: subprocess.Popen[str]) -> bool:
    """Whether both workers are in the middle of a trial."""
    running = site.trials(TrialState.RUNNING)
    begun = [each for each in running if each.intermediate_values]
    return len(begun) == 2 and len(workers_of(launcher)) == 2


def assert_no_password(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            assert PASSWORD.encode() not in file.read_bytes(), file


def test_ctrl_c_lets_trials_finish_and_the_study_goes_on(on_sqlite: Site) -> None:
    site = on_sqlite
    with site.launched("--workers", "1") as launcher:
        site.wait_for(lambda: bool(workers_of(launcher)), launcher)
        os.kill(workers_of(launcher)[0], signal.SIGKILL)  # the only one
        site.wait_for(lambda: bool(site.trials(TrialState.RUNNING)), launcher)
        launcher.send_signal(signal.SIGINT)
        assert launcher.wait(timeout=DEADLINE) == 130
    told = site.told.read_text()
    assert "another takes its place" in told
    kept = re.search(r"Study killed is kept, with \d of 6 trials done\.\nNext:\n((  .*\n)+)", told)
    assert kept is not None
    assert kept[1].splitlines()[-1].startswith("  python -m pipeline tune ")
    assert "Traceback" not in told
    assert {each.state for each in site.trials()} == {TrialState.COMPLETE}
    assert {run.info.status for run in runs_of(site, "trial")} == {"FINISHED"}
    assert [run.info.status for run in runs_of(site, "tune")] == ["KILLED"]
    before = len(site.done)
    with site.launched("--workers", "1") as launcher:
        site.wait_for(lambda: len(site.done) > before, launcher)
        launcher.send_signal(signal.SIGINT)
        time.sleep(0.2)
        launcher.send_signal(signal.SIGINT)  # at once
        assert launcher.wait(timeout=DEADLINE) == 130
    assert not site.trials(TrialState.RUNNING)
    assert not [run for run in site.workplace.runs() if run.info.status == "RUNNING"]
