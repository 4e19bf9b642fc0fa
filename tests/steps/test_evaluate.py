"""evaluate: test metrics, per-user values and lists on the model's own run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run as MlflowRun

from pipeline.evaluation.metrics import BUILT_IN
from tests.steps.workplace import Outcome, Workplace, environment

TRAIN = ("train", "--config", "small.yaml", "--dataset", "ratings.csv", "--epochs=2")
SERVE = """
import json, sys
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
lists = model.predict(pd.DataFrame({"user": json.loads(sys.argv[2])}), params={"k": 10})
import pipeline
print(pipeline.__file__)
print(lists.to_json(orient="records"))
"""


@pytest.fixture(scope="module")
def run_id(shared: Workplace) -> str:
    assert shared.cli(*TRAIN, "--k=10,5").status == 0
    return str(shared.run(step="train").info.run_id)


@pytest.fixture(scope="module")
def outcome(shared: Workplace, run_id: str) -> Outcome:
    outcome = shared.cli("evaluate", "--run_id", run_id)
    assert outcome.status == 0, outcome.told
    return outcome


@pytest.fixture(scope="module")
def run(shared: Workplace, outcome: Outcome) -> MlflowRun:
    return shared.run(step="train")


@pytest.fixture(scope="module")
def lists(shared: Workplace, run: MlflowRun) -> pd.DataFrame:
    return pd.read_parquet(shared.artifact(run, "test/recommendations.parquet"))


@pytest.fixture(scope="module")
def per_user(shared: Workplace, run: MlflowRun) -> pd.DataFrame:
    return pd.read_parquet(shared.artifact(run, "test/per_user.parquet"))


@pytest.fixture(scope="module")
def split(shared: Workplace, run: MlflowRun) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and test rows with the ids of the file."""
    folder = shared.folder / "data" / "prepared" / run.data.tags["dataset_fingerprint"]
    train, later, users, items = (
        pd.read_parquet(folder / f"{name}.parquet") for name in ("train", "later", "users", "items")
    )
    later = later[later["segment"] == "warm"]
    train, test = (
        pd.DataFrame(
            {
                "user": users["user"].to_numpy()[rows["user"]],
                "item": items["item"].to_numpy()[rows["item"]],
            }
        )
        for rows in (train, later)
    )
    return train, test


def test_metrics_go_to_the_run_of_the_model(shared: Workplace, run: MlflowRun, run_id: str) -> None:
    assert run.info.run_id == run_id
    assert len(shared.runs()) == 1
    assert run.info.status == "FINISHED"
    for metric in BUILT_IN:
        for k in (5, 10):
            assert f"test/{metric.name}_at_{k}" in run.data.metrics
    note = run.data.tags["mlflow.note.content"]
    cells = [f"{run.data.metrics[f'{part}/ndcg_at_10']:.4f}" for part in ("val", "test")]
    assert f"| ndcg_at_10 | {' | '.join(cells)} |" in note


def test_the_run_knows_what_popularity_has(
    shared: Workplace, workplace: Workplace, run: MlflowRun, outcome: Outcome
) -> None:
    words = ("--model", "most_popular", "--dataset", "ratings.csv")
    assert workplace.cli("train", *words, "--k=10,5", "--windows=0.7,0.85").status == 0
    run_id = workplace.run(step="train").info.run_id
    told = workplace.cli("evaluate", "--run_id", run_id).told
    assert len(re.findall(r"^most_popular +\d", told, re.MULTILINE)) == 1  # not beside itself
    metrics = workplace.run(step="train").data.metrics
    known = json.loads(run.data.tags["most_popular"])
    assert known["val/ndcg_at_10"] == pytest.approx(metrics["val/ndcg_at_10"], abs=1e-6)
    for name in ("ndcg_at_10", "coverage_at_5", "hit_rate_at_10"):
        assert known[f"test/{name}"] == pytest.approx(metrics[f"test/{name}"], abs=1e-6)
    assert re.search(rf"most_popular +{metrics['test/ndcg_at_10']:.4f} ", outcome.told)
    again = shared.cli("evaluate", "--run_id", run.info.run_id).told
    ends = [each.partition(" on ratings: test")[2] for each in (again, outcome.told)]
    assert ends[0] == ends[1] != ""


def test_the_mean_over_users_is_the_metric(run: MlflowRun, per_user: pd.DataFrame) -> None:
    assert per_user["user"].is_unique
    metrics = [name for name in per_user.columns if name != "user"]
    assert {"ndcg_at_10", "map_at_5", "recall_at_10"} <= set(metrics)
    for name in metrics:
        assert run.data.metrics[f"test/{name}"] == pytest.approx(per_user[name].mean(), abs=1e-12)


