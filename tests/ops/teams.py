"""A team with a server: who is in it, and what they ask."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import mlflow
import pytest
import requests
from mlflow.server import get_app_client
from mlflow.server.auth.client import AuthServiceClient
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from tests.steps.workplace import Workplace, answering, free_port

PASSWORDS = {"admin": "Tr0ub4dor&3-admin", "ada": "Lovelace-1815-x", "ben": "Franklin-1706-x"}
REFUSED = (400, 403, 404, 405, 501)
NAME = "mlflow.example.org"  # of a proxy before the server


@dataclass(frozen=True)
class Team:
    """People and their server."""

    url: str

    def request(self, user: str | None, method: str, path: str, **more: Any) -> requests.Response:
        """What ``user``, or nobody, gets for a request."""
        auth = (user, PASSWORDS[user]) if user else None
        return requests.request(method, self.url + path, auth=auth, timeout=30, **more)

    def get(self, user: str | None, path: str, **params: Any) -> requests.Response:
        """What a question to MLflow's API gets."""
        return self.request(user, "GET", f"/api/2.0/mlflow/{path}?{urlencode(params)}")

    def post(self, user: str | None, path: str, **body: Any) -> requests.Response:
        """What an order to MLflow's API gets."""
        return self.request(user, "POST", f"/api/2.0/mlflow/{path}", json=body)

    def raw(self, user: str, method: str, target: str, body: str | None = None) -> tuple[int, str]:
        """Status and text for a path that goes out as it is, dots and all."""
        basic = requests.auth._basic_auth_str(user, PASSWORDS[user])
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        connection.request(method, target, body, {"Authorization": basic})
        answer = connection.getresponse()
        told = answer.read().decode(errors="replace")
        connection.close()
        return answer.status, told

    @contextmanager
    def logged_in(self, user: str) -> Iterator[mlflow.MlflowClient]:
        """``user`` works in this process."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_USERNAME", user)
            patch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORDS[user])
            yield mlflow.MlflowClient(self.url)

    @contextmanager
    def administered(self) -> Iterator[AuthServiceClient]:
        """The administrator sees to users and permissions."""
        with self.logged_in("admin"):
            yield get_app_client("basic-auth", tracking_uri=self.url)

    def experiment(self, user: str, name: str) -> str:
        """The id of an experiment that ``user`` makes."""
        answer = self.post(user, "experiments/create", name=name)
        return str(json.loads(answer.text)["experiment_id"])


@contextmanager
def team_server(place: Workplace, *flags: str, **variables: str) -> Iterator[Team]:
    """A team whose server is ``python -m pipeline server`` with its folder in ``place``."""
    port = free_port("127.0.0.1")
    with (place.folder / "server.log").open("a") as told:
        process = place.start(
            *("pipeline", "server", f"--port={port}", f"--allowed_hosts={NAME}", *flags),
            told=told,
            MLFLOW_AUTH_ADMIN_PASSWORD=PASSWORDS["admin"],
            **variables,
        )
    with answering(process, f"http://127.0.0.1:{port}") as url:
        yield Team(url)


def new_database(url: str, name: str) -> str:
    """The URL of a new database beside that of ``url``."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def attempts_on(
    experiment: str, run: str, model: str, name: str, file: str
) -> list[tuple[str, str, Any]]:
    """What another may try on an experiment, a run with a ``file``, a logged model and version 1 of
    the registered model ``name``: method, path and body of requests, all to be refused."""
    at = f"{experiment}/{run}/artifacts/{file}"
    api, ajax = "/api/2.0/mlflow", "/ajax-api/2.0/mlflow"
    metric = {"key": "k", "value": 1.0, "timestamp": 1}
    tag = {"key": "k", "value": "v"}
    return [
        ("GET", f"{api}-artifacts/artifacts/{at}", None),
        ("PUT", f"{api}-artifacts/artifacts/{at}", None),
        ("DELETE", f"{api}-artifacts/artifacts/{at}", None),
        ("GET", f"{api}-artifacts/presigned/{at}", None),
        ("POST", f"{api}-artifacts/mpu/create/{at}", {"path": "x", "num_parts": 1}),
        ("POST", f"{api}-artifacts/mpu/abort/{at}", {"path": "x", "upload_id": "x"}),
        ("POST", f"{ajax}/upload-artifact?run_uuid={run}&path=x.txt", {}),
        ("GET", f"/get-artifact?path={file}&run_uuid={run}", None),
        ("GET", f"/model-versions/get-artifact?path=&name={name}&version=1", None),
        ("POST", f"{api}/artifacts/presigned-upload-url", {"run_id": run, "path": "x"}),
        ("POST", f"{api}/artifacts/presigned-download-url", {"run_id": run, "path": "x"}),
        ("GET", f"{api}/artifacts/list?run_id={run}", None),
        ("GET", f"{api}/runs/get?run_id={run}", None),
        ("POST", f"{api}/runs/log-metric", {"run_id": run, **metric}),
        ("POST", f"{api}/runs/log-batch", {"run_id": run, "metrics": [metric]}),
        ("POST", f"{api}/runs/log-parameter", {"run_id": run, **tag}),
        ("POST", f"{api}/runs/log-model", {"run_id": run, "model_json": "{}"}),
        ("POST", f"{api}/runs/log-inputs", {"run_id": run, "datasets": []}),
        ("POST", f"{api}/runs/outputs", {"run_id": run, "models": []}),
        ("POST", f"{api}/runs/set-tag", {"run_id": run, **tag}),
        ("POST", f"{api}/runs/delete-tag", {"run_id": run, "key": "k"}),
        ("POST", f"{api}/runs/update", {"run_id": run, "status": "FAILED"}),
        ("POST", f"{api}/runs/delete", {"run_id": run}),
        ("POST", f"{api}/runs/restore", {"run_id": run}),
        ("POST", f"{api}/runs/create", {"experiment_id": experiment}),
        ("POST", f"{ajax}/runs/create-promptlab-run", {"experiment_id": experiment}),
        ("GET", f"{api}/experiments/get?experiment_id={experiment}", None),
        ("POST", f"{api}/experiments/update", {"experiment_id": experiment, "new_name": "x"}),
        ("POST", f"{api}/experiments/delete", {"experiment_id": experiment}),
        ("POST", f"{api}/experiments/restore", {"experiment_id": experiment}),
        ("POST", f"{api}/experiments/set-experiment-tag", {"experiment_id": experiment, **tag}),
        ("GET", f"{api}/metrics/get-history?run_id={run}&metric_key=k", None),
        ("GET", f"{ajax}/metrics/get-history-bulk?run_id={run}&metric_key=k", None),
        ("GET", f"{api}/logged-models/{model}", None),
        ("PATCH", f"{api}/logged-models/{model}", {"status": "LOGGED_MODEL_READY"}),
        ("PATCH", f"{api}/logged-models/{model}/tags", {"tags": [tag]}),
        ("GET", f"{api}/logged-models/{model}/artifacts/directories", None),
        ("GET", f"{ajax}/logged-models/{model}/artifacts/files?artifact_file_path=MLmodel", None),
        ("DELETE", f"{api}/logged-models/{model}", None),
        ("GET", f"{api}/registered-models/get?name={name}", None),
        ("POST", f"{api}/registered-models/rename", {"name": name, "new_name": "x"}),
        ("POST", f"{api}/registered-models/alias", {"name": name, "alias": "a", "version": "1"}),
        ("DELETE", f"{api}/registered-models/delete", {"name": name}),
        ("GET", f"{api}/model-versions/get?name={name}&version=1", None),
        ("GET", f"{api}/model-versions/get-download-uri?name={name}&version=1", None),
        ("POST", f"{api}/model-versions/set-tag", {"name": name, "version": "1", **tag}),
        ("DELETE", f"{api}/model-versions/delete", {"name": name, "version": "1"}),
    ]
