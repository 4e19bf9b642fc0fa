"""Runs whose process was killed: ended as KILLED by whoever comes next.

The sign of life of a process is its outbox, which it holds locked. Its runs carry the outbox's name
as a tag from their first moment, so that none is overlooked.
"""

from __future__ import annotations

import logging

import mlflow
from mlflow.entities import Run as MlflowRun

from pipeline.outbox.shown import require_shown
from pipeline.outbox.writes import ENDED
from pipeline.tracking.hints import command

PROCESS = "process"  # the tag with the name of the outbox of the process that runs it
TRIAL_STATE = "trial_state"
LOST = "lost"  # of a trial: its process has gone without a word
STATUS = "KILLED"
KILLED = "its process was killed"
REPLACED = "the answer to its creation was lost, and another run was made in its place"
TRAINED = ("train", "backtest")  # steps that fit a model

log = logging.getLogger("pipeline")


def end_dead(client: mlflow.MlflowClient, process: str, reason: str = KILLED) -> None:
    """End what a process that is gone has left RUNNING. Any number may do this at once, and again.

    A process that has ended all runs that it knows may do it for itself: where the answer to the
    creation of one was lost, MLflow's client has made another.

    Raises:
        MlflowException, OSError, NotShownError: the store does not take it now.
    """
    condition = f"tags.{PROCESS} = '{process}' and attributes.status = 'RUNNING'"
    # Unlike the client's, this search goes through all pages.
    for run in mlflow.search_runs(
        filter_string=condition, search_all_experiments=True, output_format="list"
    ):
        run_id = str(run.info.run_id)
        why = f"{reason}; {_way_on(client, run)}" if reason == KILLED else reason
        if TRIAL_STATE in run.data.tags:
            client.set_tag(run_id, TRIAL_STATE, LOST)
        client.set_tag(run_id, ENDED, why)
        client.set_terminated(run_id, STATUS)
        require_shown("status", [STATUS], [client.get_run(run_id).info.status])
        log.warning("Run %s (%s) is ended as %s: %s", run_id, run.info.run_name, STATUS, why)


def _way_on(client: mlflow.MlflowClient, run: MlflowRun) -> str:
    """A run of a model can be gone on with once it has its first artifact, its inputs."""
    run_id = str(run.info.run_id)
    if run.data.tags.get("step") in TRAINED and client.list_artifacts(run_id):
        return f"to go on with it: {command(f'train --resume {run_id}')}"
    return "the same command does it again"
