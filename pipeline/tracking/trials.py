"""A study's trials as child runs of its parent run: opened, and ended truly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import mlflow
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from pipeline.errors import UserError
from pipeline.outbox.delivery import shown_uri
from pipeline.outbox.writes import ENDED
from pipeline.tracking.dead import LOST, TRIAL_STATE
from pipeline.tracking.runs import Run
from pipeline.tracking.store import ask
from pipeline.tracking.track import Outcome, outcome, track

STUDY = "study"
TRIAL = "trial"  # its number in the study

RUNNING = "running"
COMPLETE = "complete"
PRUNED = "pruned"
FAILED = "failed"
INTERRUPTED = "interrupted"

STATUSES = {
    COMPLETE: "FINISHED",
    PRUNED: "FINISHED",
    FAILED: "FAILED",
    INTERRUPTED: "KILLED",
    LOST: "KILLED",
}
"""The status of a trial's run, by the state of the trial; a state that is no end has none."""
ENDS = {"FINISHED": COMPLETE, "FAILED": FAILED, "KILLED": INTERRUPTED}
"""The state of a trial, by the status that its run ends with."""


@contextmanager
def track_trial(
    name: str, tags: Mapping[str, str], parent: Run, number: int, pruned: type[BaseException]
) -> Iterator[Run]:
    """The run of trial ``number`` for the time of a ``with`` block, ended by what happens there.

    An exception of class ``pruned`` ends it as FINISHED: a hopeless trial is no mistake. Every
    exception goes on to the caller.

    Raises:
        UserError: the tracking store cannot be used, or has no such parent.
    """

    def trial_outcome(error: BaseException | None) -> Outcome:
        if isinstance(error, pruned):
            return STATUSES[PRUNED], {TRIAL_STATE: PRUNED}
        status, why = outcome(error)
        return status, {**why, TRIAL_STATE: ENDS[status]}

    tags = {**tags, TRIAL: str(number), TRIAL_STATE: RUNNING}
    with track(name, tags, parent=parent, outcome=trial_outcome) as run:
        yield run


def end_lost(parent: Run, states: Callable[[], Mapping[int, str]]) -> list[str]:
    """Make the runs of trials that are over say so, whatever became of their workers; their ids.

    A run may be RUNNING still, because its process was killed, or be FINISHED though its process
    was killed before the study heard of it. ``states`` tells the state of each trial by its number;
    one that it does not know is lost. It is asked after the search for runs: a trial that has begun
    since must not count as lost. Any number of processes may do this at once, and again.

    Raises:
        UserError: the tracking store cannot be searched.
    """
    found = [run for run in _children(parent) if TRIAL in run.data.tags]
    known = states() if found else {}
    ended = []
    for each in found:
        state = known.get(int(each.data.tags[TRIAL]), LOST)
        logged = each.data.tags.get(TRIAL_STATE)
        true = logged == state or (logged, state) == (INTERRUPTED, LOST)
        if state in STATUSES and (each.info.status == "RUNNING" or not true):
            run = Run(each.info.run_id)
            run.set_tags({TRIAL_STATE: state})
            run.end(STATUSES[state])
            ended.append(run.id)
    return ended


def find_parent(name: str) -> Run | None:
    """The latest run in the current experiment of the suite of studies called ``name``.

    Raises:
        UserError: the tracking store cannot be searched.
    """
    condition = f"tags.step = 'everything' and tags.{STUDY} = '{name}'"
    try:
        found = ask(
            mlflow.search_runs, filter_string=condition, max_results=1, output_format="list"
        )
    except MlflowException as error:
        raise UserError(f"The tracking store {shown_uri()} cannot be searched: {error}") from None
    return Run(found[0].info.run_id) if found else None


def end_left(parent: Run) -> None:
    """End the other children, of a refit, whose process is gone: nobody else runs any.

    Raises:
        UserError: the tracking store cannot be searched.
    """
    for found in _children(parent):
        if TRIAL not in found.data.tags and found.info.status == "RUNNING":
            run = Run(found.info.run_id)
            run.set_tags({ENDED: "its process was killed"})
            run.end("KILLED")


def _children(parent: Run) -> list[MlflowRun]:
    try:
        # Unlike the client's, this search goes through all pages.
        return list(
            ask(
                mlflow.search_runs,
                experiment_ids=[parent.experiment_id],
                filter_string=f"tags.mlflow.parentRunId = '{parent.id}'",
                output_format="list",
            )
        )
    except MlflowException as error:
        raise UserError(
            f"The tracking store {shown_uri()} did not list the children of run {parent.id}: "
            f"{error}"
        ) from None
