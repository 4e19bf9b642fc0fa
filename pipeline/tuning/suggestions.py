"""From a plan to Optuna's own parts: distributions, sampler, pruner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import Trial

from pipeline.space import Choice
from pipeline.tuning.plan import Plan

STARTUP_TRIALS = 5  # complete ones before the median prunes
FEW = 10  # trials at random before a sampler that learns begins


def distributions(plan: Plan) -> dict[str, BaseDistribution]:
    """The space in Optuna's terms."""
    found: dict[str, BaseDistribution] = {}
    for name, entry in plan.space.items():
        if isinstance(entry, Choice):
            found[name] = CategoricalDistribution(entry.choices)
        elif plan.is_whole(name):
            step = int(entry.step or 1)
            found[name] = IntDistribution(int(entry.low), int(entry.high), entry.log, step)
        else:
            found[name] = FloatDistribution(entry.low, entry.high, entry.log, entry.step)
    return found


def suggest(trial: Trial, space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """A value for each field."""
    values: dict[str, Any] = {}
    for name, entry in space.items():
        match entry:
            case IntDistribution():
                values[name] = trial.suggest_int(
                    name, entry.low, entry.high, step=entry.step, log=entry.log
                )
            case FloatDistribution():
                values[name] = trial.suggest_float(
                    name, entry.low, entry.high, step=entry.step, log=entry.log
                )
            case CategoricalDistribution():
                values[name] = trial.suggest_categorical(name, entry.choices)
    return values


def make_sampler(plan: Plan, worker: int = 0, trials: int = 0) -> BaseSampler:
    """The sampler of a worker that joins when the study has ``trials`` trials.

    No two workers, and no two starts of one worker, suggest from the same random numbers: they
    would try the same configurations.
    """
    sequence = np.random.SeedSequence([plan.settings.sampler_seed, worker, trials])
    seed = int(sequence.generate_state(1)[0])
    # What models all fields together leaves those to it that are not the same in all trials.
    widened = TPESampler(seed=seed) if plan.widened else None
    match plan.settings.sampler:
        case "tpe":
            return TPESampler(seed=seed, n_startup_trials=FEW)
        case "gp":
            return GPSampler(
                seed=seed, n_startup_trials=FEW, independent_sampler=widened,
                warn_independent_sampling=False,
            )  # fmt: skip
        case "cmaes":
            return CmaEsSampler(
                seed=seed, n_startup_trials=FEW, independent_sampler=widened,
                warn_independent_sampling=False,
            )  # fmt: skip
        case "random":
            return RandomSampler(seed=seed)
        case "grid":
            return GridSampler(plan.grid(), seed=plan.settings.sampler_seed)


def make_pruner(plan: Plan, first: int, last: int) -> BasePruner:
    """The pruner; ``first`` and ``last`` are the steps at which a trial has a window behind it."""
    if plan.has_floor:  # pruners see NDCG alone, and would end what is broad for it
        return NopPruner()
    match plan.settings.pruner:
        case "median":
            return MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=first)
        case "successive_halving":
            return SuccessiveHalvingPruner(min_resource=first, reduction_factor=2)
        case "hyperband":
            return HyperbandPruner(min_resource=first, max_resource=last, reduction_factor=2)
        case None:
            return NopPruner()
