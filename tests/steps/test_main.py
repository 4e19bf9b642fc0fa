"""main: a suite under one parent, and a comparison of what it has run."""

from __future__ import annotations

import pandas as pd
import pytest
from mlflow.entities import Run as MlflowRun

from tests.steps.workplace import SMALL, Workplace

MAIN = ("main", "--dataset", "ratings.csv", "--suite", "experiments/suites/two.yaml")


@pytest.fixture
def suite(workplace: Workplace) -> Workplace:
    experiments = workplace.folder / "experiments"
    (experiments / "suites").mkdir(parents=True)
    (experiments / "popular.yaml").write_text("model: most_popular\n")
    (experiments / "small.yaml").write_text(SMALL)
    (experiments / "suites" / "two.yaml").write_text("experiments: [popular, small]\n")
    return workplace


def board(workplace: Workplace, parent: MlflowRun) -> pd.DataFrame:
    """What the comparison under ``parent`` ranks: a row per experiment with its runs."""
    (compared,) = (
        run
        for run in workplace.runs(step="compare")
        if run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    )
    table = pd.read_csv(workplace.artifact(compared, "comparison.csv"))
    return table[table["metric"] == "ndcg_at_10"].reset_index(drop=True)


def test_a_second_main_reuses_every_step(suite: Workplace) -> None:
    first = suite.cli(*MAIN, "--epochs=2")
    assert first.status == 0, first.told
    again = suite.cli(*MAIN, "--epochs=2")
    assert again.status == 0, again.told
    for step in ("prepare", "train popular", "train small", "evaluate"):
        assert f"{step}: reused" in again.told
    assert len(suite.runs(step="train")) == 2
    one, other = (board(suite, run) for run in suite.runs(step="main"))
    assert one.equals(other)
    assert sorted(one["experiment"]) == ["popular", "small"]


def test_numbers_of_other_data_are_not_ranked(suite: Workplace) -> None:
    assert suite.cli(*MAIN, "--epochs=1").status == 0
    file = suite.folder / "ratings.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-20]))
    assert suite.cli(*MAIN, "--epochs=1").status == 0
    later, earlier = (board(suite, run) for run in suite.runs(step="main"))
    assert not set(later["run_ids"]) & set(earlier["run_ids"])
    assert sorted(later["experiment"]) == ["popular", "small"]


def test_the_comparison_shows_the_runs_of_this_suite(suite: Workplace) -> None:
    assert suite.cli(*MAIN, "--epochs=1").status == 0
    wanted = board(suite, suite.runs(step="main")[0])
    assert suite.cli(*MAIN, "--epochs=2").status == 0
    again = suite.cli(*MAIN, "--epochs=1")
    assert "train small: reused" in again.told
    assert board(suite, suite.runs(step="main")[0]).equals(wanted)


def test_a_failing_experiment_fails_the_parent(suite: Workplace) -> None:
    outcome = suite.cli(*MAIN, "--learning_rate=1e30")
    assert outcome.status == 1
    assert "Lower learning_rate" in outcome.told
    assert suite.run(step="main").info.status == "FAILED"
    assert suite.run(experiment="small").info.status == "FAILED"
    assert suite.run(experiment="popular").info.status == "FINISHED"


def test_an_unknown_suite_is_told(suite: Workplace) -> None:
    outcome = suite.cli("main", "--dataset", "ratings.csv", "--suite", "ledgr")
    assert outcome.status == 1
    assert "experiments/suites/ledgr.yaml: there is no such file" in outcome.told
    assert "two.yaml" in outcome.told
