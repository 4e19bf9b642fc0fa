"""Files of runs and models, fetched whole.

MLflow's own way to the files of a run takes any failure, of a server that is away for a moment,
too, for a file that is not there; and a page that a proxy gives in its place, for that file.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import mlflow
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from pipeline.outbox.contents import files_at
from pipeline.outbox.shown import answers, is_remote, require_files


def fetch(client: mlflow.MlflowClient, location: str | None, path: str, folder: Path) -> Path:
    """Fetch a file, or all below ``location`` where the path is empty, into ``folder``.

    Raises:
        FileNotFoundError: the store does not list it.
        MlflowException, OSError, NotShownError: the store does not give it now.
    """
    files = files_at(client, location)
    if path and not any(_is_listed(files, path) for _ in range(answers(client))):
        raise FileNotFoundError(f"there is no {path}")
    found = Path(files.download_artifacts(path, str(folder)))  # type: ignore[no-untyped-call]
    if is_remote(client):
        require_files(folder, files.list_artifacts, path)
    return found


def _is_listed(files: ArtifactRepository, path: str) -> bool:
    parent = str(PurePosixPath(path).parent)
    listed = files.list_artifacts(None if parent == "." else parent)
    return path in {each.path for each in listed}
