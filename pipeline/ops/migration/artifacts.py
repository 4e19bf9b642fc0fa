"""Files of runs and models: listed with their sizes, and carried from one store to another."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from pipeline.ops.migration.stores import at_once
from pipeline.outbox.writes import sweep

Files = dict[str, int]
"""Size in bytes by path below the root of a run's or a model's artifacts."""


class UnreadableError(Exception):
    """Artifacts that their store does not give."""


def list_files(repository: ArtifactRepository) -> Files:
    """All files, of all folders.

    Raises:
        UnreadableError: the store does not list them.
    """
    files: Files = {}
    folders: list[str | None] = [None]
    while folders:
        try:
            entries = repository.list_artifacts(folders.pop())
        except (MlflowException, OSError, ImportError) as error:
            raise UnreadableError(str(error)) from error
        for entry in entries:
            if entry.is_dir:
                folders.append(entry.path)
            else:
                files[entry.path] = int(entry.file_size or 0)
    return files


def carry(
    source: ArtifactRepository,
    target: ArtifactRepository,
    paths: Iterable[str],
    edit: Callable[[Path], None],
) -> None:
    """Copy files; ``edit`` may change a copy before it is sent.

    Raises:
        UnreadableError: the source does not give a file.
    """

    def carry_one(path: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            try:
                copy = source.download_artifacts(path, folder)  # type: ignore[no-untyped-call]
            except (MlflowException, OSError, ImportError) as error:
                raise UnreadableError(f"{path}: {error}") from error
            edit(Path(copy))
            parent = str(PurePosixPath(path).parent)
            target.log_artifact(  # type: ignore[no-untyped-call]
                copy, None if parent == "." else parent
            )

    at_once(carry_one, paths)
    sweep(target.artifact_uri)
