"""Models behind HTTP: the lists of the evaluation, and an answer to whatever is asked."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import mlflow
import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.pyfunc import scoring_server

from pipeline.data.dataset import Dataset
from pipeline.evaluation.evaluate import evaluate
from pipeline.models import FAMILIES, family
from pipeline.models.base import Recommender
from pipeline.serving.guard import Guard
from pipeline.tracking.models import log_model
from pipeline.tracking.runs import Run
from pipeline.tracking.track import track
from tests.steps.workplace import Workplace

K = 10


@pytest.fixture(scope="module")
def here(shared: Workplace) -> Iterator[Workplace]:
    with shared.entered():
        yield shared


def logged(name: str, dataset: Dataset) -> tuple[Recommender, Run]:
    params = {"epochs": 1} if name in ("ncf", "two_tower") else {}
    kind = family(name)
    recommender = kind(kind.settings_class.read(params, "here"), seed=1).fit(dataset)
    with track(name, {"step": "train"}) as run:
        log_model(run, name, recommender, dataset)
    return recommender, run


def client(run: Run) -> TestClient:
    """What ``mlflow models serve`` answers with, in this process."""
    app = scoring_server.init(mlflow.pyfunc.load_model(f"runs:/{run.id}/model"))
    return TestClient(Guard(app))


def assert_the_lists(rows: list[dict[str, Any]], recommender: Recommender, data: Dataset) -> None:
    ranked = evaluate(recommender, data, [K])
    ids = data.users["user"].to_numpy()[ranked.users].astype(str)
    items = data.items["item"].astype(str).to_numpy()
    expected = [
        (user, place + 1, items[item])
        for user, places in zip(ids, ranked.lists, strict=True)
        for place, item in enumerate(places)
        if item >= 0
    ]
    assert [(row["user"], row["rank"], row["item"]) for row in rows] == expected


def asked(data: Dataset) -> dict[str, Any]:
    ids = data.users["user"].to_numpy()[data.test_users]
    return {"dataframe_records": [{"user": str(one)} for one in ids], "params": {"k": K}}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_model_serves_the_lists_that_were_evaluated(
    here: Workplace, dataset: Dataset, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    recommender, run = logged(name, dataset)
    answer = client(run).post("/invocations", json=asked(dataset))
    assert answer.status_code == 200, answer.text
    assert_the_lists(answer.json()["predictions"], recommender, dataset)


def test_mlflow_models_serve(here: Workplace, dataset: Dataset) -> None:
    """The real thing: a process, without this checkout on its path and without pickle."""
    recommender, run = logged("ncf", dataset)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--model-uri", f"runs:/{run.id}/model", "--env-manager", "local", "--port", str(port)]
    with (here.folder / "served.log").open("w") as told:
        process = here.start(
            "mlflow", "models", "serve", *words, told=told,
            MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false", PYTHONPATH="",
        )  # fmt: skip
    try:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps(asked(dataset)).encode(),
            {"Content-Type": "application/json"},
        )
        for _ in range(600):
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    rows = json.loads(answer.read())["predictions"]
                break
            except urllib.error.URLError:
                assert process.poll() is None, (here.folder / "served.log").read_text()
                time.sleep(0.1)
        assert_the_lists(rows, recommender, dataset)
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def served(here: Workplace, dataset: Dataset) -> TestClient:
    return client(logged("ease", dataset)[1])


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
RECORD = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("user", "items", "exclude", "allowed", "film"), JSON)
)
# Objects alone: MLflow's server itself fails over other JSON before it asks the model.
BODY = st.one_of(
    st.dictionaries(st.sampled_from(["inputs", "instances", "dataframe_split", "user"]), JSON),
    st.fixed_dictionaries(
        {"dataframe_records": st.lists(RECORD, max_size=3)},
        optional={"params": st.dictionaries(st.sampled_from(["k", "n"]), JSON)},
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(BODY)
def test_whatever_is_sent_is_answered_or_refused(served: TestClient, body: Any) -> None:
    answer = served.post("/invocations", json=body)
    assert answer.status_code == 200 or 400 <= answer.status_code < 500, answer.text
    if answer.status_code == 200:
        scores = [row["score"] for row in answer.json()["predictions"]]
        assert np.isfinite(scores).all()


@pytest.mark.parametrize("text", ["", "{", "[1", '{"dataframe_records": 3}'])
def test_what_is_no_json_is_refused(served: TestClient, text: str) -> None:
    headers = {"Content-Type": "application/json"}
    assert 400 <= served.post("/invocations", content=text, headers=headers).status_code < 500
