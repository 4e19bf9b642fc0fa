"""tune: a study from its file to a registered model, gone on with, joined, and refused."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import optuna
import pandas as pd
import pytest
import yaml
from mlflow.entities import Run as MlflowRun
from optuna.study import Study
from optuna.trial import TrialState

from pipeline.models import family
from tests.steps.hosts import hosts, relay
from tests.steps.workplace import (
    DEADLINE,
    PASSWORD,
    ROOT,
    Workplace,
    counting,
    make_project,
    served,
)

SVD_STUDY = """
config: svd.yaml
space:
  components: {low: 1, high: 40}
windows: [0.7, 0.85]
n_trials: 5
n_seeds: 1
heartbeat: 2
"""
TUNE = ("pipeline", "tune", "--study", "study.yaml", "--dataset", "ratings.csv")


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame, store: Path
) -> Workplace:
    """A project with a study, which is run once."""
    place = make_project(tmp_path_factory.mktemp("tune"), ratings, store)
    (place.folder / "study.yaml").write_text(SVD_STUDY)
    (place.folder / "svd.yaml").write_text("model: svd\nvalues: ratings\n")
    return place


@pytest.fixture(scope="module")
def told(project: Workplace) -> str:
    outcome = project.call(*TUNE)
    assert outcome.status == 0, outcome.told
    return outcome.told


def study_of(project: Workplace) -> Study:
    storage = f"sqlite:///{project.folder}/optuna.db"
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def tuned(project: Workplace) -> MlflowRun:
    return project.run(step="tune")


def test_a_trial_is_a_child_run(project: Workplace, told: str) -> None:
    study, parent = study_of(project), tuned(project)
    assert study.user_attrs["parent_run"] == parent.info.run_id
    children = {int(run.data.tags["trial"]): run for run in project.runs(step="trial")}
    assert sorted(children) == [0, 1, 2, 3, 4]
    for trial in counting(study.trials):
        run = children[trial.number]
        assert run.info.status == "FINISHED"
        assert run.data.tags["trial_state"] == trial.state.name.lower()
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params == {"components": str(trial.params["components"])}
        assert run.info.run_name == f"trial {trial.number}: components={trial.params['components']}"
        same = run.data.tags.get("same_as_trial")
        assert ("val/window_0.7/ndcg_at_10" in run.data.metrics) == (same is None)
        assert same is None or study.trials[int(same)].params == trial.params
        if trial.state == TrialState.COMPLETE:
            assert run.data.metrics["val/ndcg_at_10"] == trial.value
            assert trial.user_attrs["coverage_at_10"] == run.data.metrics["val/coverage_at_10"]


def test_the_best_is_refitted_evaluated_and_the_champion(project: Workplace, told: str) -> None:
    study = study_of(project)
    (run,) = project.runs(step="train")
    assert run.data.params["components"] == str(study.best_params["components"])
    assert run.data.tags["experiment"] == "study_tuned"
    assert run.info.run_name == "study_tuned seed=42"
    assert run.data.metrics["val/ndcg_at_10"] == pytest.approx(study.best_value, abs=1e-12)
    parent = tuned(project)
    assert parent.info.status == "FINISHED"
    for metric in ("ndcg", "hit_rate", "coverage"):
        name = f"test/{metric}_at_10"
        assert parent.data.metrics[name] == run.data.metrics[name]
    version = project.client.get_model_version_by_alias("study-ratings", "champion")
    assert version.run_id == run.info.run_id
    assert "Version 1 of `study-ratings` is the champion: there is no champion yet" in told
    assert version.tags["verdict"] == "there is no champion yet"
    assert "Chosen on validation" in version.description
    assert float(version.tags["test/ndcg_at_10"]) == pytest.approx(
        run.data.metrics["test/ndcg_at_10"], abs=1e-6
    )
    assert version.tags["dataset"] == "ratings"


def test_the_parent_shows_the_study(project: Workplace, told: str) -> None:
    parent = tuned(project)
    note = parent.data.tags["mlflow.note.content"]
    assert "components" in note
    assert f"{study_of(project).best_value:.4f}" in note
    figures = {Path(file.path).name for file in project.client.list_artifacts(
        parent.info.run_id, "figures"
    )}  # fmt: skip
    assert {"history.png", "slice.png", "intermediate_values.png"} <= figures
    assert parent.data.metrics["trials/complete"] + parent.data.metrics["trials/pruned"] == 5
    assert parent.data.metrics["best/ndcg_at_10"] == study_of(project).best_value
    page = project.artifact(parent, "report.html").read_text()
    best = study_of(project).best_trial
    assert f"trial {best.number} is best on validation, with ndcg_at_10 {best.value:.4f}" in page
    file = project.folder / "data" / "reports" / f"tune-{parent.info.run_id[:8]}.html"
    assert file.read_text() == page
    assert f"Report to send: {file.relative_to(project.folder)}" in told
    assert re.search(r"trial 5 of 5, best 0\.\d+ \(trial \d\)", told)


def test_the_dashboard_shows_links_to_the_runs(project: Workplace, told: str) -> None:
    """By what optuna-dashboard keeps its notes in."""
    study = study_of(project)
    attrs = study._storage.get_study_system_attrs(study._study_id)
    assert attrs["dashboard:note_ver"] == 1
    assert f"/runs/{tuned(project).info.run_id}?" in attrs["dashboard:note_str:0"]
    for trial in counting(study.trials):
        (run,) = project.runs(step="trial", trial=str(trial.number))
        note = attrs[f"dashboard:{trial._trial_id}:note_str:0"]
        assert note.startswith(f"[{run.info.run_name}](http://127.0.0.1:5000/#/experiments/0/")
        assert f"/runs/{run.info.run_id}?" in note


def test_trials_told_what_is_on_the_scale_of_the_objective(project: Workplace, told: str) -> None:
    study = study_of(project)
    for trial in counting(study.trials):
        values = list(trial.intermediate_values.values())
        assert max(values) < 1
        if trial.state == TrialState.COMPLETE:
            assert values[-1] == pytest.approx(trial.value)
        elif trial.state == TrialState.PRUNED:
            assert trial.value < study.best_value


def test_the_end_says_what_was_chosen(project: Workplace, told: str) -> None:
    study, parent = study_of(project), tuned(project)
    (run,) = project.runs(step="train")
    end = told.partition(f"{parent.info.run_name} on ratings: test of what was chosen, at 10\n")[2]
    best = study.best_trial
    assert f"Chosen: trial {best.number}, components={best.params['components']}\n" in end
    assert re.search(rf"mean of 1 seed +{run.data.metrics['test/ndcg_at_10']:.4f} ", end)
    popular = json.loads(run.data.tags["most_popular"])["test/ndcg_at_10"]
    assert re.search(rf"most_popular +{popular:.4f} ", end)
    assert f"python -m pipeline recommend --run_id {run.info.run_id} --output lists.parquet" in end


def test_more_trials_go_on_with_the_study(project: Workplace, told: str) -> None:
    before = {trial.number: trial.params for trial in counting(study_of(project).trials)}
    again = project.call(*TUNE, "--n_trials", "7", "--workers", "1")
    assert again.status == 0, again.told
    after = {trial.number: trial.params for trial in counting(study_of(project).trials)}
    assert len(after) == 7
    assert {number: after[number] for number in before} == before
    parent = tuned(project)  # still the only one
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["trials/complete"] + parent.data.metrics["trials/pruned"] == 7
    looks = parent.data.tags["test_evaluations"].split(",")
    noted = f"looked at {len(looks)} times" in parent.data.tags["mlflow.note.content"]
    assert noted == (len(looks) > 1)


def test_a_timeout_ends_the_search_but_not_the_study(project: Workplace, told: str) -> None:
    before = len(counting(study_of(project).trials))
    again = project.call(*TUNE, "--n_trials", "1000", "--timeout", "1", "--workers", "1")
    assert again.status == 0, again.told
    assert "No further trial begins: the timeout is over." in again.told
    trials = counting(study_of(project).trials)
    assert before <= len(trials) < 1000
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert tuned(project).info.status == "FINISHED"


def test_another_plan_needs_another_name(project: Workplace, told: str) -> None:
    refused = project.cli(*TUNE[1:], "--iterations", "3", "--sampler", "random")
    assert refused.status == 1
    assert "with another iterations, sampler" in refused.told
    assert "--study_name" in refused.told


def test_dry_run_leaves_nothing(workplace: Workplace) -> None:
    (workplace.folder / "svd.yaml").write_text("model: svd\n")
    outcome = workplace.cli("tune", "--config", "svd.yaml", "--dry_run", "true")
    assert outcome.status == 0, outcome.told
    space = family("svd").space
    components, values = (re.escape(space[name].in_words()) for name in ("components", "values"))
    assert re.search(rf"components\s+{components}(\s+\d+){{5}}", outcome.told)
    assert re.search(rf"values\s+{values}(\s+[a-z]+){{5}}", outcome.told)
    assert not (workplace.folder / "optuna.db").exists()
    assert not workplace.runs()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "Give either --study FILE"),
        (["--role", "worker"], "give its --study_name"),
        (["--role", "worker", "--study_name", "x"], "has no study x. It has: none."),
        (["--config", "svd.yaml", "--samplr", "tpe"], "did you mean 'sampler'?"),
        (
            ["--config", "svd.yaml", "--storage", "postgresql://u:hidden1@h/d"],
            "OPTUNA_STORAGE",
        ),
    ],
)
def test_mistakes_are_told(workplace: Workplace, flags: list[str], told: str) -> None:
    (workplace.folder / "svd.yaml").write_text("model: svd\n")
    outcome = workplace.cli("tune", *flags)
    assert outcome.status == 1
    assert told in " ".join(outcome.told.split())
    assert "hidden1" not in outcome.told


def test_a_study_of_failures_stops_with_the_reason(project: Workplace) -> None:
    flags = (
        "--config", "small.yaml", "--dataset", "ratings.csv", "--windows", "0.85",
        "--study_name", "diverging", "--epochs", "2", "--storage", "sqlite:///failures.db",
        "--workers", "1",
    )  # fmt: skip
    (project.folder / "failing.yaml").write_text(
        yaml.safe_dump(
            {"config": "small.yaml", "space": {"learning_rate": {"low": 1e30, "high": 1e35}}}
        )
    )
    outcome = project.call("pipeline", "tune", "--study", "failing.yaml", *flags[2:])
    assert outcome.status == 1
    assert "10 trials failed in a row; the last one, 9: " in outcome.told
    assert "Lower learning_rate" in outcome.told
    assert "Traceback" not in outcome.told
    (parent,) = project.runs(study="diverging", step="tune")
    assert parent.info.status == "FAILED"
    trials = project.runs(study="diverging", step="trial")
    assert [run.info.status for run in trials] == ["FAILED"] * 10
    assert {run.data.tags["trial_state"] for run in trials} == {"failed"}


def test_a_worse_model_does_not_become_champion(project: Workplace, told: str) -> None:
    worse = {"config": "random.yaml", "space": {"seed": [1, 2]}, "n_trials": 2, "sampler": "grid"}
    worse["model_name"] = "study-ratings"  # not one of its own
    (project.folder / "random.yaml").write_text("model: random\n")
    (project.folder / "worse.yaml").write_text(
        yaml.safe_dump({**yaml.safe_load(SVD_STUDY), **worse})
    )
    champion = project.client.get_model_version_by_alias("study-ratings", "champion")
    outcome = project.call("pipeline", "tune", "--study", "worse.yaml", *TUNE[4:], "--workers", "1")
    assert outcome.status == 0, outcome.told
    still = project.client.get_model_version_by_alias("study-ratings", "champion")
    assert still.version == champion.version
    assert re.search(r"is the challenger: the champion, version \d, has 0\.\d+ on", outcome.told)
    challenger = project.client.get_model_version_by_alias("study-ratings", "challenger")
    assert challenger.tags["comparison_version"] == str(champion.version)
    assert challenger.tags["comparison_metric"] == "val/ndcg_at_10"


def test_two_hosts_share_nothing_but_two_urls(
    tmp_path: Path, ratings: pd.DataFrame, store: Path, shared: Workplace, postgresql: str
) -> None:
    """The second has no data and no study file: what it needs comes from the two servers."""
    here = make_project(tmp_path, ratings, store)
    (here.folder / "study.yaml").write_text(SVD_STUDY)
    (here.folder / "svd.yaml").write_text("model: svd\nvalues: ratings\n")
    elsewhere = Workplace(tmp_path / "elsewhere")
    elsewhere.folder.mkdir()
    socket = f"{parse_qs(urlsplit(postgresql).query)['host'][0]}/.s.PGSQL.5432"
    with (
        hosts("ncf-launcher", "ncf-worker") as (address, on),
        relay(address, socket) as port,
        served(shared, address) as server,
    ):
        urls = {
            "MLFLOW_TRACKING_URI": server,
            "OPTUNA_STORAGE": f"postgresql://postgres:{PASSWORD}@{address}:{port}/postgres",
            "MLFLOW_EXPERIMENT_NAME": "joined",
            "PYTHONPATH": str(ROOT),
        }
        flags = ("--study_name", "joined", "--n_trials", "12", "--pruner", "none")
        launcher = here.start(*TUNE, *flags, "--workers", "1", on=on["ncf-launcher"], **urls)
        wait_for_line(launcher, "tune joined: run")
        words = ("pipeline", "tune", "--role", "worker", "--study_name", "joined")
        worker = elsewhere.start(*words, on=on["ncf-worker"], **urls)
        told, _ = launcher.communicate(timeout=2 * DEADLINE)
        said, _ = worker.communicate(timeout=DEADLINE)
    assert (launcher.returncode, worker.returncode) == (0, 0), told + said
    study = optuna.load_study(study_name="joined", storage=postgresql)
    assert [trial.state for trial in counting(study.trials)] == [TrialState.COMPLETE] * 12
    done = re.findall(r"^trial (\d+): 0\.\d+", said, re.MULTILINE)
    assert 0 < len(done) < 12, told + said
    fingerprint = study.user_attrs["data"]["fingerprint"]
    meta = elsewhere.folder / "data" / "prepared" / fingerprint / "meta.json"
    assert json.loads(meta.read_text())["name"] == "ratings"
    assert PASSWORD not in told + said


def wait_for_line(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return
    pytest.fail(f"the process has ended: {''.join(lines)}")


def test_mlflow_run(project: Workplace, told: str) -> None:
    outcome = project.call(
        "mlflow", "run", ".", "--env-manager", "local", "-e", "tune", "-P", "study=study.yaml",
        "-P", "dataset=ratings.csv", "-P", "study_name=by-mlflow", "-P", "n_trials=2",
        "-P", "workers=1",
    )  # fmt: skip
    assert outcome.status == 0, outcome.told
    (parent,) = project.runs(study="by-mlflow", step="tune")
    assert parent.info.status == "FINISHED"
    assert parent.data.params["study"] == "study.yaml"
    assert len(project.runs(study="by-mlflow", step="trial")) == 2
