"""A tracking server in the place of a file: every request and artifact goes through HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import mlflow
import pandas as pd
import pytest

from tests.steps.workplace import DEADLINE, Workplace, environment, wait_until


@pytest.fixture(scope="module")
def server(shared: Workplace) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = {
        "host": "127.0.0.1",
        "port": port,
        "workers": 1,
        "backend-store-uri": shared.uri,
        "artifacts-destination": shared.folder / "kept",
    }
    # A log file and not a pipe: a server whose pipe nobody empties stops answering.
    with (shared.folder / "server.log").open("w") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *(f"--{k}={v}" for k, v in flags.items())],
            cwd=shared.folder,
            env={**environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=told,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    uri = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        wait_until(answers, process)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=DEADLINE)


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
