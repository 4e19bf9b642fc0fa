"""A study with its run: opened or gone on with, searched, and shown as it goes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from optuna.exceptions import OptunaError
from optuna.study import Study
from sqlalchemy.exc import SQLAlchemyError

from pipeline.cluster.nodes import Cluster
from pipeline.cluster.shares import share
from pipeline.config import Experiment
from pipeline.console import show_next
from pipeline.data.prepared import Prepared
from pipeline.data.raw.reading import Reading
from pipeline.data.sizes import Size
from pipeline.data.split_settings import SplitSettings
from pipeline.data.windows import possible_windows
from pipeline.database import absolute, hidden, shown
from pipeline.errors import UserError
from pipeline.evaluation.fitting import experiment_windows
from pipeline.evaluation.prepared import prepare_and_tell, tell_sizes
from pipeline.evaluation.validation import window_name
from pipeline.mishaps import explain
from pipeline.process import lock, same_command
from pipeline.tracking.datasets import dataset_tags, log_dataset, settled
from pipeline.tracking.elsewhere import environment_elsewhere, require_reachable
from pipeline.tracking.links import how_to_see, run_address
from pipeline.tracking.runs import Run, tracking_uri
from pipeline.tracking.track import track
from pipeline.tracking.trials import STUDY, end_left
from pipeline.tuning.dashboard import note_study
from pipeline.tuning.fitting import fit
from pipeline.tuning.launcher import search
from pipeline.tuning.plan import ROLLING_WINDOWS, Plan
from pipeline.tuning.report import StudyReport
from pipeline.tuning.storage import OPTUNA_STORAGE, open_storage
from pipeline.tuning.study import PARENT_RUN, READY, open_study, stored_plan, tally
from pipeline.tuning.trials import DATASET
from pipeline.tuning.workers import (
    DEATHS,
    Workers,
    available_cores,
    threads,
    visible_gpus,
    worker_environments,
)

STUDIES = Path("data") / "studies"

log = logging.getLogger("pipeline")


@dataclass(frozen=True)
class Launch:
    """How studies are run this time; nothing of it changes what a study is."""

    storage: str
    """URL, with its password."""
    name: str | None
    """Of the study; none: FILE-FINGERPRINT."""
    workers: int | None
    workers_per_gpu: int
    cluster: Cluster | None = None
    """Where workers run; none: on this machine."""

    def study_name(self, plan: Plan, fingerprint: str) -> str:
        """What the study is called in the storage."""
        return self.name or f"{plan.name}-{fingerprint[:8]}"


@dataclass(frozen=True)
class Data:
    """A prepared dataset, and how it was asked for."""

    asked: str
    reading: Reading
    split: SplitSettings
    """As it was asked for, too."""
    prepared: Prepared

    @classmethod
    def find(cls, experiment: Experiment, dataset: str, reading: Reading) -> Data:
        """The dataset under the split of ``experiment``: prepared, or as it was prepared."""
        chosen = () if experiment.windows == ROLLING_WINDOWS else experiment.windows
        prepared = prepare_and_tell(dataset, experiment.split, reading, chosen)
        return cls(dataset, reading, experiment.split, prepared)

    def under(self, experiment: Experiment) -> Data:
        """The same dataset under the split of ``experiment``."""
        if experiment.split == self.split:
            return self
        return self.find(experiment, self.asked, self.reading)

    def windowed(self, experiment: Experiment) -> Experiment:
        """The experiment with windows that these data have, where nobody has chosen any.

        Raises:
            UserError: they have none.
        """
        if experiment.windows != ROLLING_WINDOWS:
            return experiment
        return experiment.model_copy(update={"windows": self._windows})

    @cached_property
    def _windows(self) -> tuple[float, ...]:
        made, why = possible_windows(self.prepared.dataset, ROLLING_WINDOWS)
        if why:
            log.warning("%s", why)
        tell_sizes({window_name(quantile): Size.of(made[quantile]) for quantile in made})
        return tuple(made)

    @property
    def fingerprint(self) -> str:
        """Of the prepared dataset."""
        return self.prepared.dataset.fingerprint

    def for_workers(self) -> dict[str, str]:
        """What a study keeps of it."""
        found = {"dataset": self.asked, "fingerprint": self.fingerprint}
        return {**self.reading.model_dump(), **found}


@dataclass(frozen=True)
class OpenedStudy:
    """A study that this process owns, and its run."""

    study: Study
    parent: Run
    report: StudyReport
    workers: Workers

    @property
    def plan(self) -> Plan:
        """As it is now: the space may have been widened."""
        return stored_plan(self.study)

    def search(self) -> None:
        """Run trials until the budget is taken.

        Raises:
            KeyboardInterrupt: Ctrl-C came.
            UserError: trials only fail, or workers only die.
        """
        try:
            search(self.study, self.parent, self.report, self.workers)
        except KeyboardInterrupt:
            done = tally(self.study).done
            text = f"Study {self.study.study_name} is kept, with {done} of {self.plan.budget}"
            log.warning("%s trials done.", text)
            show_next([same_command()])
            raise
        end_left(self.parent)


def fit_to(plan: Plan, data: Data) -> Plan:
    """The plan with a space that the data can hold; says what was cut.

    Raises:
        UserError: there is no window, a floor cannot be reached, or nothing is left to search.
    """
    experiment = data.windowed(plan.experiment)
    plan, dataset = plan.model_copy(update={"experiment": experiment}), data.prepared.dataset
    windows = experiment_windows(experiment, dataset)
    fitted, changes = fit(plan, dataset, windows)
    for sentence in changes:
        log.info("%s", sentence)
    return fitted


@contextmanager
def opened(
    plan: Plan, data: Data, launch: Launch, parent: Run | None = None
) -> Iterator[OpenedStudy]:
    """The study of ``plan`` for the time of a ``with`` block: new, or gone on with.

    Raises:
        UserError: the storage cannot be used, or another study has the name.
    """
    name = launch.study_name(plan, data.fingerprint)
    workers = _workers(name, plan, launch)
    with lock(STUDIES / name / "launcher.lock", f"study {name}"), _explained(name, launch.storage):
        storage = open_storage(launch.storage, plan.settings.heartbeat)
        study = open_study(storage, name, plan, data.for_workers())
        with _run_of(study, data, parent) as run:
            log.info("tune %s: run %s, storage %s", name, run.id, shown(launch.storage))
            report = StudyReport(study, run)
            try:
                yield OpenedStudy(study, run, report, workers)
            finally:
                run.log_json(stored_plan(study).model_dump(mode="json"), "plan.json")
                report.log()
            log.info("See the study: %s", how_to_see(run_address(run)))


@contextmanager
def _explained(name: str, storage: str) -> Iterator[None]:
    """Make what a database raises while the study runs an error for people."""
    try:
        yield
    except (SQLAlchemyError, OptunaError) as error:
        if text := explain(error):  # a file, which need not be that of the study
            raise UserError(text) from None
        why = hidden(str(error.__cause__ or error).splitlines()[0], storage)
        raise UserError(
            f"Study {name} lost its storage {shown(storage)}: {why}. What it has is kept; the same "
            f"command goes on with it."
        ) from None


@contextmanager
def _run_of(study: Study, data: Data, parent: Run | None) -> Iterator[Run]:
    """The study's run: a new one, or the one that it has, gone on with."""
    known, plan = study.user_attrs.get(PARENT_RUN), stored_plan(study)
    experiment, prepared = plan.experiment, data.prepared
    tags = {
        "step": "tune", "model": experiment.model, "experiment": experiment.name,
        STUDY: study.study_name, **dataset_tags(prepared.dataset),
    }  # fmt: skip
    resume = Run(known) if known else None
    with track(f"tune {study.study_name}", tags, parent=parent, resume=resume) as run:
        study.set_user_attr(PARENT_RUN, run.id)
        objectives = " and ".join(plan.objectives)
        note_study(
            study,
            f"[Its run in MLflow's UI]({run_address(run)}). Maximised: {objectives} on validation "
            f"windows of {prepared.dataset.name}, never the test.",
        )
        if not study.user_attrs.get(READY):
            run.log_file(prepared.folder, DATASET)
            log_dataset(run, prepared, "tuning")
            settings = plan.settings.model_dump(mode="json")
            params = {**experiment.flat(), **settings, "dataset": data.asked}
            run.log_params(settled(params, prepared.dataset))
            study.set_user_attr(READY, True)
        yield run


