"""Work with no server at all: in an embedded store of this folder, to be delivered later.

What is in that store is as good as on a server: steps find it again, it can be compared, and
``python -m pipeline ui --offline`` shows it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import mlflow
from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from pipeline.errors import UserError
from pipeline.ops.migration.migrate import Migration, migrate
from pipeline.ops.migration.stores import in_use
from pipeline.tracking.hints import OFFLINE
from pipeline.tracking.schema import make_ready
from pipeline.tracking.store import deliver_left

FOLDER, DATABASE = OFFLINE.parent, OFFLINE.name
ARTIFACTS_FOLDER = "artifacts"
ELSEWHERE = ("MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_ID")  # what names something on a server
STUDIES = "OPTUNA_STORAGE"  # where it names a server, studies are kept in a file meanwhile

log = logging.getLogger("pipeline")


@contextmanager
def use_offline_store() -> Iterator[None]:
    """Make the embedded store the one in use, here and in processes that are started meanwhile.

    Raises:
        UserError: ``mlflow run`` has made a run for us elsewhere, or the store cannot be used.
    """
    if "MLFLOW_RUN_ID" in os.environ:
        raise UserError(
            "--offline is for python -m pipeline: mlflow run has made a run on the tracking server "
            "already."
        )
    _make_store(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "Default")
    studies = os.environ.get(STUDIES, "sqlite:")
    names = ELSEWHERE if studies.startswith("sqlite:") else (*ELSEWHERE, STUDIES)
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        with in_use(offline_uri()):
            yield
    finally:
        os.environ.update(hidden)
        log.info("What was done is in %s. Deliver it by: python -m pipeline sync", FOLDER)


def deliver_offline_store() -> Migration | None:
    """Copy what the embedded store has, with its true times, to the tracking store in use.

    It may be done again: new runs are added, those that went on since are brought up to date.
    None where nothing was ever done offline.

    Raises:
        UserError: the tracking store in use cannot be reached, or is the embedded one.
    """
    if not (FOLDER / DATABASE).is_file():
        return None
    with in_use(offline_uri()):
        deliver_left()  # a process that was killed may have left what it logged
    return migrate(offline_uri(), mlflow.get_tracking_uri())


def offline_uri() -> str:
    """The embedded store's."""
    path = (FOLDER / DATABASE).resolve()
    return f"sqlite:///{path if quote(str(path)) == str(path) else FOLDER / DATABASE}"


def _make_store(experiment: str) -> None:
    """Make sure that the store is there, and that its experiment keeps artifacts beside it."""
    try:
        FOLDER.mkdir(parents=True, exist_ok=True)
        artifacts = (FOLDER / ARTIFACTS_FOLDER).resolve()
        # By a client, the experiment that MLflow makes would keep its files elsewhere.
        place = str(artifacts) if quote(str(artifacts)) == str(artifacts) else artifacts.as_uri()
        make_ready(offline_uri(), place)
        with FileLock(FOLDER / "making.lock"):  # two may begin at once
            store: Any = SqlAlchemyStore(offline_uri(), place)  # type: ignore[no-untyped-call]
            if store.get_experiment_by_name(experiment) is None:
                store.create_experiment(experiment)
    except (MlflowException, OSError) as error:
        raise UserError(f"The offline store in {FOLDER} cannot be used: {error}") from None
