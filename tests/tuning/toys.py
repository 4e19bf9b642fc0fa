"""Trials that take no time, and what several tests ask of a study."""

from __future__ import annotations

import time
from collections.abc import Sequence

from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from pipeline.tuning.plan import Plan
from pipeline.tuning.suggestions import distributions, suggest
from pipeline.tuning.work import RunTrial

SPACE = {"components": [*range(1, 91)], "values": ["ratings", "binary"]}  # no edge to be widened
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
GRID = {"components": [1, 2, 3], "values": ["ratings", "binary"]}


def never() -> bool:
    return False


def count(study: Study, *states: TrialState) -> int:
    return len(study.get_trials(states=states))


def toy(plan: Plan, seconds: float = 0.0) -> RunTrial:
    """A trial worth its components."""
    space = distributions(plan)

    def run(trial: Trial) -> float:
        params = suggest(trial, space)
        time.sleep(seconds)
        return float(params["components"])

    return run


def one_fails(plan: Plan) -> RunTrial:
    """All trials of a grid but one have a value."""

    def run(trial: Trial) -> float:
        params = suggest(trial, distributions(plan))
        time.sleep(0.02)
        if params == {"components": 3, "values": "binary"}:
            raise ValueError("by itself")
        return 1.0

    return run


def configurations(trials: Sequence[FrozenTrial]) -> set[tuple[object, ...]]:
    return {(each.params["components"], each.params["values"]) for each in trials}


class Interrupted(RandomSampler):
    """Is interrupted while it seeks parameters, after some trials."""

    def __init__(self, after: int) -> None:
        super().__init__(seed=0)
        self.after = after

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        if trial.number == self.after:
            raise KeyboardInterrupt
