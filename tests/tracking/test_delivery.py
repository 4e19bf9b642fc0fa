"""What is written reaches the store: in order, once or twice, and from many runs at once."""

from __future__ import annotations

import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from pipeline.config import read_experiment
from pipeline.data.dataset import Dataset
from pipeline.data.raw.reading import AS_IT_IS
from pipeline.errors import UserError
from pipeline.models.popularity import MostPopular
from pipeline.outbox.journal import Entry, Outbox, OutboxError
from pipeline.outbox.writes import merged
from pipeline.steps.evaluate import find_trained
from pipeline.steps.inputs import Inputs
from pipeline.tracking.models import log_model
from pipeline.tracking.runs import Run
from pipeline.tracking.store import ask, deliver_left, delivering
from pipeline.tracking.track import track
from tests.steps.test_import_ledger import TEXT as LEDGER
from tests.steps.workplace import ROOT, Workplace, environment
from tests.tracking.servers import Server, running

RUNS, STEPS, METRICS = 8, 500, 20
# A run with 10,000 metrics.
LOGGER = """
import sys
from pipeline.tracking.track import track
with track(sys.argv[1], {"step": "many"}) as run:
    for step in range(int(sys.argv[2])):
        run.log_metrics({f"m{i}": step + i / 100 for i in range(int(sys.argv[3]))}, step)
"""
# The same, on a disk that is full after some of them.
FULL = """
import resource
from pipeline.tracking.track import track
with track("full", {"step": "full"}) as run:
    print(run.id, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
    for step in range(100):
        run.log_metrics({"loss": step}, step)
        print(step, flush=True)
"""


@pytest.fixture
def here(workplace: Workplace) -> Iterator[Workplace]:
    with workplace.entered():
        yield workplace


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), store) as server:
        yield server


def everything(place: Workplace, run_id: str) -> dict[str, Any]:
    """All that the store has of a run."""
    client = place.client
    run = client.get_run(run_id)
    models = client.search_logged_models(["0"], filter_string=f"source_run_id = '{run_id}'")
    return {
        "status": (run.info.status, run.info.end_time),
        "tags": run.data.tags,
        "params": run.data.params,
        "points": {
            # As text: not a number is not equal to itself.
            key: [
                f"{p.step} {p.value} {p.timestamp}" for p in client.get_metric_history(run_id, key)
            ]
            for key in run.data.metrics
        },
        "inputs": [each.dataset.to_dictionary() for each in run.inputs.dataset_inputs],
        "outputs": [each.model_id for each in run.outputs.model_outputs],
        "models": [(model.model_id, str(model.status), model.params) for model in models],
        "files": {
            str(path): path.read_bytes()
            for path in (place.folder / "mlruns").rglob("*")
            if path.is_file()
        },
    }


