"""Tracking stores other than the one in use: opened by their URL, and read through all pages."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Experiment, LoggedModel
from mlflow.entities import Run as MlflowRun
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking._tracking_service.utils import _use_tracking_uri
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from pipeline.errors import UserError

S = TypeVar("S")
T = TypeVar("T")
TRACKING_URI = "MLFLOW_TRACKING_URI"
SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
ANSWER_SECONDS = 10
PAGE = 1000
AT_ONCE = 8
PASSWORD = re.compile(r"(://[^/@\s]*?):[^/\s]*@")


@dataclass(frozen=True)
class Store:
    """Experiments, runs and models behind a URL; what is deleted is not seen."""

    uri: str
    client: MlflowClient

    @property
    def shown(self) -> str:
        """The URL for people: without its password."""
        return _shown(make_url(self.uri))

    def experiments(self) -> list[Experiment]:
        """All, oldest first."""
        found = _pages(
            lambda token: self.client.search_experiments(
                order_by=["creation_time"], max_results=PAGE, page_token=token
            )
        )
        return list(found)

    def runs(self, experiment_ids: Sequence[str], condition: str = "") -> Iterator[MlflowRun]:
        """Runs of these experiments, oldest first, so that parents come before children."""
        if not experiment_ids:
            return iter(())
        return _pages(
            lambda token: self.client.search_runs(
                list(experiment_ids),
                condition,
                max_results=PAGE,
                order_by=["attributes.start_time"],
                page_token=token,
            )
        )

    def logged_models(self, experiment_ids: Sequence[str]) -> Iterator[LoggedModel]:
        """Logged models of these experiments, oldest first."""
        if not experiment_ids:
            return iter(())
        oldest = [{"field_name": "creation_timestamp", "ascending": True}]
        return _pages(
            lambda token: self.client.search_logged_models(
                list(experiment_ids), max_results=50, order_by=oldest, page_token=token
            )
        )

    def registered_models(self) -> list[RegisteredModel]:
        """All, with their aliases."""
        found = _pages(lambda token: self.client.search_registered_models(page_token=token))
        return list(found)

    def versions(self, name: str) -> list[ModelVersion]:
        """The versions of a registered model, first to last."""
        found = _pages(
            lambda token: self.client.search_model_versions(f"name = '{name}'", page_token=token)
        )
        return sorted(found, key=lambda version: int(version.version))

    def artifacts(self, location: str | None) -> ArtifactRepository:
        """Where files lie that this store says are at ``location``."""
        return get_artifact_repository(str(location), self.uri, self.uri)


def at_once(do: Callable[[T], S], items: Iterable[T]) -> list[S]:
    """Results in the order of ``items``, a few asked for at a time: requests mostly wait.

    What has not begun when something fails, or Ctrl-C comes, does not begin.
    """
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        return list(pool.map(do, items))
    finally:
        pool.shutdown(cancel_futures=True)


def open_source(uri: str) -> Store:
    """The store to read from, which must be there: nothing is created.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    url = _parsed(uri, "source")
    if url.drivername not in SERVERS:
        if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
            raise UserError(f"The source {_shown(url)}: there is no file {url.database}.")
        try:
            engine = create_engine(url)
            known = inspect(engine).has_table("experiments")
            engine.dispose()
        except (SQLAlchemyError, ImportError) as error:
            why = first_line(error)
            raise UserError(f"The source {_shown(url)} cannot be read: {why}") from None
        if not known:  # MLflow would make its tables in it
            raise UserError(f"The source {_shown(url)}: this database is no tracking store.")
    return _opened(uri, url, "source")


def open_target(uri: str) -> Store:
    """The store to write to; a database is made ready for it where it is empty.

    Raises:
        UserError: it cannot be reached or used.
    """
    return _opened(uri, _parsed(uri, "target"), "target")


def is_same(one: Store, other: Store) -> bool:
    """Whether two are the same, under whatever name: one has the runs of the other."""
    if _place(make_url(one.uri)) == _place(make_url(other.uri)):
        return True
    some = next(one.runs([each.experiment_id for each in one.experiments()]), None)
    if some is None:
        return False
    try:
        other.client.get_run(some.info.run_id)
    except MlflowException:
        return False
    return True


@contextmanager
def in_use(uri: str) -> Iterator[None]:
    """Make a store the one in use, in processes that are started meanwhile, too."""
    variable = os.environ.get(TRACKING_URI)
    try:
        with _use_tracking_uri(uri):
            yield
    finally:
        if variable is not None:
            os.environ[TRACKING_URI] = variable  # MLflow restores what this process has set, alone


def _opened(uri: str, url: URL, role: str) -> Store:
    try:
        if url.drivername in SERVERS:
            # Retries would take minutes to find that nobody is there.
            credentials = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
            http_request(  # type: ignore[no-untyped-call]
                credentials, "/health", "GET", max_retries=0, timeout=ANSWER_SECONDS
            )
        client = MlflowClient(uri, uri)
        client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
        raise UserError(f"The {role} {_shown(url)} cannot be used: {first_line(error)}") from None
    return Store(uri, client)


def _parsed(uri: str, role: str) -> URL:
    try:
        url = make_url(uri)
        if url.drivername not in SERVERS:
            url.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        url = URL.create("unknown")
    if url.drivername in SERVERS or url.get_backend_name() in DATABASES:
        return url
    folder = " A folder of files becomes a database by: mlflow migrate-filestore."
    raise UserError(
        f"The {role}: expected the URL of a tracking store, as in sqlite:///mlflow.db, "
        f"postgresql://user@host/database or http://host:5000."
        f"{folder if '://' not in uri or uri.startswith('file:') else ''}"
    )


def _place(url: URL) -> tuple[Any, ...]:
    """What two URLs of one store have in common, whoever asks."""
    if url.drivername in SERVERS:
        path = (url.database or "").rstrip("/")
        return url.drivername, url.host, url.port, path
    if url.get_backend_name() == "sqlite":
        return "sqlite", Path(str(url.database)).resolve()
    return url.get_backend_name(), url.host or url.query.get("host"), url.port, url.database


def _shown(url: URL) -> str:
    return url.render_as_string(hide_password=True)


def first_line(error: BaseException) -> str:
    """The first line of what an error says, without passwords."""
    first = (str(error) or type(error).__name__).splitlines()[0]
    return PASSWORD.sub(r"\1:***@", first)


def _pages(search: Callable[[str | None], Any]) -> Iterator[Any]:
    token = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return
