"""The kinds of write that a run can get, and how the store takes each: twice is as once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import mlflow
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModel,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    RunTag,
)
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.utils.file_utils import local_file_uri_to_path

from pipeline.outbox.contents import EMPTY, Contents, contents, files_at, listed
from pipeline.outbox.journal import Entry
from pipeline.outbox.shown import (
    answers,
    is_remote,
    require_batch,
    require_files,
    require_shown,
)

T = TypeVar("T")

log = logging.getLogger("pipeline")

ENDED = "ended"  # the tag that says why a run did not finish
BATCH, INPUTS, ARTIFACTS, MODEL, END = "batch", "inputs", "artifacts", "model", "end"
LIMITS = {"metrics": 1000, "params": 100, "tags": 100}
"""What MLflow takes in one request, of each part of a batch."""
UPLOADING = ".artifact.uploading."  # how MLflow begins the name of a file until it is whole
KEY = "outbox"  # the tag of a logged model by which a second delivery finds it
MLMODEL = "MLmodel"


def batches(part: str, rows: Sequence[T]) -> Iterator[list[T]]:
    """Rows of one part of a batch, as many at a time as MLflow takes in one request."""
    for start in range(0, len(rows), LIMITS[part]):
        yield list(rows[start : start + LIMITS[part]])


def write(client: mlflow.MlflowClient, entry: Entry, files: Path) -> None:
    """Make the store take ``entry``, whose files are in the folder ``files``, and show it.

    Raises:
        MlflowException, OSError, NotShownError: it does not.
    """
    if entry.files is not None and not files.exists():
        return  # removed once delivered: only the note of it was lost
    if entry.kind == BATCH:
        client.log_batch(
            entry.run,
            [Metric(*point) for point in entry.content.get("metrics", [])],
            [Param(key, value) for key, value in entry.content.get("params", [])],
            [RunTag(key, value) for key, value in entry.content.get("tags", [])],
        )
        if is_remote(client):
            require_batch(client.get_run(entry.run), entry)
    elif entry.kind == INPUTS:
        tags = [InputTag(key, value) for key, value in entry.content["tags"].items()]
        dataset = Dataset.from_dictionary(entry.content["dataset"])
        client.log_inputs(entry.run, [DatasetInput(dataset, tags)])  # type: ignore[arg-type]
        held = contents(client, entry.run, EMPTY)
        require_shown("dataset", [entry.content["dataset"]["digest"]], held.datasets)
    elif entry.kind == ARTIFACTS:
        client.log_artifacts(entry.run, str(files))
        location = client.get_run(entry.run).info.artifact_uri
        require_files(files, files_at(client, location).list_artifacts)
    elif entry.kind == MODEL:
        _write_model(client, entry, files)
    elif entry.kind == END:
        _write_end(client, entry)
    else:
        raise MlflowException.invalid_parameter_value(f"there is no kind of write '{entry.kind}'")


def halves(entry: Entry) -> tuple[Entry, Entry | None]:
    """A batch as two that are half as large; what cannot be divided, alone."""
    rows = [(part, row) for part in LIMITS for row in entry.content.get(part, [])]
    if entry.kind != BATCH or len(rows) < 2:
        return entry, None
    middle = len(rows) // 2

    def of(some: list[tuple[str, Any]]) -> Entry:
        content = {part: [row for name, row in some if name == part] for part in LIMITS}
        return replace(entry, content=content)

    return of(rows[:middle]), of(rows[middle:])


def merged(entries: Iterable[tuple[Entry, int]]) -> Iterator[tuple[Entry, int]]:
    """The same writes in fewer requests: neighbours of one run are one, up to MLflow's limits.

    The number beside an entry, how much is delivered with it, is that of the last one in it.
    """
    held: tuple[Entry, int] | None = None
    for entry, place in entries:
        if held is not None and _fit(held[0], entry):
            content = {
                part: held[0].content.get(part, []) + entry.content.get(part, []) for part in LIMITS
            }
            # Of a tag or parameter that is set twice in a request, MLflow takes any: the last.
            for part in ("params", "tags"):
                content[part] = [list(pair) for pair in dict(content[part]).items()]
            held = replace(entry, content=content), place
            continue
        if held is not None:
            yield held
        held = entry, place
    if held is not None:
        yield held


def _fit(one: Entry, other: Entry) -> bool:
    return (
        (one.kind, one.run) == (other.kind, other.run)
        and one.kind == BATCH
        and all(
            len(one.content.get(part, [])) + len(other.content.get(part, [])) <= limit
            for part, limit in LIMITS.items()
        )
    )


def _write_end(client: mlflow.MlflowClient, entry: Entry) -> None:
    """End a run; as FINISHED only where the store has all that it must hold."""
    status, must = entry.content["status"], Contents.read(entry.content.get("must", {}))
    if lacking := _lacks(client, entry.run, must):
        status, why = "FAILED", f"the store lacks {listed(lacking)}"
        client.set_tag(entry.run, ENDED, why)
        log.warning("Run %s ends as FAILED: %s.", entry.run, why)
    client.set_terminated(entry.run, status, entry.content["time"])
    run = client.get_run(entry.run)
    require_shown("status", [status], [run.info.status])
    sweep(run.info.artifact_uri)


def _lacks(client: mlflow.MlflowClient, run_id: str, must: Contents) -> list[str]:
    """What a run lacks of what it must hold."""
    held = EMPTY
    for _ in range(answers(client)):
        if not held.lacks(must):
            break
        held |= contents(client, run_id, must)
    return held.lacks(must)


def _write_model(client: mlflow.MlflowClient, entry: Entry, files: Path) -> None:
    run = client.get_run(entry.run)
    made = _logged(client, run, entry.content["key"])
    logged = made[0] if made else _create_model(client, run, entry)
    outputs = run.outputs.model_outputs if run.outputs else []
    if logged.model_id not in {output.model_id for output in outputs}:
        client.log_outputs(entry.run, [LoggedModelOutput(logged.model_id, 0)])
    if logged.status != LoggedModelStatus.READY:
        model = Model.load(str(files / MLMODEL))
        model.run_id, model.model_id, model.model_uuid = entry.run, logged.model_id, logged.model_id
        model.artifact_path = logged.artifact_location
        model.save(str(files / MLMODEL))
        client.log_model_artifacts(logged.model_id, str(files))
        sweep(logged.artifact_location)
        require_files(files, lambda at: client.list_logged_model_artifacts(logged.model_id, at))
        client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
        status = str(client.get_logged_model(logged.model_id).status)
        require_shown("status", [str(LoggedModelStatus.READY)], [status])
    # Of one whose answer was lost, MLflow's client makes another by itself.
    for other in _logged(client, run, entry.content["key"]):
        if other.model_id != logged.model_id:
            client.delete_logged_model(other.model_id)


def sweep(location: str | None) -> None:
    """Remove what a killed process has left of an upload beside the files, which are whole now.

    Only where files are kept in a folder here; nobody else writes to the same run.
    """
    if location is not None and urlsplit(location).scheme in ("", "file"):
        folder = Path(local_file_uri_to_path(location))  # type: ignore[no-untyped-call]
        for each in folder.rglob(f"{UPLOADING}*"):
            each.unlink(missing_ok=True)


def _create_model(client: mlflow.MlflowClient, run: MlflowRun, entry: Entry) -> LoggedModel:
    return client.create_logged_model(
        run.info.experiment_id,
        name=entry.content["name"],
        source_run_id=entry.run,
        tags={KEY: entry.content["key"]},
        params=dict(run.data.params),
    )


def _logged(client: mlflow.MlflowClient, run: MlflowRun, key: str) -> list[LoggedModel]:
    """The models that a first delivery of the same has made: those that are whole, and linked to
    the run, first."""
    found = client.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
    )
    linked = {each.model_id for each in run.outputs.model_outputs} if run.outputs else set()
    mine = [model for model in found if model.tags.get(KEY) == key]
    ready = LoggedModelStatus.READY
    return sorted(mine, key=lambda model: (model.status != ready, model.model_id not in linked))
