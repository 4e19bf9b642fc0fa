"""Runs, copied with their true times, histories and links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan

from mlflow.entities import (
    DatasetInput,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    RunInfo,
    RunStatus,
    RunTag,
)
from mlflow.utils.mlflow_tags import MLFLOW_USER

from pipeline.ops.migration.artifacts import Files, list_files
from pipeline.ops.migration.stores import Store, at_once
from pipeline.ops.migration.transfer import (
    MIGRATED,
    MIGRATED_FROM,
    OUR_TAGS,
    UNFINISHED,
    Counts,
    Transfer,
    count_files,
    digest,
    to_carry,
)
from pipeline.outbox.writes import ENDED, batches

Point = tuple[str, int, int, float | None]
"""Key, step, milliseconds since 1970, value; None is NaN, so that points can be compared."""
Linked = Mapping[str, Sequence[Metric]]
"""By the id of a source's run, its points that are still to be linked to the copy of a model."""


@dataclass(frozen=True)
class Content:
    """What a run holds; ids of models are the source's, for originals and copies alike."""

    info: RunInfo
    params: dict[str, str]
    tags: dict[str, str]
    points: set[Point]
    datasets: dict[tuple[str, str], DatasetInput]
    """By name and digest."""
    inputs: set[str]
    """Ids of models."""
    outputs: dict[str, int]
    """Steps of models."""
    files: Files

    @property
    def state(self) -> tuple[str, int | None, int | None]:
        """Status, start and end."""
        return str(self.info.status), self.info.start_time, self.info.end_time

    def digest(self) -> str:
        """What changes when any of it does, but for a file that keeps its size."""
        tags = {key: value for key, value in self.tags.items() if key not in OUR_TAGS}
        points = sorted(map(repr, self.points))
        models = [sorted(self.inputs), self.outputs]
        return digest(
            [self.state, self.params, tags, points, sorted(self.datasets), models, self.files]
        )

    def shared(self, copy: Content) -> Counts:
        """How much of it a copy has."""
        return count_files(self.files, copy.files) + Counter(
            {
                "runs": int(self.state == copy.state),
                "params": len(self.params.keys() & copy.params.keys()),
                "tags": len((self.tags.keys() - OUR_TAGS) & copy.tags.keys()),
                "metric points": len(self.points & copy.points),
                "datasets": len(self.datasets.keys() & copy.datasets.keys()),
                "model links": len(self.inputs & copy.inputs)
                + len(self.outputs.keys() & copy.outputs.keys()),
            }
        )


def open_runs(transfer: Transfer, experiments: Mapping[str, str]) -> tuple[list[RunInfo], set[str]]:
    """Make sure that every run has a copy, be it empty; all runs, and the ids of new copies.

    ``experiments`` has the target's ids by the source's. Copies come before their content, so that
    links find them in whatever order they are.
    """
    runs, new = [], set()
    for run in transfer.source.runs(list(experiments)):
        info = run.info
        runs.append(info)
        if info.run_id not in transfer.copies:
            user = {MLFLOW_USER: info.user_id} if info.user_id else {}
            made = transfer.target.client.create_run(
                experiments[info.experiment_id],
                start_time=info.start_time,
                tags={MIGRATED_FROM: info.run_id, **user},
                run_name=info.run_name,
            )
            transfer.add(info.run_id, made.info.run_id)
            new.add(info.run_id)
    return runs, new


def copy_run(transfer: Transfer, info: RunInfo, *, is_new: bool, linked: Linked) -> None:
    """Give the copy of a run what it lacks."""
    what = f"Run {info.run_id} ({info.run_name})"
    files = transfer.files(info.artifact_uri, what)
    original = _read(transfer.source, info.run_id, files or {}, {})
    copy_id = transfer.copies[info.run_id]

    def read_copy() -> Content:
        uri = transfer.target.client.get_run(copy_id).info.artifact_uri
        there = list_files(transfer.target.artifacts(uri))
        return _read(transfer.target, copy_id, there, transfer.originals)

    copy = read_copy()
    transfer.wanted += original.shared(original)
    transfer.before += Counter() if is_new else original.shared(copy)
    with transfer.trying(what):
        if _write(transfer, original, copy, linked.get(info.run_id, []), whole=files is not None):
            copy = read_copy()
    transfer.now += original.shared(copy)


