"""``mlflow run``: the project as people start it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from mlflow.entities import Run as MlflowRun

from tests.steps.workplace import Outcome, Workplace, finish, make_project

FIELDS = {
    "config": "small.yaml",
    "dataset": "ratings.csv",
    "learning_rate": "1e-3",
    "epochs": "02",
    "layers": "8,4",
    "validate": "false",
}
SETTINGS = {"dataset": "ratings.csv", "suite": "two", "epochs": "3", "dropout": ".2"}
SUITE = "experiments:\n  - most_popular\n  - ncf_bpr\n"
MLFLOW_RUN = ("mlflow", "run", ".", "--env-manager", "local")


def given(fields: dict[str, str]) -> list[str]:
    return [word for name, value in fields.items() for word in ("-P", f"{name}={value}")]


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame) -> Workplace:
    """The project as it is cloned: a repository without a store."""
    project = make_project(tmp_path_factory.mktemp("fresh"), ratings, None)
    (project.folder / "experiments" / "suites" / "two.yaml").write_text(SUITE)
    git(project.folder, "init", "--quiet")
    git(project.folder, "add", "MLproject", "pipeline", "experiments")
    git(project.folder, "commit", "--quiet", "--message", "all")
    return project


@pytest.fixture(scope="module")
def outcome(fresh: Workplace) -> Outcome:
    outcome = fresh.call(*MLFLOW_RUN, *given(SETTINGS))
    assert outcome.status == 0, outcome.told
    return outcome


@pytest.fixture(scope="module")
def parent(fresh: Workplace, outcome: Outcome) -> MlflowRun:
    return fresh.run(step="main")


def test_main_is_one_parent_with_its_steps(fresh: Workplace, parent: MlflowRun) -> None:
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "main two"
    assert parent.data.params == SETTINGS
    children = {
        run.info.run_name: run for run in fresh.runs() if run.info.run_id != parent.info.run_id
    }
    bpr = "ncf_bpr epochs=3 dropout=0.2"
    assert children.keys() == {"prepare ratings", "most_popular", bpr, "compare"}
    for run in children.values():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.status == "FINISHED"
    for name in ("step", "model", "dataset", "dataset_fingerprint", "split"):
        assert all(name in run.data.tags for run in fresh.runs())
    assert len({run.data.tags["dataset_fingerprint"] for run in fresh.runs()}) == 1
    params = children[bpr].data.params
    assert (params["epochs"], params["dropout"], params["loss"]) == ("3", "0.2", "bpr_sigmoid")
    assert "epochs" not in children["most_popular"].data.params  # it has no such field


def test_the_comparison_is_printed_and_kept(
    fresh: Workplace, outcome: Outcome, parent: MlflowRun
) -> None:
    rows = re.findall(r"^(\w+) +(\d\.\d{4})[ †]", outcome.told, re.MULTILINE)
    table = pd.read_csv(fresh.artifact(fresh.run(step="compare"), "comparison.csv"))
    board = table.pivot(index="experiment", columns="metric", values="mean")
    assert {name for name, _ in rows} == {"most_popular", "ncf_bpr"} == set(board.index)
    assert [float(shown) for _, shown in rows] == sorted((float(s) for _, s in rows), reverse=True)
    for name, shown in rows:
        metrics = fresh.run(experiment=name).data.metrics
        assert shown == f"{metrics['test/ndcg_at_10']:.4f}"
        found = board.loc[name, "coverage_at_10"]
        assert found == pytest.approx(metrics["test/coverage_at_10"])
        assert name in parent.data.tags["mlflow.note.content"]
        assert shown in parent.data.tags["mlflow.note.content"]
    assert "Traceback" not in outcome.told


def test_the_end_says_what_was_made_and_what_to_type(
    outcome: Outcome, fresh: Workplace, parent: MlflowRun
) -> None:
    end = outcome.told.partition("main two: 2 models, trained, tested and compared\n")[2]
    assert f"Runs and models: {fresh.uri}\nRun: {parent.info.run_id}\n" in end
    commands = re.findall(r"^  (python -m pipeline \w+.*)$", end, re.MULTILINE)
    assert [words.split()[3] for words in commands] == ["ui", "train", "tune"]
    train, tune = commands[1:]
    assert train.endswith("--model ncf --embedding_dim 16 --dataset ratings.csv")
    assert tune.endswith("--model ease --n_trials 10 --dataset ratings.csv")
    source = re.search(r"^  source (.*)$", end, re.MULTILINE)
    assert source is None or Path(source[1]).is_file()


def test_the_commit_is_a_tag(fresh: Workplace, parent: MlflowRun) -> None:
    for run in fresh.runs():
        assert run.data.tags["git_commit"] == git(fresh.folder, "rev-parse", "HEAD")
    assert parent.data.tags["git_dirty"] == "false"


@pytest.fixture(scope="module")
def others(fresh: Workplace, parent: MlflowRun) -> dict[str, Outcome]:
    """More calls of ``mlflow run`` after a change of the code, all at once: it takes its time."""
    with (fresh.folder / "pipeline" / "errors.py").open("a") as file:
        file.write("# changed\n")
    (run,) = fresh.runs(experiment="ncf_bpr")
    commands = {
        "train": ["-e", "train", *given(FIELDS)],
        "misspelt train": ["-e", "train", *given(FIELDS), "-P", "droput=.2"],
        "misspelt main": [*given(SETTINGS), "-P", "droput=.1"],
        "evaluate": ["-e", "evaluate", *given({"run_id": run.info.run_id})],
        "refused": ["-e", "compare", *given({"metric": "ndgc_at_10"})],
    }
    started = {name: fresh.start(*MLFLOW_RUN, *words) for name, words in commands.items()}
    return {name: finish(process) for name, process in started.items()}


@pytest.fixture(scope="module")
def trained(fresh: Workplace, others: dict[str, Outcome]) -> MlflowRun:
    assert others["train"].status == 0, others["train"].told
    return fresh.run(experiment="small")


def test_parameters_keep_the_spelling_of_mlflow_run(trained: MlflowRun) -> None:
    params = trained.data.params
    assert {name: params[name] for name in FIELDS} == FIELDS
    assert params["batch_size"] == "256"  # which only the experiment's file has
    assert trained.info.status == "FINISHED"
    title = "small learning_rate=0.001 epochs=2 layers=8,4 windows=none"
    assert sorted(trained.info.run_name.split()) == sorted(title.split())
    assert trained.data.tags["mlflow.project.entryPoint"] == "train"


def test_uncommitted_changes_are_a_tag(trained: MlflowRun) -> None:
    assert trained.data.tags["git_dirty"] == "true"


@pytest.mark.parametrize(
    ("entry_point", "value"),
    [
        ("train", ".2"),
        ("main", ".1"),
    ],
)
def test_a_misspelt_field_fails_and_is_told(
    fresh: Workplace, others: dict[str, Outcome], entry_point: str, value: str
) -> None:
    outcome = others[f"misspelt {entry_point}"]
    assert outcome.status != 0
    (run,) = (run for run in fresh.runs() if run.data.params.get("droput") == value)
    assert run.info.status == "FAILED"
    assert "'droput' (did you mean 'dropout'?)" in outcome.told


def test_an_evaluation_is_found_again(others: dict[str, Outcome]) -> None:
    assert others["evaluate"].status == 0, others["evaluate"].told
    assert "evaluate: reused the test metrics of run" in others["evaluate"].told


def test_runs_that_hold_nothing_say_what_they_are(
    fresh: Workplace, others: dict[str, Outcome]
) -> None:
    model = fresh.run(experiment="ncf_bpr")
    run = fresh.run(step="evaluate")
    assert (run.info.run_name, run.info.status) == ("evaluate ncf_bpr", "FINISHED")
    assert run.data.tags["mlflow.parentRunId"] == model.info.run_id
    assert model.info.run_id in run.data.tags["mlflow.note.content"]
    assert others["refused"].status != 0
    (run,) = (run for run in fresh.runs(step="compare") if run.info.status == "FAILED")
    assert run.info.run_name == "compare"
    assert run.data.tags["mlflow.note.content"].startswith("metric=ndgc_at_10: expected one of")


def test_every_run_says_which_step_it_is(fresh: Workplace, others: dict[str, Outcome]) -> None:
    assert all("step" in run.data.tags for run in fresh.runs() if run.info.status == "FINISHED")