def _command(study_name: str) -> list[str]:
    """What a worker runs; its number comes behind it."""
    worker = ["tune", "--role", "worker", "--study_name", study_name]
    return [
        sys.executable, "-m", "pipeline", *worker, "--number"
    ]  # fmt: skip


def _workers(name: str, plan: Plan, launch: Launch) -> Workers:
    """Those of a study, here or on a cluster.

    Raises:
        UserError: there is no room for so many, or they could not reach the storage.
    """
    wanted = plan.experiment.device
    command, logs = _command(name), STUDIES / name
    if launch.cluster is None:
        each = worker_environments(
            launch.workers, launch.workers_per_gpu, visible_gpus(wanted), available_cores()
        )
        shared = {OPTUNA_STORAGE: launch.storage, "MLFLOW_TRACKING_URI": tracking_uri()}
        return Workers(command, [{**shared, **environment} for environment in each], logs)
    cluster, others = launch.cluster, launch.cluster.others
    require_reachable(launch.storage, others, f"The storage ({OPTUNA_STORAGE})", "PostgreSQL")
    on_gpu = wanted not in (None, "cpu")
    part = share(cluster.nodes, launch.workers, launch.workers_per_gpu, on_gpu=on_gpu)
    log.info("%s.", part.in_words())
    environment = {
        **environment_elsewhere(others),
        **threads(part.cpus),
        OPTUNA_STORAGE: absolute(launch.storage),
    }
    start = partial(cluster.start, part)
    return Workers(command, [environment] * part.count, logs, start, DEATHS * part.count)
