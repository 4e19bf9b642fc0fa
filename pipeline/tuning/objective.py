"""How a trial is judged: validation on rolling windows, reported epoch by epoch, given up early.

Optuna is given the mean NDCG over windows that is to be expected, on the scale of the
objective: that of the windows begun, each with its best epoch so far; those to come count as the
popularity list has them, or less by as much as the trial is below that list so far. So a trial that
is given up after a window looks no better than it is. Window w (from 0) has the steps w E + 1 to
(w + 1) E, with E the largest number of epochs of any trial; whatever the patience, every trial has
a value at the last step of each window that it has behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from pipeline.config import Experiment, change
from pipeline.errors import UserError
from pipeline.evaluation.validation import Validation, Window, validate
from pipeline.models.fitting import EpochDone
from pipeline.space import Range
from pipeline.training.checkpoint import EpochMetrics, Journal
from pipeline.tuning.chosen import WINDOWS, find_best
from pipeline.tuning.plan import Plan

EPOCHS = "epochs"


def configuration(plan: Plan, params: dict[str, Any], where: str) -> Experiment:
    """The experiment that a trial tries.

    Where epochs are searched, patience has no say; where they are not and there is no patience, all
    epochs are done, and the best is chosen among them.

    Raises:
        UserError: the model does not take these values together.
    """
    given = plan.experiment.params.model_dump()
    fields = dict(params)
    if EPOCHS in params:
        fields["patience"] = None
    elif "patience" in given and given["patience"] is None:
        fields["patience"] = given[EPOCHS]
    return change(plan.experiment, fields, where)


def judge(
    trial: Trial, plan: Plan, experiment: Experiment, windows: Sequence[Window], watch: EpochDone
) -> Validation:
    """Validate an experiment window by window and tell the trial what came of it.

    Raises:
        optuna.TrialPruned: it is hopeless, as the pruner sees it.
    """
    hopes = _Hopes(trial, plan, windows)

    def after(fit: str, number: int, record: EpochMetrics) -> None:
        watch(fit, number, record)
        hopes.tell(fit, number, record)

    validation = validate(
        experiment.recommender,
        windows,
        metric=experiment.selection_metric,
        journal=Journal(),
        patience=experiment.params.model_dump().get("patience"),
        on_epoch=after,
    )
    for name, value in validation.mean.items():
        trial.set_user_attr(name, value)
    if validation.epochs is not None:
        trial.set_user_attr(EPOCHS, validation.epochs)
    reached = [record[experiment.selection_metric] for record in validation.windows.values()]
    trial.set_user_attr(WINDOWS, reached)
    if plan.has_floor:
        missing = coverage_floor(plan, windows) - validation.mean[plan.coverage_metric]
        trial.set_constraint("coverage_floor", missing)
    return validation


def coverage_floor(plan: Plan, windows: Sequence[Window]) -> float:
    """The mean coverage over the windows that a configuration needs, by either floor."""
    settings = plan.settings
    return max(settings.coverage_floor, settings.breadth_floor * reachable(plan, windows))


def reachable(plan: Plan, windows: Sequence[Window]) -> float:
    """The mean coverage over the windows of lists that share no item: min(1, users k / items)."""
    k = plan.experiment.k[0]
    sizes = ((len(each.dataset.test_users), each.dataset.n_items) for each in windows)
    return fmean(min(1.0, users * k / items) for users, items in sizes)


def repeat(trial: Trial, study: Study) -> FrozenTrial | None:
    """An earlier trial with the same parameters, whose outcome is made this one's, if there is one.

    Everything random has its seed, so that the same configuration gives the same numbers again.

    Raises:
        optuna.TrialPruned: the earlier one was.
    """
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    for earlier in study.get_trials(deepcopy=False, states=states):
        if earlier.params == trial.params:
            break
    else:
        return None
    if len(study.directions) == 1:
        for step, value in earlier.intermediate_values.items():
            trial.report(value, step)
    for name, value in earlier.user_attrs.items():
        trial.set_user_attr(name, value)
    for name, value in earlier.constraints.items():
        trial.set_constraint(name, value)
    if earlier.state == TrialState.PRUNED:
        raise optuna.TrialPruned(f"as trial {earlier.number}")
    return earlier


class _Hopes:
    """The intermediate values of one trial."""

    def __init__(self, trial: Trial, plan: Plan, windows: Sequence[Window]) -> None:
        self.trial, self.metric, self.length = (
            trial, plan.experiment.selection_metric, window_steps(plan)
        )  # fmt: skip
        self.prunes = len(plan.directions) == 1  # Optuna tells no intermediate values of two
        self.popular = {window.name: window.popularity[self.metric] for window in windows}
        self.best: dict[str, float] = {}
        self.last_step = 0

    def tell(self, fit: str, number: int, record: EpochMetrics) -> None:
        """Report an epoch, and give up where that is wise."""
        if not self.prunes:
            return
        if self.best and fit not in self.best:  # the window before may have ended early
            self._report(len(self.best) * self.length)
        reached = record[self.metric]
        self.best[fit] = max(reached, self.best.get(fit, reached))
        self._report((len(self.best) - 1) * self.length + max(number, 1))

    def _report(self, step: int) -> None:
        if step > self.last_step:
            self.trial.report(self._expected(), step)
            self.last_step = step
        is_last = step == self.length * len(self.popular)  # nothing is saved any more
        if not is_last and self.trial.should_prune():
            raise optuna.TrialPruned(f"step {step}")

    def _expected(self) -> float:
        """The mean over all windows, if those to come are no better than popularity there."""
        reached = sum(self.best.values())
        popular = sum(self.popular[name] for name in self.best)
        share = min(1.0, reached / popular) if popular else 1.0  # a list without a hit is no bar
        to_come = sum(self.popular.values()) - popular
        return (reached + share * to_come) / len(self.popular)


def window_steps(plan: Plan) -> int:
    """Steps of a window: the largest number of epochs that a trial may have, 1 without epochs."""
    searched = plan.space.get(EPOCHS)
    if isinstance(searched, Range):
        return int(searched.high)
    if searched is not None:
        return max(int(str(value)) for value in searched.choices)
    return int(plan.experiment.params.model_dump().get(EPOCHS, 1))


def best_trial(study: Study) -> tuple[FrozenTrial, str]:
    """The trial to refit, as ``find_best`` finds it, and a sentence where that took a concession.

    Where no trial reaches a floor, it is the best one without: no study is run for nothing.

    Raises:
        UserError: no trial is complete.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        raise UserError(
            f"Study {study.study_name}: no trial is complete, there is no best one. If its time "
            f"was too short for one, give more: --timeout (seconds) of a study, --minutes_each "
            f"of a suite."
        )
    best = find_best(complete)
    if best is not None:
        return best, ""
    best = max(complete, key=lambda each: each.values)
    return best, (
        f"No trial reaches the floor for coverage; this is the best one without it, "
        f"{max(best.constraints.values()):.4f} below. Lower the floor, widen the space, or go on "
        f"with more trials."
    )
