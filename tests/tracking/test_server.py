"""A tracking server in the place of a file: every request and artifact goes through HTTP."""

from __future__ import annotations

import mlflow
import pandas as pd
import pytest

from pipeline.tracking.models import run_of_model
from pipeline.tracking.registry import Champion, appoint, champion, measured, register
from pipeline.tracking.runs import Run
from pipeline.tracking.trials import end_lost, track_trial
from tests.steps.workplace import Workplace

TAGS = measured("val/ndcg_at_10", 0.28, "2a815320d2d896f6", (0.7, 0.85))


def test_train_and_evaluate_through_a_server(shared: Workplace, server: str) -> None:
    client = mlflow.MlflowClient(server)
    # Experiment 0 of the store was made for a local folder; a server's own keep artifacts there.
    experiment = client.create_experiment("films")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "films")
        train = ("train", "--config", "small.yaml", "--dataset", "ratings.csv", "--epochs=2")
        outcome = shared.cli(*train, uri=server)
        assert outcome.status == 0, outcome.told
        assert "reused" in shared.cli(*train, uri=server).told
        (run,) = client.search_runs([experiment], "tags.step = 'train'")
        run_id = run.info.run_id
        outcome = shared.cli("evaluate", "--run_id", run_id, uri=server)
        assert outcome.status == 0, outcome.told
        no_model = client.create_run(experiment)
        refused = shared.cli("evaluate", "--run_id", no_model.info.run_id, uri=server)
        assert refused.status == 1
        assert f"Run {no_model.info.run_id} has no" in refused.told
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert str(run.info.artifact_uri).startswith("mlflow-artifacts:")
    assert {"train/loss", "val/ndcg_at_10", "test/ndcg_at_10"} <= run.data.metrics.keys()
    names = {file.path for file in client.list_artifacts(run_id, "test")}
    assert {"test/per_user.parquet", "test/recommendations.parquet"} <= names
    with shared.entered(server):
        path = client.download_artifacts(run_id, "test/per_user.parquet", str(shared.folder))
        mean = pd.read_parquet(path)["ndcg_at_10"].mean()
        assert mean == pytest.approx(run.data.metrics["test/ndcg_at_10"])
        model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
        lists = model.predict(pd.DataFrame({"user": ["nobody"]}), params={"k": 3})
        assert lists["rank"].tolist() == [1, 2, 3]
        assert champion("films") is None
        version = register(Run(run_id), "films", TAGS)
        appoint("films", version, None, wins=True, tags={}, description="The first")
        assert champion("films") == Champion("1", run_id, TAGS)
        assert run_of_model("models:/films@champion").id == run_id
        assert mlflow.pyfunc.load_model("models:/films@champion").metadata.run_id == run_id
        # This process works in another experiment than the run.
        with track_trial("trial", {"step": "trial"}, Run(run_id), 0, LookupError):
            assert len(end_lost(Run(run_id), lambda: {0: "lost"})) == 1
        assert not end_lost(Run(run_id), lambda: {0: "complete"})
