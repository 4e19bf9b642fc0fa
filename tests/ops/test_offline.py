"""Work without a server: nothing asks for one, and what was done is delivered as it was."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run as MlflowRun

from pipeline.errors import UserError
from pipeline.ops.offline import deliver_offline_store, use_offline_store
from tests.steps.workplace import Workplace, make_team, make_workplace, served
from tests.tracking.stores import held

DEAD = "http://127.0.0.1:9"  # nobody listens there
TRAIN = ("train", "--config", "small.yaml", "--dataset", "ratings.csv", "--epochs=2")


@pytest.fixture(scope="module")
def team(
    tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame, store: Path
) -> Iterator[str]:
    """The URL of a server that comes back."""
    with served(make_team(tmp_path_factory.mktemp("team"), ratings, store), "127.0.0.1") as url:
        yield url


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame) -> Workplace:
    """A folder where a model was trained offline, in a process of its own."""
    place = make_workplace(tmp_path_factory.mktemp("offline"), ratings, None)
    process = place.start("pipeline", *TRAIN, "--offline", MLFLOW_TRACKING_URI=DEAD)
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert "Deliver it by: python -m pipeline sync" in told
    assert re.search(r"^  python -m pipeline evaluate --run_id \w+ --offline$", told, re.MULTILINE)
    return place


@pytest.fixture
def place(trained: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """This process works in that folder; nothing of MLflow is in its environment."""
    for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_REGISTRY_URI", "OPTUNA_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    return trained


def offline(place: Workplace) -> str:
    return f"sqlite:///{place.folder}/data/offline/mlflow.db"


def only_run(uri: str, condition: str) -> MlflowRun:
    client = mlflow.MlflowClient(uri, uri)
    ids = [each.experiment_id for each in client.search_experiments()]
    (run,) = client.search_runs(ids, condition)
    return run


def test_steps_go_on_offline_and_are_delivered_as_they_were(place: Workplace, team: str) -> None:
    run = only_run(offline(place), "tags.step = 'train'")
    assert str(run.info.artifact_uri).startswith(f"{place.folder}/data/offline/artifacts/")
    assert "reused" in place.cli(*TRAIN, "--offline", uri=DEAD).told
    delivered = place.cli("sync", uri=team)
    assert delivered.status == 0, delivered.told
    assert held(team) == held(offline(place))
    evaluated = place.cli("evaluate", "--run_id", run.info.run_id, "--offline", uri=DEAD)
    assert evaluated.status == 0, evaluated.told
    to_type = re.findall(r"^  python -m pipeline (.*)$", evaluated.told, re.MULTILINE)
    assert [words.split()[0] for words in to_type] == ["compare", "recommend", "evaluate"]
    assert to_type[2].endswith(" --register small --offline")
    for words in to_type[:2]:
        outcome = place.cli(*words.split(), uri=DEAD)
        assert outcome.status == 0, outcome.told
    again = place.cli("sync", uri=team)
    assert again.status == 0, again.told
    assert held(team) == held(offline(place))
    copy = only_run(team, "tags.step = 'train'")
    assert copy.data.tags["migrated_from"] == run.info.run_id
    assert (copy.info.start_time, copy.info.end_time) == (run.info.start_time, run.info.end_time)
    assert "test/ndcg_at_10" in copy.data.metrics
    with place.entered(team):
        model = mlflow.pyfunc.load_model(f"runs:/{copy.info.run_id}/model")
        lists = model.predict(pd.DataFrame({"user": ["10"]}), params={"k": 3})
    assert lists["rank"].tolist() == [1, 2, 3]
    assert not (place.folder / "mlflow.db").exists()


def test_a_study_needs_no_server_either(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", "postgresql://nobody@127.0.0.1:9/none")
    (place.folder / "svd.yaml").write_text("model: svd\nwindows: [0.7]\n")
    words = ("--dataset", "ratings.csv", "--n_trials=2", "--n_seeds=1", "--workers=1")
    outcome = place.cli("tune", "--config", "svd.yaml", *words, "--offline", uri=DEAD)
    assert outcome.status == 0, outcome.told
    client = mlflow.MlflowClient(offline(place), offline(place))
    trials = client.search_runs(["0"], "tags.step = 'trial'")
    assert len(trials) >= 2
    assert client.search_registered_models()
    assert os.environ["OPTUNA_STORAGE"].startswith("postgresql:")


def test_the_experiment_is_that_of_the_environment(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "films")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", DEAD)
    elsewhere = Workplace(tmp_path)
    with elsewhere.entered(DEAD):
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "77")
        with use_offline_store():
            assert mlflow.get_tracking_uri() == os.environ["MLFLOW_TRACKING_URI"]
            assert mlflow.get_tracking_uri() == mlflow.get_registry_uri() == offline(elsewhere)
            with mlflow.start_run() as run:
                assert mlflow.get_experiment(run.info.experiment_id).name == "films"
        assert mlflow.get_tracking_uri() == DEAD
        assert os.environ["MLFLOW_EXPERIMENT_ID"] == "77"
        assert os.environ["MLFLOW_REGISTRY_URI"] == DEAD
    assert str(run.info.artifact_uri).startswith(f"{tmp_path}/data/offline/artifacts/")


def test_there_may_be_nothing_to_deliver(tmp_path: Path) -> None:
    elsewhere = Workplace(tmp_path)
    with elsewhere.entered(DEAD):
        assert deliver_offline_store() is None
    assert "left to deliver" in elsewhere.cli("sync", uri=DEAD).told
    assert not (tmp_path / "data").exists()


def test_mistakes_are_told(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = place.cli("sync", uri=DEAD)
    assert outcome.status == 1
    assert f"The target {DEAD} cannot be used" in outcome.told
    with place.entered(offline(place)), pytest.raises(UserError, match="the same store"):
        deliver_offline_store()
    with place.entered(DEAD):
        monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
        with pytest.raises(UserError, match="mlflow run has made a run"), use_offline_store():
            pass
        monkeypatch.delenv("MLFLOW_RUN_ID")


def test_a_store_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    elsewhere = Workplace(tmp_path)
    (tmp_path / "data").write_text("a file is in the way")
    with (
        elsewhere.entered(DEAD),
        pytest.raises(UserError, match="The offline store in data/offline cannot be used"),
        use_offline_store(),
    ):
        pass
