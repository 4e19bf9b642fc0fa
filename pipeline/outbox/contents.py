"""What a run holds, by name: compared with what it must hold to count as finished."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import Any, Self

import mlflow
from mlflow.entities import FileInfo, LoggedModelStatus, Metric
from mlflow.entities import Run as MlflowRun
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

NONE: frozenset[str] = frozenset()
List = Callable[[str | None], list[FileInfo]]
"""Lists a folder, or what is at the top."""


@dataclass(frozen=True)
class Contents:
    """Names of what a run holds, or is to hold."""

    params: frozenset[str] = NONE
    metrics: frozenset[str] = NONE
    tags: frozenset[str] = NONE
    datasets: frozenset[str] = NONE
    """Digests of its inputs."""
    files: frozenset[str] = NONE
    """Paths below the root of its artifacts."""
    models: frozenset[str] = NONE
    """Names of logged models, whole ones alone."""

    @classmethod
    def named(cls, **parts: Iterable[str]) -> Self:
        """Names as they come."""
        return cls(**{part: frozenset(names) for part, names in parts.items()})

    @classmethod
    def read(cls, plain: Mapping[str, Iterable[str]]) -> Self:
        """What ``plain`` has made of it."""
        return cls.named(**plain)

    def __or__(self, other: Contents) -> Contents:
        """What is in either."""
        names = [part.name for part in fields(self)]
        return Contents(**{name: getattr(self, name) | getattr(other, name) for name in names})

    def plain(self) -> dict[str, list[str]]:
        """The same as JSON values."""
        return {part.name: sorted(getattr(self, part.name)) for part in fields(self)}

    def lacks(self, must: Contents) -> list[str]:
        """What is in ``must`` and not here, in words."""
        return [
            f"{part.name.removesuffix('s')} {name}"
            for part in fields(self)
            for name in sorted(getattr(must, part.name) - getattr(self, part.name))
        ]


EMPTY = Contents()


def contents(client: mlflow.MlflowClient, run_id: str, must: Contents) -> Contents:
    """What the store has of a run; of files, those in the folders of ``must``.

    Raises:
        MlflowException, OSError: the store does not say.
    """
    run = client.get_run(run_id)
    folders = {str(PurePosixPath(name).parent) for name in must.files}
    list_files = files_at(client, run.info.artifact_uri).list_artifacts
    files = [
        each.path for folder in folders for each in list_files(None if folder == "." else folder)
    ]
    outputs = run.outputs.model_outputs if run.outputs and must.models else []
    models: list[Any] = [client.get_logged_model(each.model_id) for each in outputs]
    return Contents.named(
        params=run.data.params,
        metrics=run.data.metrics,
        tags=run.data.tags,
        datasets=[each.dataset.digest for each in run.inputs.dataset_inputs] if run.inputs else [],
        files=files,
        models=[each.name for each in models if each.status == LoggedModelStatus.READY],
    )


def files_at(client: mlflow.MlflowClient, location: str | None) -> ArtifactRepository:
    """The files of a run or model, by where the store keeps them.

    To list those of a run, the client asks for the run twice and for the models of its experiment,
    at every folder.
    """
    uri = str(client.tracking_uri)
    return get_artifact_repository(str(location), uri, uri)


def last_points(run: MlflowRun) -> list[Metric]:
    """The last point of each metric; MLflow has no public name for where a run keeps its step."""
    return list(run.data._metric_objs)


def listed(lacking: list[str]) -> str:
    """The first few of what is lacking, and how many there are more."""
    few, rest = lacking[:4], len(lacking) - 4
    return ", ".join(few) + (f" and {rest} more" if rest > 0 else "")
