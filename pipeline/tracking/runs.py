"""One MLflow run per step or model: opened, written to, and always ended in a true state."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
from mlflow.entities import Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from pipeline.errors import UserError

if TYPE_CHECKING:  # a quarter of a second that runs without figures do not spend
    from matplotlib.figure import Figure

STEP_KEY = "step_key"
ENDED = "ended"  # why a run did not finish
RANDOM_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")  # what MLflow calls a run that nobody named


class Run:
    """A run that can be written to, open or ended."""

    def __init__(self, run_id: str) -> None:
        self.id = run_id
        self.client = mlflow.MlflowClient()

    def _get(self) -> MlflowRun:
        try:
            return self.client.get_run(self.id)
        except MlflowException as error:
            raise UserError(f"Run {self.id}: {shown_uri()} says: {error}") from None

    @property
    def tags(self) -> dict[str, str]:
        """All tags."""
        return dict(self._get().data.tags)

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each metric."""
        return dict(self._get().data.metrics)

    @property
    def status(self) -> str:
        """RUNNING, FINISHED, FAILED or KILLED."""
        return str(self._get().info.status)

    @property
    def name(self) -> str:
        """The name in the UI."""
        return str(self._get().info.run_name)

    @property
    def experiment_id(self) -> str:
        """The id of the MLflow experiment that it belongs to."""
        return str(self._get().info.experiment_id)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters, except those that ``mlflow run`` has logged in the user's spelling."""
        known = self._get().data.params
        new = [Param(key, str(value)) for key, value in params.items() if key not in known]
        self.client.log_batch(self.id, params=new)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics of one step in one request."""
        now = int(time.time() * 1000)
        batch = [Metric(key, float(value), now, step) for key, value in metrics.items()]
        self.client.log_batch(self.id, metrics=batch)

    def steps_logged(self, key: str) -> set[int]:
        """The steps at which a metric has been logged."""
        return {metric.step for metric in self.client.get_metric_history(self.id, key)}

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, replacing those of the same name."""
        self.client.log_batch(self.id, tags=[RunTag(key, value) for key, value in tags.items()])

    def describe(self, note: str) -> None:
        """Set the Markdown description that the UI shows first."""
        self.set_tags({"mlflow.note.content": note})

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Log a file, or a folder's files, as artifact."""
        if path.is_dir():
            self.client.log_artifacts(self.id, str(path), folder)
        else:
            self.client.log_artifact(self.id, str(path), folder)

    def log_json(self, content: Any, name: str) -> None:
        """Log plain values as a JSON artifact."""
        self.client.log_dict(self.id, content, name)

    def log_text(self, text: str, name: str) -> None:
        """Log text as an artifact."""
        self.client.log_text(self.id, text, name)

    def log_figure(self, figure: Figure, name: str) -> None:
        """Log a matplotlib figure as an artifact."""
        self.client.log_figure(self.id, figure, name)

    def log_table(self, table: pd.DataFrame, name: str) -> None:
        """Log a small table as the JSON artifact that the UI shows as a table."""
        self.client.log_table(self.id, table, name)

    def log_parquet(self, table: pd.DataFrame, name: str) -> None:
        """Log a table as a Parquet artifact."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            table.to_parquet(path, index=False)
            self.log_file(path, str(Path(name).parent) if "/" in name else None)

    def fetch(self, artifact: str, folder: Path) -> Path:
        """Download an artifact into ``folder``.

        Raises:
            UserError: the run has no such artifact.
        """
        try:
            return Path(self.client.download_artifacts(self.id, artifact, str(folder)))
        except (MlflowException, OSError) as error:
            raise UserError(f"Run {self.id} has no artifact {artifact}: {error}") from None


Outcome = tuple[str, dict[str, str]]
"""The status that a run ends with, and the tags that say why."""


def outcome(error: BaseException | None) -> Outcome:
    """FINISHED without an error, KILLED by an interruption, FAILED by anything else."""
    if error is None:
        return "FINISHED", {}
    interruption = _interruption(error)
    if interruption is not None:
        return "KILLED", {ENDED: f"interrupted ({type(interruption).__name__})"}
    return "FAILED", {ENDED: f"{type(error).__name__}: {error}"[:5000]}


@contextmanager
def track(
    name: str,
    tags: Mapping[str, str],
    *,
    parent: Run | None = None,
    resume: Run | None = None,
    outcome: Callable[[BaseException | None], Outcome] = outcome,
) -> Iterator[Run]:
    """A run for the time of a ``with`` block, ended by its ``outcome``.

    A child is made in its parent's MLflow experiment. Without a parent it is the run that
    ``mlflow run`` has made for this process, where there is one. ``resume`` goes on with that run.

    Raises:
        UserError: the tracking store cannot be used, or the run to resume is unknown.
    """
    try:
        with _not_adopting(parent is not None or resume is not None):
            started = mlflow.start_run(
                run_id=resume.id if resume else None,
                experiment_id=parent.experiment_id if parent else None,
                run_name=None if resume or _adopts(parent) else name,
                nested=True,
                parent_run_id=parent.id if parent else None,
                tags={**tags, **_code_version()},
            )
    except MlflowException as error:
        raise UserError(f"The tracking store {shown_uri()} did not open a run: {error}") from None
    run = Run(started.info.run_id)
    try:
        if RANDOM_NAME.fullmatch(run.name):
            run.set_tags({"mlflow.runName": name})
        if resume is not None and ENDED in run.tags:
            run.client.delete_tag(run.id, ENDED)
        yield run
    except BaseException as error:
        with _undisturbed():
            _end(run, outcome(error))
        raise
    else:
        with _undisturbed():
            _end(run, outcome(None))


def _end(run: Run, outcome: Outcome) -> None:
    status, tags = outcome
    try:
        if tags:
            run.set_tags(tags)
    finally:
        # MLflow forgets the run whatever the store answers, and with it another's MLFLOW_RUN_ID.
        with _not_adopting(True):
            mlflow.end_run(status)


def _interruption(error: BaseException | None) -> KeyboardInterrupt | None:
    """The signal behind an error: a library that is interrupted may raise its own from it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold off Ctrl-C and SIGTERM while a run is ended: it must not stay RUNNING.

    What came meanwhile comes afterwards: a process that goes on after the run must hear of it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    held = {
        each: signal.signal(each, lambda number, _: came.append(number))
        for each in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for each, handler in held.items():
            signal.signal(each, handler)
        for number in came:
            signal.raise_signal(number)


def end_unopened(step: str, status: str) -> None:
    """End the run that ``mlflow run`` made, where ``step`` has opened none or another."""
    run = adopted()
    if run is not None:
        run.set_tags({"step": step, "model": "none"})
        run.client.set_terminated(run.id, status)


def adopted() -> Run | None:
    """The run that ``mlflow run`` made for this process and that nothing has opened yet."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    return Run(run_id) if run_id else None


def find_finished(step_key: str, parent: Run | None = None) -> Run | None:
    """The latest finished run with this key in the parent's MLflow experiment, or the current."""
    try:
        found = mlflow.search_runs(
            experiment_ids=[parent.experiment_id] if parent else None,
            filter_string=f"tags.{STEP_KEY} = '{step_key}' and attributes.status = 'FINISHED'",
            max_results=1,
            output_format="list",
        )
    except MlflowException as error:
        raise UserError(f"The tracking store {shown_uri()} cannot be searched: {error}") from None
    return Run(found[0].info.run_id) if found else None


def tracking_uri() -> str:
    """The store in use, as other processes find it by MLFLOW_TRACKING_URI."""
    return mlflow.get_tracking_uri()


def shown_uri() -> str:
    """The store in use, for people: without its password."""
    return re.sub(r"(://[^/@]*?):[^/]*@", r"\1:***@", tracking_uri())


def ui_command() -> str:
    """The command that opens the UI on the store in use."""
    uri = shown_uri()
    return f"open {uri}" if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"


def _adopts(parent: Run | None) -> bool:
    return parent is None and "MLFLOW_RUN_ID" in os.environ


@contextmanager
def _not_adopting(hide: bool) -> Iterator[None]:
    """Keep ``start_run`` from taking MLFLOW_RUN_ID for a run that is another's."""
    held = os.environ.pop("MLFLOW_RUN_ID", None) if hide else None
    try:
        yield
    finally:
        if held is not None:
            os.environ["MLFLOW_RUN_ID"] = held


def _code_version() -> dict[str, str]:
    """Commit and dirty flag of the repository that this code runs from, where it is one."""
    unknown = {"git_commit": "none", "git_dirty": "unknown"}
    try:
        import git
    except ImportError:  # GitPython does not load where there is no git command
        return unknown
    try:
        repository = git.Repo(Path(__file__).parent, search_parent_directories=True)
        dirty = str(repository.is_dirty(untracked_files=False)).lower()
        return {"git_commit": repository.head.commit.hexsha, "git_dirty": dirty}
    except (git.GitError, ValueError, OSError):  # no repository, or one that git does not trust
        return unknown