def test_lists_are_whole_unseen_and_marked_right(
    lists: pd.DataFrame,
    per_user: pd.DataFrame,
    split: tuple[pd.DataFrame, pd.DataFrame],
    run: MlflowRun,
) -> None:
    train, test = split
    assert set(lists["user"]) == set(per_user["user"]) == set(test["user"])
    assert lists["rank"].tolist() == list(range(1, 11)) * len(per_user)
    seen = set(train.itertuples(index=False, name=None))
    held_out = set(test.itertuples(index=False, name=None))
    pairs = list(lists[["user", "item"]].itertuples(index=False, name=None))
    assert len(set(pairs)) == len(pairs)
    assert not seen & set(pairs)
    assert [pair in held_out for pair in pairs] == list(lists["hit"])
    # Two formulas once more, from the lists alone.
    catalogue = train["item"].nunique()
    assert run.data.metrics["test/coverage_at_10"] == lists["item"].nunique() / catalogue
    assert run.data.metrics["test/precision_at_10"] == pytest.approx(lists["hit"].mean())


def test_a_logged_model_gives_the_same_lists_anywhere(
    shared: Workplace, run_id: str, lists: pd.DataFrame, tmp_path: Path
) -> None:
    """Without the checkout, without pickle, in another folder."""
    users = [str(user) for user in lists["user"].unique()]
    done = subprocess.run(
        [sys.executable, "-c", SERVE, f"runs:/{run_id}/model", json.dumps([*users, "nobody"])],
        cwd=tmp_path,
        env={
            **environment(),
            "MLFLOW_TRACKING_URI": shared.uri,
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    code, answer = done.stdout.splitlines()
    assert Path(code).parts[-3:] == ("code", "pipeline", "__init__.py")
    served = pd.DataFrame(json.loads(answer))
    known = served[served["user"] != "nobody"]
    for column in ("user", "rank", "item"):
        assert known[column].astype(str).tolist() == lists[column].astype(str).tolist()
    assert set(known["fallback"]) == {""}
    assert set(served["fallback"][served["user"] == "nobody"]) == {"popularity"}


def test_a_second_evaluation_is_reused(shared: Workplace, run: MlflowRun) -> None:
    again = shared.cli("evaluate", "--run_id", run.info.run_id)
    assert again.status == 0
    assert f"reused the test metrics of run {run.info.run_id}" in again.told
    assert len(shared.history(run, "test/ndcg_at_10")) == 1


def test_reuse_false_evaluates_again(workplace: Workplace) -> None:
    assert workplace.cli(*TRAIN, "--validate=false").status == 0
    run_id = workplace.run(step="train").info.run_id
    values = []
    for more in ((), ("--reuse=false",)):
        outcome = workplace.cli("evaluate", "--run_id", run_id, *more)
        assert outcome.status == 0, outcome.told
        assert "reused" not in outcome.told
        values.append(workplace.run(step="train").data.metrics)
    assert values[0] == values[1]


def test_a_registered_model_by_alias_and_version(workplace: Workplace) -> None:
    assert workplace.cli(*TRAIN, "--validate=false").status == 0
    run = workplace.run(step="train")
    with workplace.entered():
        workplace.client.create_registered_model("films")
        workplace.client.create_model_version(
            "films", str(workplace.model(run)), run_id=run.info.run_id
        )
        workplace.client.set_registered_model_alias("films", "champion", "1")
    outcome = workplace.cli("evaluate", "--model", "models:/films@champion")
    assert outcome.status == 0, outcome.told
    assert "test/ndcg_at_10" in workplace.run(step="train").data.metrics
    assert "reused" in workplace.cli("evaluate", "--model", "models:/films/1").told
    unknown = workplace.cli("evaluate", "--model", "models:/films@challenger")
    assert unknown.status == 1
    assert "challenger" in unknown.told
    assert "Expected models:/NAME@ALIAS or models:/NAME/VERSION" in unknown.told


@pytest.mark.parametrize("uri", ["films", "models:/films", "runs:/0/model"])
def test_what_is_no_registered_model_is_told(workplace: Workplace, uri: str) -> None:
    outcome = workplace.cli("evaluate", "--model", uri)
    assert outcome.status == 1
    assert f"error: {uri}: " in outcome.told
    assert "Expected models:/NAME@ALIAS or models:/NAME/VERSION" in outcome.told


@pytest.mark.parametrize("words", [(), ("--run_id", "a", "--model", "models:/a@b"), ("--run_id=",)])
def test_one_of_run_and_model_is_wanted(workplace: Workplace, words: tuple[str, ...]) -> None:
    outcome = workplace.cli("evaluate", *words)
    assert outcome.status == 1
    assert "Give either --run_id RUN_ID or --model models:/NAME@ALIAS" in outcome.told


def test_a_run_that_is_unknown(workplace: Workplace) -> None:
    outcome = workplace.cli("evaluate", "--run_id", "0123456789")
    assert outcome.status == 1
    assert "Run 0123456789" in outcome.told
    assert "not found" in outcome.told


def test_a_run_of_another_step(workplace: Workplace) -> None:
    assert workplace.cli("prepare", "--dataset", "ratings.csv").status == 0
    run_id = workplace.run(step="prepare").info.run_id
    outcome = workplace.cli("evaluate", "--run_id", run_id)
    assert outcome.status == 1
    assert f"Run {run_id} has no" in outcome.told


def test_a_run_without_model(workplace: Workplace) -> None:
    assert workplace.cli(*TRAIN, "--learning_rate=1e30").status == 1
    run_id = workplace.run(step="train").info.run_id
    outcome = workplace.cli("evaluate", "--run_id", run_id)
    assert outcome.status == 1
    assert f"Run {run_id} has no model" in outcome.told


def test_data_that_are_gone_or_changed(workplace: Workplace) -> None:
    assert workplace.cli(*TRAIN, "--validate=false").status == 0
    run = workplace.run(step="train")
    (folder,) = (workplace.folder / "data" / "prepared").iterdir()
    moved = folder.rename(workplace.folder / "moved")
    # Prepared again from the file, which is still what it was.
    assert workplace.cli("evaluate", "--run_id", run.info.run_id).status == 0
    assert folder.is_dir()
    file = workplace.folder / "ratings.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-5]))
    folder.rename(moved / "aside")
    changed = workplace.cli("evaluate", "--run_id", run.info.run_id, "--reuse=false")
    assert changed.status == 1
    assert f"the run was made on {run.data.tags['dataset_fingerprint']}" in changed.told
    file.unlink()
    gone = workplace.cli("evaluate", "--run_id", run.info.run_id, "--reuse=false")
    assert gone.status == 1
    assert "ratings.csv" in gone.told


def test_novelty_and_overlap_of_the_popularity_list(workplace: Workplace) -> None:
    (workplace.folder / "popular.yaml").write_text("model: most_popular\n")
    words = ("--config", "popular.yaml", "--dataset", "ratings.csv", "--validate=false")
    assert workplace.cli("train", *words).status == 0
    run_id = workplace.run(step="train").info.run_id
    assert workplace.cli("evaluate", "--run_id", run_id).status == 0
    run = workplace.run(step="train")
    assert run.data.metrics["test/popularity_overlap_at_10"] == 1.0
    per_user = pd.read_parquet(workplace.artifact(run, "test/per_user.parquet"))
    assert np.all(per_user["popularity_overlap_at_10"] == 1.0)


def test_a_sample_of_users_is_told_with_its_errors(workplace: Workplace) -> None:
    train = ("train", "--model=most_popular", "--dataset=ratings.csv", "--eval_users=8")
    assert workplace.cli(*train).status == 0
    outcome = workplace.cli("evaluate", f"--run_id={workplace.run(step='train').info.run_id}")
    run = workplace.run(step="train")
    sample = run.data.tags["test_sample"]
    assert re.fullmatch(r"8 of \d+ users", sample)
    assert f"ranked for a sample of {sample}" in outcome.told
    per_user = pd.read_parquet(workplace.artifact(run, "test/per_user.parquet"))
    assert len(per_user) == 8
    value = run.data.metrics["test/ndcg_at_10"]
    error = run.data.metrics["test/ndcg_at_10_standard_error"]
    assert value == pytest.approx(per_user["ndcg_at_10"].mean())
    assert 0 < error < per_user["ndcg_at_10"].std() / 8**0.5
    note = run.data.tags["mlflow.note.content"]
    assert f"The test is a sample of {sample}; ± is the standard error." in note
    assert f"{value:.4f} ± {error:.4f}" in note
    card = workplace.artifact(run, "model_card.md").read_text()
    assert f"ranked for each of a sample of {sample}" in card
    assert "coverage, and what else belongs to all lists together, is that of the sample" in card
    assert run.data.params["eval_users"] == "8"
