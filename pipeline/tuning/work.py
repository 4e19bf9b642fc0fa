"""What a worker does: one trial after the other, until the study's budget is taken.

When it is, and the best trial lies at the edge of the space, that is widened and there is more
(``next_plan``).

The budget is kept to the trial although workers know nothing of each other: a trial begins when
fewer than the budget are complete, pruned or running. Should two workers begin the last one at the
same moment, the one with the higher number ends at once and counts for nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import numpy as np
import optuna
from optuna.samplers import GridSampler
from optuna.storages import fail_stale_trials
from optuna.study import Study
from optuna.trial import Trial, TrialState

from pipeline.errors import UserError
from pipeline.tuning.plan import Plan
from pipeline.tuning.storage import try_again
from pipeline.tuning.study import (
    ERROR,
    STOPPED,
    SURPLUS,
    Tally,
    next_plan,
    stored_plan,
    tally,
)

IDLE_SECONDS = 0.5

RunTrial = Callable[[Trial], float | Sequence[float]]

log = logging.getLogger("pipeline")


class SurplusError(Exception):
    """A trial for which there is no budget."""


def work(study: Study, run_trial: RunTrial, stopping: Callable[[], bool]) -> None:
    """Run trials until the budget is taken, the study is stopped, or ``stopping`` says so.

    A trial that fails, fails alone. While the last trials run elsewhere this waits, because one of
    them may be lost. An interrupted trial is queued, to be run again.
    """
    begun: list[Trial] = []

    def objective(trial: Trial) -> float | Sequence[float]:
        begun.append(trial)
        try:
            _require_budget(study, trial)
            values = run_trial(trial)
            if not np.isfinite(np.array(values, dtype=float)).all():
                raise UserError(f"validation gave {values}: expected numbers")
            return values
        except optuna.TrialPruned:
            raise
        except SurplusError as error:
            trial.set_user_attr(SURPLUS, str(error))
            raise
        except Exception as error:
            expected = isinstance(error, UserError)
            why = str(error) if expected else f"{type(error).__name__}: {error}"
            trial.set_user_attr(ERROR, why[:2000])
            log.warning("trial %d failed: %s", trial.number, why, exc_info=not expected)
            raise

    while not stopping():
        fail_stale_trials(study)
        now = tally(study)
        plan = next_plan(study, now)
        if _is_over(study, plan, now):
            return
        if now.done + now.running >= plan.budget or now.took_all(plan):
            time.sleep(IDLE_SECONDS)
            continue
        begun.clear()
        try:
            study.optimize(objective, n_trials=1, catch=(Exception,))
        except KeyboardInterrupt:
            if begun:
                try_again(study, begun[-1].number)
            raise
        except Exception:  # Optuna raises several kinds when a trial that is over is reported
            if not (begun and _has_ended(study, begun[-1])):
                raise
            log.warning("trial %d counted as lost while it ran here", begun[-1].number)


def _has_ended(study: Study, trial: Trial) -> bool:
    trials = study.get_trials(deepcopy=False)
    return any(each.number == trial.number and each.state.is_finished() for each in trials)


def _is_over(study: Study, plan: Plan, now: Tally) -> bool:
    exhausted = isinstance(study.sampler, GridSampler) and study.sampler.is_exhausted(study)
    nothing_left = exhausted and not now.running and not now.waiting
    taken = now.done >= plan.budget or (now.took_all(plan) and not now.running)
    over = taken or now.gave_up or nothing_left
    return bool(over or study.user_attrs[STOPPED])


def _require_budget(study: Study, trial: Trial) -> None:
    """Of the trials that run, those with lower numbers go first."""
    trials = study.get_trials(deepcopy=False)
    done = sum(each.state in (TrialState.COMPLETE, TrialState.PRUNED) for each in trials)
    first = sum(each.state == TrialState.RUNNING and each.number < trial.number for each in trials)
    if done + first >= stored_plan(study).budget:
        raise SurplusError("another worker began the last trial of the budget")
