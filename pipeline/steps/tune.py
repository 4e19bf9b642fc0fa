"""tune: a study. The launcher: it owns the study and the parent run, and starts the workers.

    launcher   opens the study and its run, starts workers, watches them (steps/launcher.py)
    workers    take trials from the study until its budget is taken (steps/trials.py)
    launcher   refits the best configuration, evaluates it once, registers it (steps/refit.py)

All that the two sides share is the storage and the tracking server, so that a worker may be on
any host, and either side may be killed and started again.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.exceptions import OptunaError
from optuna.study import Study
from rich.box import SIMPLE_HEAD
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from pipeline.console import console
from pipeline.data.prepared import Prepared
from pipeline.data.reading import Reading
from pipeline.database import hidden, shown
from pipeline.errors import UserError
from pipeline.process import lock
from pipeline.steps.launcher import search
from pipeline.steps.prepare import dataset_tags, find_prepared
from pipeline.steps.refit import refit
from pipeline.steps.study_report import StudyReport
from pipeline.steps.trials import DATASET
from pipeline.tracking.datasets import log_dataset
from pipeline.tracking.runs import Run, tracking_uri, ui_command
from pipeline.tracking.track import track
from pipeline.tracking.trials import STUDY, end_left
from pipeline.tuning.plan import Plan
from pipeline.tuning.storage import VARIABLE, open_storage
from pipeline.tuning.study import DATA, PARENT_RUN, READY, open_study, tally
from pipeline.tuning.suggestions import distributions, make_sampler, suggest
from pipeline.tuning.workers import Workers, available_cores, visible_gpus, worker_environments

STUDIES = Path("data") / "studies"
SUGGESTIONS = 5  # that a dry run shows

log = logging.getLogger("pipeline")


@dataclass(frozen=True)
class Launch:
    """How a study is run this time; nothing of it changes what the study is."""

    storage: str
    """URL, with its password."""
    name: str | None
    workers: int | None
    workers_per_gpu: int


def tune(plan: Plan, dataset: str, reading: Reading, launch: Launch) -> None:
    """Begin a study or go on with it, up to its budget; then refit, evaluate and register.

    Raises:
        UserError: the storage cannot be used, another study has the name, or all trials fail.
    """
    environments = _environments(plan, launch)
    prepared = find_prepared(dataset, plan.experiment.split, reading, plan.experiment.windows)
    fingerprint = prepared.dataset.fingerprint
    name = launch.name or f"{plan.name}-{fingerprint[:8]}"
    data = {"dataset": dataset, **reading.model_dump(), "fingerprint": fingerprint}
    with lock(STUDIES / name / "launcher.lock", f"study {name}"), _told(name, launch.storage):
        study = open_study(open_storage(launch.storage, plan.settings.heartbeat), name, plan, data)
        with _parent_run(study, plan, prepared) as parent:
            log.info("tune %s: run %s, storage %s", name, parent.id, shown(launch.storage))
            report = StudyReport(study, plan, parent)
            try:
                search(
                    study,
                    plan,
                    parent,
                    report,
                    Workers(_command(name), environments, STUDIES / name),
                )
                end_left(parent)
                report.results = refit(study, plan, prepared, reading, dataset, parent)
            except KeyboardInterrupt:
                done = tally(study).done
                told = f"Study {name} is kept, with {done} of {plan.budget} trials done."
                log.warning("%s The same command goes on with it.", told)
                raise
            finally:
                report.log()
            log.info("See the study in the UI: %s", ui_command())


@contextmanager
def _told(name: str, storage: str) -> Iterator[None]:
    """Make what a database raises while the study runs an error for people."""
    try:
        yield
    except (SQLAlchemyError, OptunaError) as error:
        why = hidden(str(error.__cause__ or error).splitlines()[0], storage)
        raise UserError(
            f"Study {name} lost its storage {shown(storage)}: {why}. What it has is kept; the same "
            f"command goes on with it."
        ) from None


@contextmanager
def _parent_run(study: Study, plan: Plan, prepared: Prepared) -> Iterator[Run]:
    """The study's run: a new one, or the one that it has, gone on with."""
    known = study.user_attrs.get(PARENT_RUN)
    experiment = plan.experiment
    tags = {
        "step": "tune", "model": experiment.model, "experiment": experiment.name,
        STUDY: study.study_name, **dataset_tags(prepared.dataset),
    }  # fmt: skip
    with track(f"tune {study.study_name}", tags, resume=Run(known) if known else None) as run:
        study.set_user_attr(PARENT_RUN, run.id)
        if not study.user_attrs.get(READY):
            run.log_file(prepared.folder, DATASET)
            log_dataset(run, prepared, "tuning")
            settings = plan.settings.model_dump(mode="json")
            dataset = study.user_attrs[DATA]["dataset"]
            run.log_params({**experiment.flat(), **settings, "dataset": dataset})
            study.set_user_attr(READY, True)
        run.log_json(plan.model_dump(mode="json"), "plan.json")
        yield run


def _command(study_name: str) -> list[str]:
    """What a worker runs; its number comes behind it."""
    worker = ["tune", "--role", "worker", "--study_name", study_name]
    return [
        sys.executable, "-m", "pipeline", *worker, "--launcher", str(os.getpid()), "--number"
    ]  # fmt: skip


def _environments(plan: Plan, launch: Launch) -> list[dict[str, str]]:
    gpus = visible_gpus(plan.experiment.params.model_dump().get("device"))
    each = worker_environments(
        launch.workers, launch.workers_per_gpu, gpus, available_cores()
    )  # fmt: skip
    shared = {VARIABLE: launch.storage, "MLFLOW_TRACKING_URI": tracking_uri()}
    return [{**shared, **environment} for environment in each]


def dry_run(plan: Plan) -> None:
    """Show the space, and what the sampler would suggest first; nothing is run or stored."""
    study = optuna.create_study(directions=plan.directions, sampler=make_sampler(plan))
    space = distributions(plan)
    suggested = [suggest(study.ask(), space) for _ in range(min(SUGGESTIONS, plan.budget))]
    table = Table(
        "field", "space", *(f"{number + 1}" for number in range(len(suggested))), box=SIMPLE_HEAD,
        title=f"{plan.name}: {plan.budget} trials for {', '.join(plan.objectives)}",
    )  # fmt: skip
    for name, entry in plan.space.items():
        table.add_row(name, entry.told(), *(_short(values[name]) for values in suggested))
    console.print(table)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