def test_delivery_twice_is_as_delivery_once(
    here: Workplace, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popular = MostPopular(MostPopular.settings_class.read({}, "here"), seed=1).fit(dataset)
    with track("mine", {"step": "train"}) as run:
        pass
    monkeypatch.setattr("pipeline.outbox.delivery.Delivery._deliver", lambda self: None)
    with delivering() as delivery:  # a process that is killed before it delivers anything
        for step in range(3):
            run.log_metrics({"loss": 1 / (step + 1), "odd": float("nan")}, step, time=step)
            run.set_tags({"step": str(step)})
        run.client.log_param(run.id, "epochs", "20")
        run.log_text("text", "a/b.txt")
        fields = {"name": "d", "digest": "1", "sourceType": "local", "source": "{}"}
        run.log_input(fields | {"source_type": "local"}, "training")
        log_model(run, "most_popular", popular, dataset)
        run.end("FAILED")
    shutil.copytree(delivery.outbox.folder, tmp_path / "copy")
    monkeypatch.undo()
    with here.entered():
        (left,) = deliver_left()
        assert not left.trouble
        once = everything(here, run.id)
        assert once["status"][0] == "FAILED"
        assert once["tags"]["step"] == "2"
        assert [point.split()[1] for point in once["points"]["loss"]] == ["1.0", "0.5", str(1 / 3)]
        assert [status for _, status, _ in once["models"]] == ["READY"]
        assert once["outputs"] == [model for model, _, _ in once["models"]]
        assert len(once["inputs"]) == 1
        assert not left.folder.exists()
        shutil.copytree(tmp_path / "copy", left.folder)
        (again,) = deliver_left()
        assert again.requests == left.requests > 3
        assert everything(here, run.id) == once
        served = mlflow.pyfunc.load_model(f"runs:/{run.id}/model")
        assert len(served.predict(pd.DataFrame({"user": ["nobody"]}))) == 10


def test_what_a_run_has_left_is_delivered_before_it_is_evaluated(
    here: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = read_experiment(here.folder / "small.yaml", {})
    inputs = Inputs(experiment, "ratings.csv", AS_IT_IS, "0123456789abcdef")
    with track("mine", {"step": "train"}) as run:
        pass
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.outbox.delivery.Delivery._deliver", lambda self: None)
        with delivering():  # a process that is killed before it delivers anything
            inputs.log(run)
    assert not here.client.list_artifacts(run.id)
    assert find_trained(run.id, None).inputs == inputs


def test_what_the_store_refuses_for_good_is_kept_and_told(here: Workplace) -> None:
    def log() -> None:
        with track("mine", {"step": "train"}) as run:
            Run("f" * 32).set_tags({"a": "b"})
            run.set_tags({"a": "b"})
            made.append(run)

    made: list[Run] = []
    with pytest.raises(UserError, match=r"refused 1 writes and .*files refused"):
        log()
    (run,) = made
    assert run.tags["a"] == "b"
    assert run.status == "FINISHED"
    (folder,) = (here.folder / "data" / "outbox").iterdir()
    assert "not found" in (folder / "refused").read_text()


def test_a_run_ends_as_finished_only_with_all_that_it_logged(here: Workplace) -> None:
    def log() -> None:
        with track("mine", {"step": "train"}) as run:
            made.append(run)
            run.log_metrics({"loss": 0.5, "no@name": 1.0, "last": 2.0})

    made: list[Run] = []
    with pytest.raises(UserError, match="refused 1 writes"):
        log()
    (run,) = made
    assert run.metrics == {"loss": 0.5, "last": 2.0}
    assert run.status == "FAILED"
    assert run.tags["ended"] == "the store lacks metric no@name"


def test_a_model_for_which_there_is_no_room_is_told_in_words(
    here: Workplace, dataset: Dataset
) -> None:
    popular = MostPopular(MostPopular.settings_class.read({}, "here"), seed=1).fit(dataset)

    def log() -> None:
        with track("mine", {"step": "train"}) as run:
            made.append(run)
            before = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
            try:
                log_model(run, "most_popular", popular, dataset)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)

    made: list[Run] = []
    with pytest.raises(OutboxError, match=r"File too large\)\. Make room"):
        log()
    assert made[0].status == "FAILED"


def test_a_point_is_one_point_however_often_it_is_logged(here: Workplace) -> None:
    with track("mine", {"step": "train"}) as run:
        for _ in range(2):
            run.log_metrics({"loss": 0.5, "odd": float("nan")}, 3)
    for value in (0.5, 0.25):  # by another command; what has changed is told
        run.log_metrics({"loss": value, "odd": float("nan")}, 3)
    points = {key: here.client.get_metric_history(run.id, key) for key in ("loss", "odd")}
    assert [point.value for point in points["loss"]] == [0.5, 0.25]
    assert len(points["odd"]) == 1


def test_neighbours_are_delivered_in_one_request_and_their_order_holds(tmp_path: Path) -> None:
    outbox = Outbox.create("nowhere", tmp_path)
    for step in range(150):
        points = [[f"m{i}", float(i), 0, step] for i in range(10)]
        outbox.add(Entry("batch", "a", {"metrics": points}))
        outbox.add(Entry("batch", "a", {"tags": [["last", str(step)]]}))
    outbox.add(Entry("batch", "b", {"tags": [["last", "x"]]}))
    outbox.add(Entry("batch", "a", {"tags": [["last", "y"]]}))
    found = [entry for entry, _ in merged(outbox.pending())]
    places = [place for _, place in merged(outbox.pending())]
    outbox.close()
    sizes = [len(entry.content.get("metrics", [])) for entry in found]
    assert sum(sizes) == 1500
    assert max(sizes) == 1000
    assert [dict(entry.content["tags"])["last"] for entry in found] == ["99", "149", "x", "y"]
    assert places == sorted(places)
    assert places[-1] == outbox.size


def test_a_database_that_is_locked_for_a_while_is_waited_for_and_told_in_words(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hurry(*args: Any) -> tuple[str, Any]:  # MLflow waits for twenty seconds
        return args[2].replace("busy_timeout = 20000", "busy_timeout = 50"), args[3]

    (workplace.folder / "ledger.csv").write_text(LEDGER)
    event.listen(Engine, "before_cursor_execute", hurry, retval=True)
    with closing(sqlite3.connect(workplace.folder / "mlflow.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        # Who is about to wait has seen that it is locked.
        monkeypatch.setattr("pipeline.tracking.store.pause", lambda _: other.rollback() or 0.0)
        outcome = workplace.cli("import_ledger", "--csv=ledger.csv")
    event.remove(Engine, "before_cursor_execute", hurry)
    assert outcome.status == 0, outcome.told
    assert "does not answer (database is locked): waiting" in outcome.told
    assert "Traceback" not in outcome.told
    assert len(workplace.runs(step="import_ledger")) == 3


def test_a_server_that_never_answered_gets_no_patience(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with workplace.entered("http://127.0.0.1:9"):
        started = time.monotonic()
        with (
            pytest.raises(UserError, match=r"does not answer .*--offline keeps runs here"),
            track("mine", {}),
        ):
            pass
        assert time.monotonic() - started < 60  # not the two minutes of patience


def test_nobody_waits_for_a_file(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("HURRY_SECONDS", "UNDISTURBED_SECONDS"):
        monkeypatch.setattr(f"pipeline.tracking.store.{name}", 0.5)
    (workplace.folder / "mlruns").write_text("where the folder of all files should be")
    with workplace.entered(), track("mine", {}) as run:
        run.log_text("notes", "notes.txt")
    assert "Waiting up to" not in caplog.text
    assert "are not delivered to sqlite:///" in caplog.text


def test_a_question_waits_for_a_server_that_is_away_for_a_moment(
    workplace: Workplace, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with workplace.entered(server.url):
        client = mlflow.MlflowClient()
        ask(client.search_experiments)
        server.kill()
        with pytest.raises(mlflow.MlflowException):
            client.search_experiments()
        threading.Timer(2, server.start).start()
        assert ask(client.search_experiments)


@pytest.mark.parametrize("patience", ["soon", ""])
def test_a_patience_that_is_no_number_is_told(
    here: Workplace, monkeypatch: pytest.MonkeyPatch, patience: str
) -> None:
    monkeypatch.setenv("PIPELINE_PATIENCE", patience)
    with pytest.raises(UserError, match=r"PIPELINE_PATIENCE=.*expected seconds"), delivering():
        pass


def test_eight_runs_log_ten_thousand_metrics_each_at_once(
    workplace: Workplace, server: Server
) -> None:
    words = [sys.executable, "-c", LOGGER]
    variables = {"MLFLOW_TRACKING_URI": server.url, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [*words, f"run {number}", str(STEPS), str(METRICS)],
            cwd=workplace.folder,
            env={**environment(), **variables, "PIPELINE_PATIENCE": "240"},
        )
        for number in range(RUNS)
    ]
    for process in processes:
        assert process.wait(timeout=240) == 0
    with sqlite3.connect(server.place.folder / "mlflow.db") as database:
        rows = database.execute(
            "SELECT run_uuid, key, step, value FROM metrics JOIN runs USING (run_uuid) "
            "WHERE name LIKE 'run %'"
        ).fetchall()
    database.close()
    expected = {(f"m{i}", step, step + i / 100) for step in range(STEPS) for i in range(METRICS)}
    runs = {run for run, *_ in rows}
    assert len(runs) == RUNS
    assert len(rows) == RUNS * STEPS * METRICS
    for run in runs:
        assert {(key, step, value) for each, key, step, value in rows if each == run} == expected
    assert not list((workplace.folder / "data" / "outbox").iterdir())


def test_a_disk_that_is_full_ends_the_run_and_loses_nothing_before(
    workplace: Workplace, server: Server
) -> None:
    process = subprocess.run(
        [sys.executable, "-c", FULL],
        cwd=workplace.folder,
        env={**environment(), "MLFLOW_TRACKING_URI": server.url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "OutboxError" in process.stderr
    assert "(File too large). Make room" in process.stderr
    run_id, *steps = process.stdout.split()[:1] + [
        word for word in process.stdout.split()[1:] if word.isdigit()
    ]
    client = mlflow.MlflowClient(server.url)
    assert client.get_run(run_id).info.status == "FAILED"
    history = client.get_metric_history(run_id, "loss")
    assert [point.step for point in history] == list(map(int, steps))
    assert 5 < len(steps) < 100
