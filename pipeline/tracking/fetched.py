"""Files of runs and models, fetched whole.

MLflow's own way to the files of a run takes any failure, of a server that is away for a moment,
too, for a file that is not there; and a page that a proxy gives in its place, for that file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import mlflow
from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from pipeline.outbox.shown import answers, is_remote, require_files

List = Callable[[str | None], list[FileInfo]]


def fetch(
    client: mlflow.MlflowClient, location: str | None, list_files: List, path: str, folder: Path
) -> Path:
    """Fetch a file, or all below ``location`` where the path is empty, into ``folder``.

    Raises:
        FileNotFoundError: the store does not list it.
        MlflowException, OSError, NotShownError: the store does not give it now.
    """
    if path and not any(_is_listed(list_files, path) for _ in range(answers(client))):
        raise FileNotFoundError(f"there is no {path}")
    uri = str(client.tracking_uri)
    files: Any = get_artifact_repository(str(location), uri, uri)
    found = Path(files.download_artifacts(path, str(folder)))
    if is_remote(client):
        require_files(folder, list_files, path)
    return found


def _is_listed(list_files: List, path: str) -> bool:
    parent = str(PurePosixPath(path).parent)
    return path in {each.path for each in list_files(None if parent == "." else parent)}
