"""One MLflow run: what it knows, and what is written to it, which goes through the outbox."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from io import BytesIO
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import mlflow
import pandas as pd
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from pipeline.disk import system_error
from pipeline.errors import UserError
from pipeline.outbox.contents import Contents, contents, last_points
from pipeline.outbox.delivery import shown_uri
from pipeline.outbox.journal import Entry, cannot_write
from pipeline.outbox.writes import ARTIFACTS, BATCH, END, INPUTS, MODEL, batches
from pipeline.tracking.fetched import fetch
from pipeline.tracking.store import ask, delivering, known

if TYPE_CHECKING:  # a quarter of a second that runs without figures do not spend
    from pipeline.drawing import Drawn

NOTE = "mlflow.note.content"  # the tag with the description
TABLES = "mlflow.loggedArtifacts"  # the tag by which the UI knows which artifacts are tables


class Run:
    """A run that can be written to, open or ended.

    Of a run that this process has opened it knows what it wrote, and need not ask the store.
    """

    def __init__(self, run_id: str) -> None:
        self.id = run_id
        self.client = mlflow.MlflowClient()

    def _get(self) -> MlflowRun:
        try:
            return ask(self.client.get_run, self.id)
        except MlflowException as error:
            raise UserError(f"Run {self.id}: {shown_uri()} says: {error}") from None

    @property
    def tags(self) -> dict[str, str]:
        """All tags."""
        mine = known(self.id)
        return dict(mine.tags if mine else self._get().data.tags)

    @property
    def params(self) -> dict[str, str]:
        """All parameters."""
        mine = known(self.id)
        return dict(mine.params if mine else self._get().data.params)

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each metric."""
        mine = known(self.id)
        return dict(mine.metrics if mine else self._get().data.metrics)

    @property
    def status(self) -> str:
        """RUNNING, FINISHED, FAILED or KILLED."""
        mine = known(self.id)
        return mine.status if mine else str(self._get().info.status)

    @property
    def name(self) -> str:
        """The name in the UI."""
        mine = known(self.id)
        return mine.name if mine else str(self._get().info.run_name)

    @property
    def experiment_id(self) -> str:
        """The id of the MLflow experiment that it belongs to."""
        mine = known(self.id)
        return mine.experiment_id if mine else str(self._get().info.experiment_id)

    def steps_logged(self, key: str) -> set[int]:
        """The steps at which a metric has been logged."""
        mine = known(self.id)
        if mine is not None:
            return set(mine.points.get(key, ()))
        return {metric.step for metric in ask(self.client.get_metric_history, self.id, key)}

    def contents(self, must: Contents) -> Contents:
        """What the store has of it; of files, those in the folders of ``must``."""
        return ask(contents, self.client, self.id, must)

    def require(self, must: Contents) -> None:
        """Say what it must hold to end as FINISHED, besides what this process logs.

        It ends as FAILED where the store lacks that. The run is one that this process has opened.
        """
        mine = known(self.id)
        assert mine is not None
        mine.must |= must

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters, except those that ``mlflow run`` has logged in the user's spelling."""
        have = self.params
        self._add(params=[[key, _text(value)] for key, value in params.items() if key not in have])

    def log_metrics(
        self, metrics: Mapping[str, float], step: int = 0, time: int | None = None
    ) -> None:
        """Log metrics of one step, measured at ``time`` in milliseconds since 1970, or now.

        What was logged with the same value at that step is not logged again.
        """
        if time is None:  # at the same time it would be the same point anyway
            there = self._points()
            metrics = {
                key: value
                for key, value in metrics.items()
                if not _is_same(there.get(key, {}).get(step), value)
            }
            time = _now()
        self._add(metrics=[[key, float(value), time, step] for key, value in metrics.items()])

    def _points(self) -> Mapping[str, Mapping[int, float]]:
        """Values by metric and step: of a run that this process has not opened, the last ones."""
        mine = known(self.id)
        if mine is not None:
            return mine.points
        return {each.key: {each.step: each.value} for each in last_points(self._get())}

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, replacing those of the same name."""
        self._add(tags=[[key, str(value)] for key, value in tags.items()])

    def describe(self, note: str) -> None:
        """Set the Markdown description that the UI shows first."""
        self.set_tags({NOTE: note})

    def end(self, status: str, time: int | None = None) -> None:
        """End it as FINISHED, FAILED or KILLED, at ``time`` in milliseconds since 1970, or now."""
        time = _now() if time is None else time
        with delivering() as delivery:
            mine = known(self.id)
            must = mine.whole().plain() if mine is not None and status == "FINISHED" else {}
            delivery.add(Entry(END, self.id, {"status": status, "time": time, "must": must}))
            if mine is not None:
                mine.status = status

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Log a file, or a folder's files, as artifact."""

        def fill(room: Path) -> None:
            target = room / (folder or "")
            if path.is_dir():
                shutil.copytree(path, target, dirs_exist_ok=True)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)

        self._add_files(ARTIFACTS, fill)

    def log_json(self, content: Any, name: str) -> None:
        """Log plain values as a JSON artifact."""
        self.log_text(json.dumps(content, indent=2, ensure_ascii=False), name)

    def log_text(self, text: str, name: str) -> None:
        """Log text as an artifact."""
        self._add_file(name, lambda path: path.write_text(text, encoding="utf-8"))

    def log_figure(self, drawn: Drawn, name: str) -> None:
        """Log a figure as an artifact, ``name``, and what it shows as a CSV file beside it."""
        self._add_file(name, lambda path: drawn.save(path, "png"))
        self.log_text(drawn.data.to_csv(index=False), str(Path(name).with_suffix(".csv")))

    def log_parquet(self, table: pd.DataFrame, name: str) -> str:
        """Log a table as a Parquet artifact; returns the SHA-256 of the file."""
        content = BytesIO()
        table.to_parquet(content, index=False)
        self._add_file(name, lambda path: path.write_bytes(content.getvalue()))
        return hashlib.sha256(content.getvalue()).hexdigest()

    def log_table(self, table: pd.DataFrame, name: str) -> None:
        """Log a small table as the JSON artifact that the UI shows as a table."""
        self._add_file(name, lambda path: table.to_json(path, orient="split", index=False))
        tables = json.loads(self.tags.get(TABLES, "[]"))
        this = {"path": name, "type": "table"}
        if this not in tables:
            self.set_tags({TABLES: json.dumps([*tables, this])})

    def log_input(self, dataset: Mapping[str, str], context: str) -> None:
        """Log which data it used: the fields of an MLflow dataset, and what it was used for."""
        content = {"dataset": dict(dataset), "tags": {"mlflow.data.context": context}}
        with delivering() as delivery:
            delivery.add(Entry(INPUTS, self.id, content))
            self._require_logged(Contents.named(datasets=[dataset["digest"]]))

    def log_model(self, name: str, save: Callable[[Path], None]) -> None:
        """Log the MLflow model that ``save`` writes into an empty folder."""
        self._add_files(MODEL, save, {"name": name, "key": uuid4().hex})

    def fetch(self, artifact: str, folder: Path) -> Path:
        """Download an artifact into ``folder``.

        Raises:
            UserError: the run has no such artifact.
        """

        def fetch_it() -> Path:
            location = self.client.get_run(self.id).info.artifact_uri
            return fetch(self.client, location, artifact, folder)

        try:
            return ask(fetch_it)
        except (MlflowException, OSError) as error:
            raise UserError(f"Run {self.id} has no artifact {artifact}: {error}") from None

    def _add_file(self, name: str, write: Callable[[Path], object]) -> None:
        def fill(room: Path) -> None:
            path = room / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)

        self._add_files(ARTIFACTS, fill)

    def _add_files(
        self, kind: str, fill: Callable[[Path], None], content: Mapping[str, str] | None = None
    ) -> None:
        """Put files on their way: those that ``fill`` writes into a folder of the outbox."""
        with delivering() as delivery:
            room = delivery.outbox.room()
            try:
                fill(room)
            except Exception as error:  # each library has its own for a disk that is full
                cause = system_error(error)
                if cause is None:
                    raise
                raise cannot_write(room.parent, cause) from None
            names = [str(p.relative_to(room)) for p in room.rglob("*") if p.is_file()]
            delivery.add(Entry(kind, self.id, dict(content or {}), room.name))
            model = (content or {}).get("name")
            logged = Contents.named(models=[model]) if model else Contents.named(files=names)
            self._require_logged(logged)

    def _require_logged(self, logged: Contents) -> None:
        if known(self.id) is not None:
            self.require(logged)

    def _add(self, **parts: list[list[Any]]) -> None:
        """Put one part of a batch on its way, in entries that MLflow takes."""
        ((part, rows),) = parts.items()
        with delivering() as delivery:
            for some in batches(part, rows):
                delivery.add(Entry(BATCH, self.id, {part: some}))
                mine = known(self.id)
                if mine is not None:
                    mine.note(part, some)


def _text(value: Any) -> str:
    """A parameter's value as a flag spells it; by a list of one the UI sorts as by that one."""
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value)) or "none"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _now() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


def _is_same(one: float | None, other: float) -> bool:
    return one == other or (one is not None and isnan(one) and isnan(other))


def tracking_uri() -> str:
    """The store in use, as other processes find it by MLFLOW_TRACKING_URI."""
    return mlflow.get_tracking_uri()
