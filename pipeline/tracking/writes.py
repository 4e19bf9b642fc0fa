"""The kinds of write that a run can get, and how the store takes each: twice is as once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

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

from pipeline.tracking.outbox import Entry

T = TypeVar("T")

BATCH, INPUTS, ARTIFACTS, MODEL, END = "batch", "inputs", "artifacts", "model", "end"
LIMITS = {"metrics": 1000, "params": 100, "tags": 100}
"""What MLflow takes in one request, of each part of a batch."""
KEY = "outbox"  # the tag of a logged model by which a second delivery finds it
MLMODEL = "MLmodel"


def batches(part: str, rows: Sequence[T]) -> Iterator[list[T]]:
    """Rows of one part of a batch, as many at a time as MLflow takes in one request."""
    for start in range(0, len(rows), LIMITS[part]):
        yield list(rows[start : start + LIMITS[part]])


def write(client: mlflow.MlflowClient, entry: Entry, files: Path) -> None:
    """Make the store take ``entry``, whose files are in the folder ``files``.

    Raises:
        MlflowException, OSError: it does not.
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
    elif entry.kind == INPUTS:
        tags = [InputTag(key, value) for key, value in entry.content["tags"].items()]
        dataset = Dataset.from_dictionary(entry.content["dataset"])
        client.log_inputs(entry.run, [DatasetInput(dataset, tags)])  # type: ignore[arg-type]
    elif entry.kind == ARTIFACTS:
        client.log_artifacts(entry.run, str(files))
    elif entry.kind == MODEL:
        _write_model(client, entry, files)
    elif entry.kind == END:
        client.set_terminated(entry.run, entry.content["status"], entry.content["time"])
    else:
        raise MlflowException.invalid_parameter_value(f"there is no kind of write '{entry.kind}'")


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


def _write_model(client: mlflow.MlflowClient, entry: Entry, files: Path) -> None:
    run = client.get_run(entry.run)
    logged = _logged(client, run, entry.content["key"]) or client.create_logged_model(
        run.info.experiment_id,
        name=entry.content["name"],
        source_run_id=entry.run,
        tags={KEY: entry.content["key"]},
        params=dict(run.data.params),
    )
    outputs = run.outputs.model_outputs if run.outputs else []
    if logged.model_id not in {output.model_id for output in outputs}:
        client.log_outputs(entry.run, [LoggedModelOutput(logged.model_id, 0)])
    if logged.status == LoggedModelStatus.READY:
        return
    model = Model.load(str(files / MLMODEL))
    model.run_id, model.model_id, model.model_uuid = entry.run, logged.model_id, logged.model_id
    model.artifact_path = logged.artifact_location
    model.save(str(files / MLMODEL))
    client.log_model_artifacts(logged.model_id, str(files))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)


def _logged(client: mlflow.MlflowClient, run: MlflowRun, key: str) -> LoggedModel | None:
    found = client.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
    )
    return next((model for model in found if model.tags.get(KEY) == key), None)
