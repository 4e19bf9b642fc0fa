"""Runs of the past: made elsewhere, written here with their own times, each at most once."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking.fluent import _get_experiment_id  # MLflow has no public name for it

from pipeline.compare.evaluated import FROM_LEDGER
from pipeline.errors import UserError
from pipeline.outbox.contents import files_at
from pipeline.outbox.delivery import shown_uri
from pipeline.tracking.dead import PROCESS
from pipeline.tracking.runs import Run
from pipeline.tracking.store import ask, delivering

KEY = "ledger_row"
FOLDER = "ledger"  # of the artifact, which is the last thing that a run gets


@dataclass(frozen=True)
class PastRun:
    """What is known of a run; ``key`` names it for good."""

    key: str
    name: str
    time: datetime
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    note: str
    raw_name: str
    raw: bytes


class PastRuns:
    """Those of the current experiment, by key; one that was interrupted is unfinished.

    Raises:
        UserError: the tracking store cannot be used.
    """

    def __init__(self) -> None:
        self.complete: dict[str, Run] = {}
        self.unfinished: dict[str, Run] = {}
        try:
            self.client = mlflow.MlflowClient()
            # Unlike the client's, this search goes through all pages.
            found = ask(
                mlflow.search_runs,
                filter_string=f"tags.source = '{FROM_LEDGER}'",
                output_format="list",
            )
            for run in found:
                ended = run.info.status == "FINISHED"
                files = files_at(self.client, run.info.artifact_uri)
                whole = ended and ask(files.list_artifacts, FOLDER)
                group = self.complete if whole else self.unfinished
                group[run.data.tags[KEY]] = Run(run.info.run_id)
        except MlflowException as error:
            raise UserError(
                f"The tracking store {shown_uri()} did not list its runs: {error}"
            ) from None

    def add(self, past: PastRun) -> Run:
        """Write a run, or the rest of one that was interrupted; it is finished only when whole."""
        with delivering() as delivery:
            delivery.outbox.open_run()
            run = self._write(past, {PROCESS: delivery.outbox.name})
            delivery.outbox.end_run()
        self.unfinished.pop(past.key, None)
        self.complete[past.key] = run
        return run

    def _write(self, past: PastRun, marks: Mapping[str, str]) -> Run:
        moment = int(past.time.timestamp() * 1000)
        run = self.unfinished.get(past.key)
        tags = {"source": FROM_LEDGER, KEY: past.key, **past.tags, **marks}
        if run is None:
            experiment = ask(_get_experiment_id) or "0"
            created = ask(self.client.create_run, experiment, moment, tags=tags, run_name=past.name)
            run = Run(created.info.run_id)
        try:
            run.set_tags(tags)
            run.describe(past.note)
            run.log_params(past.params)
            # The same value at the same time is the same point, however often it is logged.
            run.log_metrics(past.metrics, time=moment)
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / past.raw_name
                file.write_bytes(past.raw)
                run.log_file(file, FOLDER)
        except BaseException as error:
            status = "FAILED" if isinstance(error, Exception) else "KILLED"
            run.end(status)
            raise
        run.end("FINISHED", moment)
        return run
