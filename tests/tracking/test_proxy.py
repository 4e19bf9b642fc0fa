"""A proxy whose server is away answers itself, with pages: none of them is MLflow's word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run as MlflowRun

from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from pipeline.models.popularity import MostPopular
from pipeline.tracking.dead import REPLACED
from pipeline.tracking.models import log_model
from pipeline.tracking.runs import Run
from pipeline.tracking.store import ask
from pipeline.tracking.track import track
from tests.steps.workplace import Workplace
from tests.tracking.servers import Passing, Proxy, Server, running

HTML = b"<html><body><h1>default backend</h1></body></html>"
PAGES = [(404, HTML), (400, HTML), (200, HTML), (200, b""), (200, b"{}"), (403, b'{"error": 1}')]
EXPERIMENT = "behind a proxy"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), store) as server:
        mlflow.MlflowClient(server.url).create_experiment(EXPERIMENT)
        yield server


@pytest.fixture
def proxy(server: Server, request: pytest.FixtureRequest) -> Iterator[Proxy]:
    with Proxy(server.port, *getattr(request, "param", PAGES[0])) as proxy:
        yield proxy
        proxy.shutdown()


@pytest.fixture
def here(workplace: Workplace, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """A workplace whose store is behind the proxy, which is asked once only."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    with workplace.entered(proxy.url):
        yield workplace


def log_all(run: Run) -> None:
    run.log_params({"epochs": 20})
    fields = {"name": "d", "digest": "1", "sourceType": "local", "source": "{}"}
    run.log_input(fields | {"source_type": "local"}, "training")
    for step in range(20):
        run.log_metrics({f"m{i}": step + i / 10 for i in range(5)}, step)
    run.log_text("text", "a/b.txt")


def assert_all(server: Server, run: Run) -> None:
    client = mlflow.MlflowClient(server.url)
    found = client.get_run(run.id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"epochs": "20"}
    assert len(found.inputs.dataset_inputs) == 1
    for i in range(5):
        history = client.get_metric_history(run.id, f"m{i}")
        assert [(point.step, point.value) for point in history] == [
            (step, step + i / 10) for step in range(20)
        ]
    assert [file.file_size for file in client.list_artifacts(run.id, "a")] == [4]


@pytest.mark.parametrize("proxy", PAGES, indirect=True, ids=lambda page: f"{page[0]} {page[1]!r}")
def test_pages_for_a_while_lose_nothing(here: Workplace, server: Server, proxy: Proxy) -> None:
    with track("mine", {"step": "train"}) as run:
        before = proxy.pages
        proxy.out_of_order = lambda method, path: proxy.pages < before + 3
        log_all(run)
    assert proxy.pages == before + 3
    assert_all(server, run)
    assert not list((here.folder / "data" / "outbox").iterdir())


@pytest.mark.parametrize("proxy", [(200, HTML)], indirect=True)
@pytest.mark.parametrize("part", ["mlflow-artifacts", "log-batch", "runs/update", "log-inputs"])
def test_a_page_in_the_place_of_one_answer(
    here: Workplace, server: Server, proxy: Proxy, part: str
) -> None:
    with track("mine", {"step": "train"}) as run:
        proxy.out_of_order = lambda method, path: (
            method != "GET" and part in path and not proxy.pages
        )
        log_all(run)
    assert proxy.pages == 1
    assert_all(server, run)


