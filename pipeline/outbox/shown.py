"""Whether the store shows what it was given: of a proxy's reply, nobody can tell otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import mlflow
from mlflow.entities import Run as MlflowRun

from pipeline.outbox.contents import List, last_points
from pipeline.outbox.journal import Entry
from pipeline.outbox.replies import NotShownError

ANSWERS = 3  # of a server, before something counts as not there


def require_shown(what: str, wanted: Iterable[str], shown: Iterable[str]) -> None:
    """Compare names.

    Raises:
        NotShownError: some are not there.
    """
    if missing := set(wanted) - set(shown):
        raise NotShownError(f"it does not show {what} {sorted(missing)[0]}, which it was given")


def require_batch(run: MlflowRun, entry: Entry) -> None:
    """Look for parameters, tags and points in what a run holds now.

    Raises:
        NotShownError: something is not there.
    """
    for part, there in (("params", run.data.params), ("tags", run.data.tags)):
        # MLflow may cut long values.
        shown = [
            key for key, value in entry.content.get(part, []) if _is_cut(value, there.get(key))
        ]
        require_shown(part, (key for key, _ in entry.content.get(part, [])), shown)
    # Points of a request are written together, and none is later than the last.
    last = {metric.key: (metric.step, metric.timestamp) for metric in last_points(run)}
    points = entry.content.get("metrics", [])
    shown = [key for key, _, time, step in points if last.get(key, (-1, -1)) >= (step, time)]
    require_shown("metric", (key for key, *_ in points), shown)


def require_files(folder: Path, list_files: List, below: str = "") -> None:
    """Look for the files of a folder, with their sizes, in what the store lists; for those that are
    ``below`` a path in it, where that is given.

    Raises:
        NotShownError: one is not there, or is of another size.
    """
    root = folder / below
    sizes = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in [root, *root.rglob("*")]
        if path.is_file()
    }
    folders = {str(PurePosixPath(name).parent) for name in sizes}
    shown = [
        each.path
        for parent in sorted(folders)
        for each in list_files(None if parent == "." else parent)
        if each.file_size in (None, sizes.get(each.path))  # some places do not tell it
    ]
    require_shown("file", sizes, shown)


def is_remote(client: mlflow.MlflowClient) -> bool:
    """Whether something may stand between a client and its store."""
    return is_http(str(client.tracking_uri))


def answers(client: mlflow.MlflowClient) -> int:
    """How often a store is asked before something counts as not there: what one answer does not
    show, another may, for a proxy's empty page looks like an empty folder."""
    return ANSWERS if is_remote(client) else 1


def is_http(uri: str) -> bool:
    """Whether a store is a server."""
    return uri.startswith("http")


def _is_cut(given: str, shown: str | None) -> bool:
    return shown is not None and given.startswith(shown)
