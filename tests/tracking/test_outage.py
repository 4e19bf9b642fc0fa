"""A server that is killed again and again costs a run nothing: not a metric, not a byte."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run as MlflowRun

from tests.steps.workplace import DEADLINE, Outcome, Workplace, finish
from tests.tracking.servers import Server, Way, running

AWAY = 8.0  # seconds, longer than a client of MLflow tries again by itself
EXPERIMENT = "outage"
TRAIN = ("pipeline", "train", "--config", "small.yaml", "--dataset", "ratings.csv")
EPOCHS = ("--epochs=20", "--patience=none", "--reuse=false")
TIMES = ("epoch_seconds", "examples_per_second")  # differ from run to run
TIMED = {"checkpoint/checkpoint.pt", "validation.json"}  # hold how long each epoch took
UNFINISHED = ".artifact.uploading."  # MLflow's name for it, beside the file that came later
OWN = {"MLmodel"}  # of a model's files: holds its id, its run's id and a time


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), store) as server:
        mlflow.MlflowClient(server.url).create_experiment(EXPERIMENT)
        yield server


@pytest.fixture(scope="module")
def undisturbed(server: Server, shared: Workplace) -> MlflowRun:
    outcome = train(shared, server.url)
    assert outcome.status == 0, outcome.told
    return latest(server)


def train(shared: Workplace, url: str, **variables: str) -> Outcome:
    variables |= {"MLFLOW_TRACKING_URI": url, "MLFLOW_EXPERIMENT_NAME": EXPERIMENT}
    process = shared.start(*TRAIN, *EPOCHS, **variables)
    told, _ = process.communicate(timeout=6 * AWAY + DEADLINE)
    return Outcome(process.returncode, told)


def latest(server: Server) -> MlflowRun:
    client = mlflow.MlflowClient(server.url)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.step = 'train'", max_results=1)
    return run


def histories(server: Server, run: MlflowRun) -> dict[str, list[tuple[int, float]]]:
    client = mlflow.MlflowClient(server.url)
    return {
        key: [
            (point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)
        ]
        for key in run.data.metrics
        if not key.endswith(TIMES)
    }


def files(folder: Path) -> dict[str, bytes]:
    """By path; without what a server that is killed leaves of a file that it was writing."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(UNFINISHED)
    }


def artifacts(server: Server, run: MlflowRun) -> dict[str, bytes]:
    folder = server.place.folder / "kept" / run.info.experiment_id / run.info.run_id / "artifacts"
    return files(folder)


def model(server: Server, run: MlflowRun) -> dict[str, bytes]:
    (logged,) = mlflow.MlflowClient(server.url).search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
    )
    assert str(logged.status) == "READY"
    assert [each.model_id for each in run.outputs.model_outputs] == [logged.model_id]
    folder = server.place.folder / "kept" / run.info.experiment_id / "models" / logged.model_id
    found = files(folder / "artifacts")
    text = found["MLmodel"].decode()
    assert f"model_id: {logged.model_id}" in text
    assert f"run_id: {run.info.run_id}" in text
    return found


def assert_same(server: Server, run: MlflowRun, other: MlflowRun) -> None:
    assert run.info.run_id != other.info.run_id
    assert run.info.status == other.info.status == "FINISHED"
    assert histories(server, run) == histories(server, other)
    assert run.data.params == other.data.params
    assert run.data.tags.keys() == other.data.tags.keys()
    assert run.data.tags["mlflow.note.content"] == other.data.tags["mlflow.note.content"]
    kept, others = artifacts(server, run), artifacts(server, other)
    assert kept.keys() == others.keys()
    assert {name for name in kept if kept[name] != others[name]} <= TIMED
    kept, others = model(server, run), model(server, other)
    assert kept.keys() == others.keys()
    assert {name for name in kept if kept[name] != others[name]} == OWN


def test_a_server_killed_twice_once_in_the_middle_of_an_upload(
    server: Server, shared: Workplace, undisturbed: MlflowRun
) -> None:
    killed: list[str] = []
    batches = 0
    guard = threading.Lock()

    def again() -> None:
        time.sleep(AWAY)
        server.start()

    def kill(what: str) -> None:
        killed.append(what)
        server.kill()
        threading.Thread(target=again, daemon=True).start()

    def watch(piece: bytes) -> int:
        nonlocal batches
        with guard:
            batches += b"/loss" in piece
            if not killed and batches == 2:  # many that wait are one
                kill("metrics")
                return 0
            upload = re.search(rb"PUT [^ ]*weights\.safetensors", piece)
            if len(killed) == 1 and upload:
                passed = len(piece) // 2
                threading.Timer(0.2, kill, ("upload",)).start()
                killed.append("upload begun")
                return passed
        return len(piece)

    way = Way(server.port, watch)
    try:
        outcome = train(shared, way.url)
    finally:
        way.close()
    assert outcome.status == 0, outcome.told
    assert killed == ["metrics", "upload begun", "upload"]
    assert "takes no metrics at the moment" in outcome.told
    assert "takes metrics again" in outcome.told
    assert not list((shared.folder / "data" / "outbox").iterdir())
    assert_same(server, latest(server), undisturbed)


def test_a_run_finished_while_the_server_was_away_is_delivered_later(
    server: Server, shared: Workplace, undisturbed: MlflowRun
) -> None:
    gone = threading.Event()

    def watch(piece: bytes) -> int:
        if b"/loss" in piece:
            gone.set()
        return 0 if gone.is_set() else len(piece)

    way = Way(server.port, watch)
    outcome = train(shared, way.url, PIPELINE_PATIENCE="3")
    assert outcome.status == 0, outcome.told
    assert "python -m pipeline sync" in outcome.told
    run = latest(server)
    assert run.info.status == "RUNNING"
    assert not histories(server, run).get("train/loss")

    elsewhere = finish(shared.start("pipeline", "sync", MLFLOW_TRACKING_URI=server.url))
    assert elsewhere.status == 1
    assert "set MLFLOW_TRACKING_URI to that" in elsewhere.told
    ended = time.time() * 1000
    gone.clear()
    way.watch = len
    journal = next((shared.folder / "data" / "outbox").iterdir()) / "journal"
    synced = finish(shared.start("pipeline", "sync", MLFLOW_TRACKING_URI=way.url))
    assert synced.status == 0, synced.told
    assert not journal.exists()
    run = latest(server)
    assert run.info.end_time < ended
    assert_same(server, run, undisturbed)
    way.close()