def test_pages_to_the_end_leave_everything_for_sync(
    here: Workplace, server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_PATIENCE", "1")
    with track("mine", {"step": "train"}) as run:
        proxy.out_of_order = lambda method, path: True
        log_all(run)
    failed = here.cli("sync", uri=proxy.url)
    assert failed.status == 1
    assert "1 outboxes are not delivered" in failed.told
    proxy.out_of_order = lambda method, path: False
    synced = here.cli("sync", uri=proxy.url)
    assert synced.status == 0, synced.told
    assert_all(server, run)


def test_what_mlflow_refuses_is_shown_and_sent_again_and_its_neighbours_are_taken(
    here: Workplace, server: Server, proxy: Proxy
) -> None:
    client = mlflow.MlflowClient(server.url)
    other = client.create_run(client.get_run(_run(here).id).info.experiment_id).info.run_id
    client.log_param(other, "epochs", "7")

    def log() -> None:
        with track("mine", {}):
            Run(other)._add(params=[["epochs", "20"], ["seed", "1"]])
            Run(other).log_metrics({"loss": 0.5})

    with pytest.raises(UserError, match="refused 1 writes"):
        log()
    run = client.get_run(other)
    assert run.data.params == {"epochs": "7", "seed": "1"}
    assert run.data.metrics == {"loss": 0.5}
    outcome = here.cli("sync", uri=proxy.url)
    assert outcome.status == 1
    assert f"params epochs of run {other}: INVALID_PARAMETER_VALUE" in outcome.told
    assert "is left to deliver" not in outcome.told


def test_what_mlflow_refused_can_be_sent_again(
    here: Workplace, server: Server, proxy: Proxy
) -> None:
    client = mlflow.MlflowClient(server.url)
    run = _run(here)
    client.delete_run(run.id)

    def log() -> None:
        with track("mine", {}):
            run.set_tags({"a": "b"})
            run.log_text("text", "b.txt")

    with pytest.raises(UserError, match="refused"):
        log()
    client.restore_run(run.id)
    outcome = here.cli("sync", uri=proxy.url)
    assert outcome.status == 0, outcome.told
    assert client.get_run(run.id).data.tags["a"] == "b"
    assert [file.path for file in client.list_artifacts(run.id)] == ["b.txt"]
    assert not list((here.folder / "data" / "outbox").iterdir())


def runs(server: Server) -> list[MlflowRun]:
    client = mlflow.MlflowClient(server.url)
    found = client.get_experiment_by_name(EXPERIMENT)
    assert found is not None
    return list(client.search_runs([found.experiment_id]))


@pytest.mark.parametrize(
    "proxy", PAGES[:5], indirect=True, ids=lambda page: f"{page[0]} {page[1]!r}"
)
@pytest.mark.parametrize("part", ["get-by-name", "runs/create", "runs/get?", "artifacts?path"])
def test_a_page_in_the_place_of_an_answer_is_no_answer(
    here: Workplace, server: Server, proxy: Proxy, part: str
) -> None:
    ask(mlflow.MlflowClient().search_experiments)
    proxy.out_of_order = lambda method, path: part in path and not proxy.pages
    before = len(runs(server))
    with track("mine", {"step": "train"}) as run:
        log_all(run)
    assert proxy.pages == 1
    assert_all(server, run)
    assert len(runs(server)) == before + 1


@pytest.mark.parametrize("proxy", [(200, HTML)], indirect=True)
def test_a_page_in_the_place_of_a_file_is_not_that_file(
    here: Workplace, server: Server, proxy: Proxy, tmp_path: Path
) -> None:
    with track("mine", {}) as run:
        log_all(run)
    proxy.out_of_order = lambda method, path: "b.txt" in path and not proxy.pages
    assert run.fetch("a/b.txt", tmp_path).read_text() == "text"
    assert proxy.pages == 1


class Forgetful(Proxy):
    """What it does not pass on is an answer: the server has done what was asked."""

    def disturb(self, request: Passing, body: bytes) -> None:
        request.forward(body)


@pytest.mark.parametrize("part", ["runs/create", "mlflow/logged-models", "runs/log-batch"])
def test_what_was_done_and_not_answered_is_done_once(
    workplace: Workplace,
    server: Server,
    dataset: Dataset,
    part: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    popular = MostPopular(MostPopular.settings_class.read({}, "here"), seed=1).fit(dataset)
    before = {run.info.run_id for run in runs(server)}
    with Forgetful(server.port, *PAGES[0]) as proxy, workplace.entered(proxy.url):
        ask(mlflow.MlflowClient().search_experiments)
        proxy.out_of_order = lambda method, path: path.endswith(part) and not proxy.pages
        with track("mine", {"step": "train"}) as run:
            log_all(run)
            log_model(run, "most_popular", popular, dataset)
        proxy.shutdown()
    assert proxy.pages == 1
    assert_all(server, run)
    (experiment,) = {each.info.experiment_id for each in runs(server)}
    others = [each for each in runs(server) if each.info.run_id not in before | {run.id}]
    assert len(others) == (part == "runs/create")
    assert {each.info.status for each in others} <= {"KILLED"}
    assert {each.data.tags["ended"] for each in others} <= {REPLACED}
    made = mlflow.MlflowClient(server.url).search_logged_models(
        [experiment], filter_string=f"source_run_id = '{run.id}'"
    )
    assert [str(model.status) for model in made] == ["READY"]
    assert not list((workplace.folder / "data" / "outbox").iterdir())


def _run(here: Workplace) -> Run:
    with track("other", {}) as run:
        return run
