"""The launcher's watch: workers are started, replaced, asked to stop; the study is shown."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from optuna.storages import fail_stale_trials
from optuna.study import Study

from pipeline.console import ProgressBar
from pipeline.errors import UserError
from pipeline.tracking.runs import Run
from pipeline.tracking.trials import end_lost
from pipeline.tuning import edges
from pipeline.tuning.plan import Plan
from pipeline.tuning.report import StudyReport
from pipeline.tuning.storage import LOST_AFTER
from pipeline.tuning.study import STOPPED, Tally, next_plan, states, stored_plan, tally
from pipeline.tuning.workers import Workers

WATCH_SECONDS = 1.0

log = logging.getLogger("pipeline")


def search(study: Study, parent: Run, report: StudyReport, workers: Workers) -> None:
    """Let workers run until the budget is taken or something ends the study.

    Raises:
        KeyboardInterrupt: Ctrl-C came; running trials have been finished, or a second one came.
        UserError: trials only fail, or workers only die.
    """
    interruptions = _Interruptions(workers)
    plan = stored_plan(study)
    try:
        now = tally(study)
        if not now.took_all(next_plan(study, now)):
            log.info("What workers say is in %s.", workers.logs)
            workers.start()
            with interruptions.handled():
                _watch(study, plan, parent, report, workers, interruptions)
        _settle(study, plan, patiently=True)
    finally:
        workers.end()
        _settle(study, plan, patiently=False)
        end_lost(parent, lambda: states(study))
    now, plan = tally(study), stored_plan(study)
    if interruptions.seen:
        raise KeyboardInterrupt
    if now.gave_up:
        raise UserError(f"Study {study.study_name} stopped: {now.gave_up}")
    if now.done < plan.budget and now.seconds >= plan.seconds:
        log.warning("No further trial begins: the timeout is over.")
    stopped = study.user_attrs[STOPPED] or plan.settings.sampler == "grid"
    if not now.took_all(plan) and not stopped:
        raise UserError(
            f"Study {study.study_name}: all workers have ended with {now.done} of {plan.budget} "
            f"trials done. What they said is in {workers.logs}. The same command goes on."
        )


def _watch(
    study: Study,
    plan: Plan,
    parent: Run,
    report: StudyReport,
    workers: Workers,
    interruptions: _Interruptions,
) -> None:
    now = tally(study)
    with ProgressBar(study.study_name, plan.budget, "trial") as bar:
        while workers.running or (workers.dead and not interruptions.seen):
            time.sleep(WATCH_SECONDS)
            fail_stale_trials(study)
            workers.dismiss_waiting()
            before, now = now, tally(study)
            if now.lost > before.lost:
                end_lost(parent, lambda: states(study))
            if not interruptions.seen:
                for sentence in workers.replace_dead(progress=now.done > before.done):
                    log.warning("%s", sentence)
            before_it, plan = plan, stored_plan(study)
            if plan.widened and not before_it.widened:
                bar.total = plan.budget
                for sentence in edges.widenings(plan):
                    log.info("%s", sentence)
            bar.done(now.done, now.in_words())
            report.redraw(now)
            _stop_if_due(study, now, interruptions.seen)


def _settle(study: Study, plan: Plan, *, patiently: bool) -> None:
    """Wait until no trial runs anywhere: the dead lose their trials, the living end them.

    Without patience the living are not waited for any longer than it takes to tell them apart.
    """
    until = time.monotonic() + (LOST_AFTER + 1) * plan.settings.heartbeat
    while tally(study).running and (patiently or time.monotonic() < until):
        time.sleep(WATCH_SECONDS)
        fail_stale_trials(study)


def _stop_if_due(study: Study, now: Tally, interruptions: int) -> None:
    """Tell all workers, wherever they are, that no further trial is to begin."""
    reason = now.gave_up or (interruptions and "Ctrl-C")
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