def _read(store: Store, run_id: str, files: Files, originals: Mapping[str, str]) -> Content:
    run = store.client.get_run(run_id)
    histories = at_once(lambda key: store.client.get_metric_history(run_id, key), run.data.metrics)
    points = {
        (each.key, int(each.step), int(each.timestamp), None if isnan(each.value) else each.value)
        for history in histories
        for each in history
    }
    datasets = run.inputs.dataset_inputs if run.inputs else []
    inputs = run.inputs.model_inputs if run.inputs else []
    outputs = run.outputs.model_outputs if run.outputs else []
    return Content(
        info=run.info,
        params=dict(run.data.params),
        tags=dict(run.data.tags),
        points=points,
        datasets={(each.dataset.name, each.dataset.digest): each for each in datasets},
        inputs={originals.get(each.model_id, each.model_id) for each in inputs},
        outputs={originals.get(each.model_id, each.model_id): each.step for each in outputs},
        files=files,
    )


def _write(
    transfer: Transfer, original: Content, copy: Content, linked: Sequence[Metric], *, whole: bool
) -> bool:
    """Whether anything was written; files come late, for they may fail, and the mark last."""
    client, run_id = transfer.target.client, copy.info.run_id
    known, mark = original.digest(), copy.tags.get(MIGRATED)
    tags = transfer.tags(original.tags)
    if mark == known:
        tags = {key: value for key, value in tags.items() if key not in copy.tags}
    paths = to_carry(original.files, copy.files, mark, known)
    if mark == known and not (
        paths or linked or original.shared(original) != original.shared(copy)
    ):
        return False
    client.set_tag(run_id, MIGRATED, UNFINISHED + known)
    params = [Param(key, text) for key, text in original.params.items() if key not in copy.params]
    for some_params in batches("params", params):
        client.log_batch(run_id, params=some_params)
    for some_metrics in batches("metrics", _metrics(original, copy, linked)):
        client.log_batch(run_id, metrics=some_metrics)
    for some_tags in batches("tags", [RunTag(key, text) for key, text in tags.items()]):
        client.log_batch(run_id, tags=some_tags)
    if ENDED in copy.tags and ENDED not in original.tags:  # it was gone on with since
        client.delete_tag(run_id, ENDED)
    _link(transfer, original, copy)
    # The client's own way would print a line per run, and give an end to what has none.
    client._tracking_client.store.update_run_info(
        run_id,
        RunStatus.from_string(original.info.status),
        original.info.end_time,
        original.info.run_name,
    )
    transfer.carry(original.info.artifact_uri, copy.info.artifact_uri, paths)
    if whole:
        client.set_tag(run_id, MIGRATED, known)
    return True


def _metrics(original: Content, copy: Content, linked: Sequence[Metric]) -> list[Metric]:
    """Points that the copy lacks, and those to be linked to models.

    A point that is there already stays one point, however often it is logged.
    """
    missing = [
        Metric(key, nan if value is None else value, timestamp, step)
        for key, step, timestamp, value in sorted(original.points - copy.points, key=repr)
    ]
    # A model's own record has 0 for them.
    not_numbers = {point[:3] for point in original.points if point[3] is None}
    links = [
        Metric(
            each.key,
            nan if (each.key, each.step, each.timestamp) in not_numbers else each.value,
            each.timestamp, each.step, each.model_id, each.dataset_name, each.dataset_digest,
        )
        for each in linked
    ]  # fmt: skip
    return missing + links


def _link(transfer: Transfer, original: Content, copy: Content) -> None:
    """Link the copy to the datasets that it is not linked to, and to the copies of models."""
    client, run_id, copies = transfer.target.client, copy.info.run_id, transfer.copies
    datasets = [original.datasets[key] for key in original.datasets.keys() - copy.datasets.keys()]
    inputs = [LoggedModelInput(copies[m]) for m in original.inputs - copy.inputs if m in copies]
    if datasets or inputs:
        client.log_inputs(run_id, datasets, inputs)
    outputs = [
        LoggedModelOutput(copies[model], step)
        for model, step in original.outputs.items()
        if model in copies and model not in copy.outputs
    ]
    if outputs:
        client.log_outputs(run_id, outputs)
