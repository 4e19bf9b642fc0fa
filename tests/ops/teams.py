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
