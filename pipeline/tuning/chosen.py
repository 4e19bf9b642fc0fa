"""Which trial a study chooses: the best one, or the simple one where no difference is seen.

A study of a network beside other models begins with a network that adds nothing to them (the
``first_trials`` of a plan with ``wide_from``), and leaves that only for a gain that is seen in the
windows. The best of many trials
is better than the simple one by luck alone, and better in one window may be worse in the next: on
one data set of coarse times a network gained .017 in the first window, lost in the later ones, and
lost .038 on the test.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from optuna.trial import FrozenTrial, TrialState

SIMPLE = "first_trial"  # of a trial whose network adds nothing
WINDOWS = "windows"  # what a trial reached in each window, in their order
STANDARD_ERRORS = 2.0  # over windows, by which a gain must be above nothing


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether a trial keeps to the floors, if there are any."""
    return all(missing <= 0 for missing in trial.constraints.values())


def find_best(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The complete, feasible trial with the highest NDCG; coverage decides among equals.

    Of those that beat the best simple one by more than two standard errors of the gain over
    windows, where there are such. None where no trial can be chosen.
    """
    complete = [each for each in trials if each.state == TrialState.COMPLETE]
    feasible = list(filter(is_feasible, complete))
    simple_ones = [each for each in feasible if SIMPLE in each.user_attrs]
    if simple_ones:
        simple = max(simple_ones, key=_values)
        feasible = [simple, *(each for each in feasible if gains(each, simple))]
    return max(feasible, key=_values, default=None)


def gains(trial: FrozenTrial, simple: FrozenTrial) -> bool:
    """Whether ``trial`` is better than ``simple`` beyond what differs between windows."""
    ours, theirs = (each.user_attrs.get(WINDOWS, []) for each in (trial, simple))
    each = [one - other for one, other in zip(ours, theirs, strict=False)]
    if len(each) < 2:
        return _values(trial) > _values(simple)
    return bool(fmean(each) > STANDARD_ERRORS * stdev(each) / len(each) ** 0.5)


def _values(trial: FrozenTrial) -> list[float]:
    return list(trial.values)
