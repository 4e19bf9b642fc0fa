"""What --launcher ray does is what --launcher local does, though a node is lost meanwhile.

RAY_TRIALS=40 python -m pytest --timeout=900 tests/steps/test_on_ray.py -k study  # 40 trials
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from tests.steps.workplace import DEADLINE, SMALL, Workplace, counting, make_project, wait_until

N_TRIALS = int(os.environ.get("RAY_TRIALS", "8"))
STUDY = {
    "config": "small.yaml",
    "sampler": "grid",
    "space": {"learning_rate": [round(0.001 * number, 3) for number in range(1, N_TRIALS + 1)]},
}
PARENT = "mlflow.parentRunId"
TUNE = (
    "pipeline", "tune", "--study", "grid.yaml", "--dataset", "ratings.csv", "--heartbeat", "1",
    "--n_trials", str(N_TRIALS), "--n_seeds", "1", "--windows", "0.85", "--epochs", "25",
    "--patience", "none", "--pruner", "none",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame, store: Path
) -> Workplace:
    """A copy of the project; studies of the local launcher and of Ray have a storage each."""
    made = make_project(tmp_path_factory.mktemp("on ray"), ratings, store)
    (made.folder / "grid.yaml").write_text(yaml.safe_dump(STUDY))
    experiments = made.folder / "experiments"
    (experiments / "two.yaml").write_text(SMALL)
    (experiments / "suites" / "two.yaml").write_text("experiments: [most_popular, two]\n")
    return made


def test_a_suite_on_ray_has_the_same_leaderboard(place: Workplace, nodes: Any) -> None:
    words = ("main", "--dataset=ratings.csv", "--suite=experiments/suites/two.yaml", "--epochs=2")
    told = place.cli(*words, "--launcher=ray", f"--ray_address={nodes.address}")
    assert told.status == 0, told.told
    assert "2 workers on Ray, each with 1 CPU at a time." in told.told
    assert "train two: reused" in told.told  # the launcher has trained nothing
    assert place.cli(*words, "--reuse=false").status == 0
    here, on_ray = (leaderboard(place, run.info.run_id) for run in place.runs(step="main"))
    assert set(here["experiment"]) == {"most_popular", "two"}
    pd.testing.assert_frame_equal(on_ray, here, check_exact=True)
    assert {run.info.status for run in place.runs()} == {"FINISHED"}


def leaderboard(place: Workplace, parent: str) -> pd.DataFrame:
    """What the comparison below a run found, without the ids of runs."""
    children = [each for each in place.runs(step="compare") if each.data.tags[PARENT] == parent]
    (table,) = (pd.read_csv(place.artifact(each, "comparison.csv")) for each in children)
    return table.drop(columns="run_ids")


def test_lists_from_ray_are_the_same_lists(
    place: Workplace, nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.steps.recommend.ROWS", 200)  # of 132 users, 20 to a block
    run = place.runs(step="train", experiment="two")[0]
    words = ("recommend", "--run_id", run.info.run_id)
    on_ray = ("--launcher=ray", f"--ray_address={nodes.address}")
    told = place.cli(*words, "--output=ray.parquet", *on_ray)
    assert told.status == 0, told.told
    assert place.cli(*words, "--output=here.parquet").status == 0
    ray, here = (place.folder / f"{name}.parquet" for name in ("ray", "here"))
    assert pq.ParquetFile(ray).num_row_groups == 7
    assert ray.read_bytes() == here.read_bytes()


@contextmanager
def launched(place: Workplace, name: str, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """A study called ``name`` in a storage of that name; what is told is in a file of that name."""
    url = f"sqlite:///{name}.db"
    with (place.folder / f"{name}.log").open("w") as told:
        process = place.start(*TUNE, "--study_name", name, *flags, told=told, OPTUNA_STORAGE=url)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def finish(place: Workplace, name: str, process: subprocess.Popen[str]) -> None:
    assert process.wait(2 * DEADLINE + 5 * N_TRIALS) == 0, (
        place.folder / f"{name}.log"
    ).read_text()


def trials(place: Workplace, name: str) -> list[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{place.folder}/{name}.db").trials


def values(place: Workplace, name: str) -> dict[float, list[float]]:
    return {
        each.params["learning_rate"]: each.values
        for each in trials(place, name)
        if each.state == TrialState.COMPLETE
    }


def said(logs: Sequence[Path]) -> list[str]:
    return [log.read_text() for log in logs if log.exists()]


def kill_node(node: Any) -> None:
    """SIGKILL for a node's raylet and all that it has started, as when the machine is gone."""
    (raylet,) = node.all_processes["raylet"]
    tree = psutil.Process(raylet.process.pid)
    for each in [tree, *tree.children(recursive=True)]:
        each.kill()


def test_a_study_on_ray_loses_a_node_and_no_trial(place: Workplace, nodes: Any) -> None:
    with launched(place, "local", "--workers", "2") as local:
        finish(place, "local", local)
    logs = [place.folder / "data" / "studies" / "ray" / f"worker-{n}.log" for n in range(3)]
    ray = ("--launcher", "ray", "--ray_address", nodes.address, "--workers", "3")
    with launched(place, "ray", *ray) as launcher:
        wait_until(lambda: sum("of study" in log for log in said(logs)) == 2, launcher)
        waiting = [log for log in logs if not log.read_text()]
        assert len(waiting) == 1  # for a node
        wait_until(lambda: any("\ntrial " in log for log in said(logs)), launcher)
        lost = next(iter(nodes.worker_nodes))
        nodes.add_node(num_cpus=1, object_store_memory=100_000_000)
        wait_until(lambda: bool(waiting[0].read_text()), launcher)
        kill_node(lost)
        finish(place, "ray", launcher)
    nodes.remove_node(lost)
    launcher_said = (place.folder / "ray.log").read_text()
    assert (
        "3 workers on Ray, each with 1 CPU; 1 of them wait for a node with room." in launcher_said
    )
    assert "ended by the loss of its place on the cluster; another takes its place" in launcher_said
    assert sum("Lost: The actor" in log.read_text() for log in logs) == 1

    counted = counting(trials(place, "ray"))
    states = [each.state for each in counted]
    assert states.count(TrialState.COMPLETE) == N_TRIALS
    assert set(states) == {TrialState.COMPLETE, TrialState.FAIL}  # what ran on the lost node
    assert len(values(place, "local")) == N_TRIALS
    assert values(place, "ray") == values(place, "local")
    assert not [run for run in place.runs() if run.info.status == "RUNNING"]
    assert len(place.runs(step="train", experiment="grid_tuned")) == 1  # found: it is the same best
