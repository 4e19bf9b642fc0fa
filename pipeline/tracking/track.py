"""A run for the time of a ``with`` block: opened, and always ended in a true state."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import mlflow
from mlflow.entities import Run as MlflowRun
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from mlflow.tracking.fluent import _get_experiment_id  # MLflow has no public name for it

from pipeline.errors import UserError
from pipeline.outbox.delivery import Delivery, shown_uri
from pipeline.outbox.journal import OutboxError
from pipeline.outbox.known import Known
from pipeline.outbox.writes import ENDED
from pipeline.process import undisturbed
from pipeline.tracking.dead import PROCESS
from pipeline.tracking.runs import NOTE, Run
from pipeline.tracking.store import HURRY_SECONDS, ask, delivering

ADOPTED = "MLFLOW_RUN_ID"  # the run that ``mlflow run`` has made for this process
CODE_VERSION = "PIPELINE_CODE_VERSION"  # where the code is a copy: commit and dirty flag
RUN_NAME, PARENT = "mlflow.runName", "mlflow.parentRunId"  # tags
NOTHING = "This run holds nothing: what the step did is on a run that was there before."
RANDOM_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")  # what MLflow calls a run that nobody named

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
    with delivering() as delivery:
        delivery.outbox.open_run()
        try:
            marked = {**tags, **code_version(), PROCESS: delivery.outbox.name}
            opened = _open(name, marked, parent, resume)
            delivery.known[opened.info.run_id] = _known(opened, resumed=resume is not None)
        except MlflowException as error:
            delivery.outbox.end_run()
            raise UserError(
                f"The tracking store {shown_uri()} did not open a run: {error}"
            ) from None
        run = Run(opened.info.run_id)
        try:
            yield run
        except BaseException as error:
            with undisturbed():
                _end(delivery, run, outcome(error))
            raise
        else:
            with undisturbed():
                _end(delivery, run, outcome(None))


def _open(name: str, tags: dict[str, str], parent: Run | None, resume: Run | None) -> MlflowRun:
    client = mlflow.MlflowClient()
    if parent is None and resume is None and ADOPTED in os.environ:
        run = ask(client.get_run, os.environ[ADOPTED])
        given = None if RANDOM_NAME.fullmatch(str(run.info.run_name)) else run.info.run_name
        opened = _open_again(client, run, tags, given or name)
        del os.environ[ADOPTED]
        return opened
    if resume is not None:
        run = ask(client.get_run, resume.id)
        return _open_again(client, run, tags, None)
    if parent is not None:
        tags = {**tags, PARENT: parent.id}

    def create() -> MlflowRun:
        experiment = parent.experiment_id if parent else _get_experiment_id() or "0"
        return client.create_run(experiment, tags=resolve_tags(tags), run_name=name)

    return ask(create)


def _open_again(
    client: mlflow.MlflowClient, run: MlflowRun, tags: dict[str, str], name: str | None
) -> MlflowRun:
    run_id = run.info.run_id
    # Whose it is, first: who is killed in between leaves no run that is nobody's.
    ask(client.log_batch, run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    ask(client.update_run, run_id, "RUNNING", name)
    if ENDED in run.data.tags:
        ask(client.delete_tag, run_id, ENDED)
    return ask(client.get_run, run_id)


def _known(run: MlflowRun, *, resumed: bool) -> Known:
    client, data = mlflow.MlflowClient(), run.data
    points = {}
    for key in data.metrics if resumed else ():
        history = ask(client.get_metric_history, run.info.run_id, key)
        points[key] = {point.step: point.value for point in history}
    name, experiment = str(run.info.run_name), str(run.info.experiment_id)
    return Known(
        name, experiment, "RUNNING", dict(data.tags), dict(data.params), dict(data.metrics), points
    )


def _end(delivery: Delivery, run: Run, outcome: Outcome) -> None:
    status, tags = outcome
    try:
        if tags:
            run.set_tags(tags)
        run.end(status)
    except OutboxError:
        # The disk is full. What is on its way comes first; then the store may hear of the end.
        if delivery.settle(HURRY_SECONDS):
            with suppress(MlflowException):
                run.client.set_terminated(run.id, status)
    delivery.outbox.end_run()


def _interruption(error: BaseException | None) -> KeyboardInterrupt | None:
    """The signal behind an error: a library that is interrupted may raise its own from it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def explain_adopted(name: str, note: str, of: Run) -> None:
    """Say what the run that ``mlflow run`` made is, where a step works on the run ``of``."""
    run = adopted()
    if run is not None:
        run.set_tags({RUN_NAME: name, PARENT: of.id, NOTE: note})


def end_unopened(step: str, status: str, why: str) -> None:
    """End the run that ``mlflow run`` made, where ``step`` has opened none or another.

    One that nobody has explained gets the step's name, and ``why`` it holds nothing.
    """
    run = adopted()
    if run is not None:
        with delivering():
            name = {RUN_NAME: step} if RANDOM_NAME.fullmatch(run.name) else {}
            note = {} if NOTE in run.tags else {NOTE: why or NOTHING}
            run.set_tags({"step": step, "model": "none", **name, **note})
            run.end(status)


def adopted() -> Run | None:
    """The run that ``mlflow run`` made for this process and that nothing has opened yet."""
    run_id = os.environ.get(ADOPTED)
    return Run(run_id) if run_id else None


def code_version() -> dict[str, str]:
    """Commit and dirty flag of the repository that this code runs from, or is a copy of."""
    unknown = {"git_commit": "none", "git_dirty": "unknown"}
    if copied := os.environ.get(CODE_VERSION):
        return dict(zip(unknown, copied.split(), strict=True))
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
