"""Runs found again: those of a finished step, and those that can be compared."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import mlflow
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from pipeline.compare.evaluated import FROM_LEDGER, EvaluatedRun
from pipeline.errors import UserError
from pipeline.outbox.contents import EMPTY, Contents, listed
from pipeline.outbox.delivery import shown_uri
from pipeline.tracking.hints import command
from pipeline.tracking.runs import Run
from pipeline.tracking.store import ask, delivering

STEP_KEY = "step_key"
SEARCHES = ("tags.step = 'train'", f"tags.source = '{FROM_LEDGER}'")

log = logging.getLogger("pipeline")


def find_finished(step_key: str, parent: Run | None = None, must: Contents = EMPTY) -> Run | None:
    """The latest finished run with this key in the parent's MLflow experiment, or the current.

    One that lacks something of what it ``must`` hold is none.
    """
    with delivering():  # first of what earlier processes have left: it may be among that
        try:
            found = ask(
                mlflow.search_runs,
                experiment_ids=[parent.experiment_id] if parent else None,
                filter_string=f"tags.{STEP_KEY} = '{step_key}' and attributes.status = 'FINISHED'",
                output_format="list",
            )
            for each in found:
                run = Run(each.info.run_id)
                lacking = run.contents(must).lacks(must)
                if not lacking:
                    return run
                log.warning("Run %s is not reused: it lacks %s.", run.id, listed(lacking))
        except MlflowException as error:
            raise UserError(
                f"The tracking store {shown_uri()} cannot be searched: {error}"
            ) from None
    return None


def find_evaluated(experiment: str | None, fingerprint: str | None) -> list[EvaluatedRun]:
    """Finished runs of train that have test metrics, and rows of the ledger, latest first.

    ``experiment`` is a name or id; without it, runs are those of the current experiment, or, with
    ``fingerprint``, of all experiments. With ``fingerprint``, only runs on that dataset.

    Raises:
        UserError: there is no such experiment.
    """
    ids = None if experiment is None else [_experiment_id(experiment)]
    condition = " and attributes.status = 'FINISHED'"
    if fingerprint:
        condition += f" and tags.dataset_fingerprint = '{fingerprint}'"
    found: list[MlflowRun] = []
    for search in SEARCHES:
        found += ask(
            mlflow.search_runs,
            experiment_ids=ids,
            filter_string=search + condition,
            search_all_experiments=ids is None and fingerprint is not None,
            output_format="list",
        )
    return _latest_first([run for run in map(_evaluated, found) if run is not None])


def get_evaluated(run_ids: Sequence[str]) -> list[EvaluatedRun]:
    """The runs with these ids, latest first.

    Raises:
        UserError: there is no such run, or it has no test metrics.
    """
    client = mlflow.MlflowClient()
    runs = []
    for run_id in dict.fromkeys(run_ids):
        try:
            run = _evaluated(ask(client.get_run, run_id))
        except MlflowException as error:
            raise UserError(f"Run {run_id}: {shown_uri()} says: {error}") from None
        if run is None:
            raise UserError(
                f"Run {run_id} has no test metrics: expected a run of train that is evaluated, as "
                f"by: {command(f'evaluate --run_id {run_id}')}"
            )
        runs.append(run)
    return _latest_first(runs)


def _evaluated(run: MlflowRun) -> EvaluatedRun | None:
    data, info = run.data, run.info
    if not any(key.startswith("test/") for key in data.metrics):
        return None
    run_id, name, started = str(info.run_id), str(info.run_name), int(info.start_time or 0)
    fetch = Run(run_id).fetch
    return EvaluatedRun(run_id, name, started, data.tags, data.params, data.metrics, fetch)


def _latest_first(runs: list[EvaluatedRun]) -> list[EvaluatedRun]:
    return sorted(runs, key=lambda run: run.started, reverse=True)


def _experiment_id(experiment: str) -> str:
    client = mlflow.MlflowClient()
    found = ask(client.get_experiment_by_name, experiment)
    if found is None:
        try:
            found = client.get_experiment(experiment)
        except MlflowException:
            known = ", ".join(each.name for each in client.search_experiments())
            raise UserError(
                f"{shown_uri()} has no experiment with the name or id "
                f"'{experiment}'. It has: {known}."
            ) from None
    return str(found.experiment_id)
