"""tune: a study. The launcher: it owns the study and the parent run, and starts the workers.

    launcher   opens the study and its run, starts workers, shows how far they are
    workers    take trials from the study until its budget is taken (steps/trials.py)
    launcher   refits the best configuration, evaluates it once, registers it (steps/refit.py)

All that the two sides share is the storage and the tracking server, so that a worker may be on
any host, and either side may be killed and started again.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import fail_stale_trials
from optuna.study import Study
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipeline.console import ProgressBar, console
from pipeline.data.prepared import Prepared
from pipeline.data.ratings import OnBadRows
from pipeline.errors import UserError
from pipeline.process import lock
from pipeline.steps.prepare import dataset_tags, find_prepared
from pipeline.steps.refit import refit
from pipeline.steps.study_report import StudyReport
from pipeline.steps.trials import DATASET
from pipeline.tracking.datasets import log_dataset
from pipeline.tracking.runs import Run, track, tracking_uri, ui_command
from pipeline.tracking.trials import STUDY, end_lost
from pipeline.tuning.plan import Plan
from pipeline.tuning.storage import LOST_AFTER, VARIABLE, open_storage, shown
from pipeline.tuning.study import (
    DATA,
    PARENT_RUN,
    STOPPED,
    Tally,
    open_study,
    states,
    tally,
)
from pipeline.tuning.suggestions import distributions, make_sampler, suggest
from pipeline.tuning.workers import Workers, visible_gpus, worker_environments

STUDIES = Path("data") / "studies"
WATCH_SECONDS = 1.0
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


def tune(plan: Plan, dataset: str, on_bad_rows: OnBadRows, launch: Launch) -> None:
    """Begin a study or go on with it, up to its budget; then refit, evaluate and register.

    Raises:
        UserError: the storage cannot be used, another study has the name, or all trials fail.
    """
    prepared = find_prepared(dataset, plan.experiment.split, on_bad_rows)
    fingerprint = prepared.dataset.fingerprint
    name = launch.name or f"{plan.name}-{fingerprint[:8]}"
    folder = STUDIES / name
    with lock(folder / "launcher.lock", f"study {name}"):
        storage = open_storage(launch.storage, plan.settings.heartbeat)
        data = {"dataset": dataset, "on_bad_rows": on_bad_rows, "fingerprint": fingerprint}
        study = open_study(storage, name, plan, data)
        with _parent_run(study, plan, prepared) as parent:
            log.info("tune %s: run %s, storage %s", name, parent.id, shown(launch.storage))
            workers = Workers(_command(name), _environments(plan, launch), folder)
            report = StudyReport(study, plan, parent)
            try:
                _search(study, plan, parent, workers, report)
            except KeyboardInterrupt:
                report.log()
                told = (
                    f"Study {name} is kept, with {tally(study, plan).done} of {plan.budget} trials"
                )
                log.warning("%s done. The same command goes on with it.", told)
                raise
            report.log()
            report.results = refit(study, plan, prepared, on_bad_rows, dataset, parent)
            report.log()
            log.info("See the study in the UI: %s", ui_command())


def dry_run(plan: Plan) -> None:
    """Show the space, and what the sampler would suggest first; nothing is run or stored."""
    study = optuna.create_study(directions=plan.directions, sampler=make_sampler(plan))
    space = distributions(plan)
    table = Table(
        "field", "space", *(f"{number + 1}" for number in range(SUGGESTIONS)), box=SIMPLE_HEAD,
        title=f"{plan.name}: {plan.budget} trials for {', '.join(plan.objectives)}",
    )  # fmt: skip
    suggested = [suggest(study.ask(), space) for _ in range(SUGGESTIONS)]
    for name, entry in plan.space.items():
        words = [_short(values[name]) for values in suggested]
        table.add_row(name, entry.told(), *words)
    console.print(table)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


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
        if not known:
            study.set_user_attr(PARENT_RUN, run.id)
            run.log_file(prepared.folder, DATASET)
            log_dataset(run, prepared, "tuning")
            settings = plan.settings.model_dump(mode="json")
            dataset = study.user_attrs[DATA]["dataset"]
            run.log_params({**experiment.flat(), **settings, "dataset": dataset})
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
    each = worker_environments(launch.workers, launch.workers_per_gpu, gpus, os.cpu_count() or 1)
    shared = {VARIABLE: launch.storage, "MLFLOW_TRACKING_URI": tracking_uri()}
    return [{**shared, **environment} for environment in each]


def _search(study: Study, plan: Plan, parent: Run, workers: Workers, report: StudyReport) -> None:
    """Let workers run until the budget is taken or something ends the study."""
    now = tally(study, plan)
    if now.done >= plan.budget:
        return
    log.info("What workers say is in %s.", workers.log(0).parent)
    until = time.monotonic() + (plan.settings.timeout or float("inf"))
    interruptions = _Interruptions(workers)
    try:
        workers.start()
        with (
            ProgressBar(f"{study.study_name}", plan.budget, "trial") as bar,
            interruptions.handled(),
        ):
            while workers.running or (workers.dead and not interruptions.seen):
                time.sleep(WATCH_SECONDS)
                fail_stale_trials(study)
                before, now = now, tally(study, plan)
                if now.lost > before.lost:
                    end_lost(parent, lambda: states(study))
                if not interruptions.seen:
                    for told in workers.replace_dead(progress=now.done > before.done):
                        log.warning("%s", told)
                bar.done(now.done, now.told())
                report.redraw(now)
                _stop_if_due(study, now, interruptions.seen, time.monotonic() > until)
        _settle(study, plan)
    finally:
        workers.end()
        end_lost(parent, lambda: states(study))
    if interruptions.seen:
        raise KeyboardInterrupt
    if now.gave_up:
        raise UserError(f"Study {study.study_name} stopped: {now.gave_up}")


def _settle(study: Study, plan: Plan) -> None:
    """Wait until no trial runs, or those that do have shown that they are alive somewhere else."""
    until = time.monotonic() + (LOST_AFTER + 1) * plan.settings.heartbeat
    while tally(study, plan).running and time.monotonic() < until:
        time.sleep(WATCH_SECONDS)
        fail_stale_trials(study)


def _stop_if_due(study: Study, now: Tally, interruptions: int, timed_out: bool) -> None:
    """Tell all workers, wherever they are, that no further trial is to begin."""
    reason = now.gave_up or (timed_out and "the timeout is over") or (interruptions and "Ctrl-C")
    if reason and not study.user_attrs[STOPPED]:
        study.set_user_attr(STOPPED, reason)
        log.warning("No further trial begins: %s.", reason)


class _Interruptions:
    """The first Ctrl-C lets running trials finish, a second one ends them."""

    def __init__(self, workers: Workers) -> None:
        self.workers, self.seen = workers, 0

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Take Ctrl-C for the time of a ``with`` block."""
        before = signal.getsignal(signal.SIGINT)
        if before == signal.SIG_IGN:  # as in the background of a shell
            yield
            return
        signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupt(self, number: int, frame: object) -> None:
        self.seen += 1
        if self.seen == 1:
            log.warning("Running trials are finished; Ctrl-C again ends them at once.")
        self.workers.signal(signal.SIGINT if self.seen == 1 else signal.SIGTERM)
