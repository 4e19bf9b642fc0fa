"""tune with a suite of studies: every family, the comparison, one page; gone on with."""

from __future__ import annotations

import re
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml
from mlflow.entities import Run as MlflowRun

from pipeline.data.dataset import Dataset
from pipeline.data.split_settings import SplitSettings
from pipeline.tuning.page import page
from pipeline.tuning.suite import read_suite
from tests.conftest import make_items
from tests.steps.workplace import ROOT, Workplace, make_project

SUITE = {"studies": ["most_popular", "svd", "broken", "item_knn"], "minutes_each": 1}
SVD = {
    "config": "../svd.yaml", "space": {"components": {"low": 20, "high": 21}}, "n_trials": 2,
    "windows": [0.7, 0.85], "n_seeds": 1, "heartbeat": 2,
}  # fmt: skip
KNN = {
    **SVD, "config": "../item_knn.yaml", "space": {"neighbours": [5, 50]}, "sampler": "grid"
}  # fmt: skip
BROKEN = {**SVD, "coverage_floor": 0.99, "k": 1}
TUNE = ("tune", "--study", "experiments/studies/mine.yaml", "--dataset", "ratings.csv")
FLAGS = ("--windows", "0.7,0.85", "--k", "10", "--workers", "1")


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame, store: Path
) -> Workplace:
    place = make_project(tmp_path_factory.mktemp("everything"), ratings, store)
    folder = place.folder / "experiments" / "studies"
    for name, content in (("mine", SUITE), ("svd", SVD), ("item_knn", KNN), ("broken", BROKEN)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return place


@pytest.fixture(scope="module")
def told(project: Workplace) -> str:
    outcome = project.call("pipeline", *TUNE, *FLAGS)
    assert outcome.status == 0, outcome.told
    return outcome.told


def parent(project: Workplace) -> MlflowRun:
    return project.run(step="everything")


def test_every_family_is_a_study_under_one_run(project: Workplace, told: str) -> None:
    assert "3 families, at most 1 min of trials each, 3 min in all and 1 without" in told
    run = parent(project)
    assert run.info.status == "FINISHED"
    studies = project.runs(step="tune")
    assert {each.data.tags["experiment"] for each in studies} == {"svd", "item_knn"}
    (fixed,) = project.runs(experiment="most_popular")
    (comparison,) = project.runs(step="compare")
    for each in (*studies, fixed, comparison):
        assert each.data.tags["mlflow.parentRunId"] == run.info.run_id
    assert run.data.params["minutes_each"] == "1.0"
    assert run.data.params["windows"] == "0.7,0.85"


def test_a_family_that_fails_is_left_out(project: Workplace, told: str) -> None:
    why = r"coverage_floor=0\.99 cannot be reached: at most 0\.\d+ with"
    assert re.search(rf"broken is left out: Study broken: {why}", told)
    page = project.artifact(parent(project), "everything.md").read_text()
    assert re.search(rf"- broken is left out: .*{why}", page)
    storage = f"sqlite:///{project.folder}/optuna.db"
    assert not [name for name in optuna.get_all_study_names(storage) if "broken" in name]


def test_the_space_was_widened_and_the_page_says_so(project: Workplace, told: str) -> None:
    """A range of two numbers has nothing but edges."""
    (run,) = [each for each in project.runs(step="tune") if each.data.tags["model"] == "svd"]
    page = project.artifact(parent(project), "everything.md").read_text()
    said = r"components: the best trial, \d, lay at the (lower|upper) edge of its space, 2[01]: "
    said += r"widened to (19|22), 5 more trials\."
    for each in (told, run.data.tags["mlflow.note.content"], page, run.data.params["widened"]):
        assert re.search(said, each)
    assert "components widened" in page
    plan = project.json(run, "plan.json")
    assert [each["field"] for each in plan["widened"]] == ["components"]
    assert run.data.metrics["trials/complete"] + run.data.metrics["trials/pruned"] == 2 + 5


def test_the_page_ranks_them(project: Workplace, told: str) -> None:
    page = project.artifact(parent(project), "everything.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if re.match(r"\| [a-z_]+ \|", line)]
    table = {row[0].strip("| "): row for row in rows if len(row) == 9}
    assert table.keys() == {"family", "svd", "item_knn", "most_popular"}
    values = [float(row[4]) for name, row in table.items() if name != "family"]
    assert values == sorted(values, reverse=True)
    (refitted,) = project.runs(experiment="svd_tuned")
    assert table["svd"][4] == f"{refitted.data.metrics['test/ndcg_at_10']:.4f}"
    assert re.match(r"0\.\d+ to 0\.\d+", table["svd"][5])
    assert table["item_knn"][1] == "2"
    assert "neighbours 5" in table["item_knn"][8]
    assert "not distinguishable from" in page or "differs from" in page
    (comparison,) = project.runs(step="compare")
    report = project.artifact(parent(project), "report.html").read_text()
    assert report == project.artifact(comparison, "report.html").read_text()
    assert "<caption>What each family reached, with the same time for its search" in report
    assert "broken is left out: " in report
    run_id = parent(project).info.run_id
    assert f"Report to send: data/reports/everything-{run_id[:8]}.html" in told


def test_the_same_command_goes_on_and_does_nothing_twice(project: Workplace, told: str) -> None:
    storage = f"sqlite:///{project.folder}/optuna.db"
    before = {each.study_name: each.n_trials for each in optuna.get_all_study_summaries(storage)}
    trained = len(project.runs(step="train"))
    again = project.call("pipeline", *TUNE, *FLAGS)
    assert again.status == 0, again.told
    after = {each.study_name: each.n_trials for each in optuna.get_all_study_summaries(storage)}
    assert after == before
    assert len(project.runs(step="train")) == trained
    assert parent(project).info.status == "FINISHED"  # still the only one
    assert "What workers say" not in again.told


def test_a_split_that_knows_the_future_is_told_on_the_page(ratings: pd.DataFrame) -> None:
    untimed = ratings.assign(timestamp=0)
    rules = SplitSettings(min_held_out=2)
    data = Dataset.from_ratings("small", untimed, make_items(untimed["item"]), rules)
    suite = read_suite(ROOT / "experiments" / "studies" / "everything.yaml", {})
    text = page(suite, data, [0.85], [], [])
    assert "**Note:** small has no times, or one for all rows" in text
    assert "**Note:** The protocol random knows the future" in text


def test_names_are_the_studies_own(project: Workplace) -> None:
    refused = project.cli(*TUNE, "--study_name", "mine")
    assert refused.status == 1
    assert "lists studies, which have names of their own" in " ".join(refused.told.split())
