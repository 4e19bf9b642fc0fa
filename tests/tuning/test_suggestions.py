"""Every sampler and every pruner runs a study; what is suggested fits the space."""

from __future__ import annotations

import math
import warnings
from itertools import product
from typing import Any

import optuna
import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import Study
from optuna.trial import Trial, TrialState

from pipeline.config import change
from pipeline.tuning.plan import Plan
from pipeline.tuning.suggestions import distributions, make_pruner, make_sampler, suggest
from tests.tuning.conftest import MakePlan

SPACE: dict[str, Any] = {
    "loss": ["bpr", "bce"],
    "layers": ["none", "16,8"],
    "patience": [None, 3],
    "learning_rate": {"low": 1e-6, "high": 1e-2, "log": True},
    "dropout": {"low": 0, "high": 0.5, "step": 0.1},
    "embedding_dim": {"low": 4, "high": 64, "log": True},
    "epochs": {"low": 5, "high": 25, "step": 5},
    "negatives": {"low": 1, "high": 4},
}
SAMPLERS = ["tpe", "gp", "cmaes", "random", "grid"]
STEPS, WINDOWS = 3, 4


def study_of(plan: Plan, **samplers: int) -> Study:
    return optuna.create_study(
        directions=plan.directions,
        sampler=make_sampler(plan, **samplers),
        pruner=make_pruner(plan, STEPS, STEPS * WINDOWS),
    )


def run(plan: Plan, n_trials: int, study: Study | None = None) -> Study:
    """A study towards a learning rate of 1e-4, told in steps."""
    study, space = study or study_of(plan), distributions(plan)

    def objective(trial: Trial) -> float | tuple[float, float]:
        params = suggest(trial, space)
        value = -abs(math.log10(params["learning_rate"]) + 4)
        if len(plan.objectives) == 2:
            return value, params["negatives"]
        for step in range(1, STEPS * WINDOWS + 1):
            trial.report(value + 0.001 * step, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    study.optimize(objective, n_trials=n_trials)
    return study


def test_the_space_in_optunas_terms(make_plan: MakePlan) -> None:
    assert distributions(make_plan("ncf", space=SPACE)) == {
        "loss": CategoricalDistribution(("bpr", "bce")),
        "layers": CategoricalDistribution(("none", "16,8")),
        "patience": CategoricalDistribution((None, 3)),
        "learning_rate": FloatDistribution(1e-6, 1e-2, log=True),
        "dropout": FloatDistribution(0, 0.5, step=0.1),
        "embedding_dim": IntDistribution(4, 64, log=True),
        "epochs": IntDistribution(5, 25, step=5),
        "negatives": IntDistribution(1, 4),
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("sampler", "objective"),
    [(name, "accuracy") for name in SAMPLERS]
    + [(name, "pareto") for name in SAMPLERS if name != "cmaes"],
)
def test_samplers(make_plan: MakePlan, sampler: str, objective: str) -> None:
    """Beyond the first trials at random; every suggestion is one that the model takes."""
    space = {name: SPACE[name] for name in ("loss", "learning_rate", "embedding_dim", "negatives")}
    plan = make_plan("ncf", space=space, sampler=sampler, objective=objective, grid_points=2)
    study = run(plan, 13)
    done = (TrialState.COMPLETE, TrialState.PRUNED)
    assert [trial.state in done for trial in study.trials] == [True] * 13
    for trial in study.trials:
        assert trial.params.keys() == space.keys()
        assert type(trial.params["embedding_dim"]) is type(trial.params["negatives"]) is int
        change(plan.experiment, trial.params, "trial")


@pytest.mark.filterwarnings("error")
def test_a_sampler_that_knows_the_floor(make_plan: MakePlan) -> None:
    """After ten trials, few suggestions lie where the constraint is violated."""
    plan = make_plan("ncf", space={"dropout": {"low": 0, "high": 0.5}}, sampler="tpe")

    def objective(trial: Trial) -> float:
        dropout = float(suggest(trial, distributions(plan))["dropout"])
        trial.set_constraint("coverage_floor", dropout - 0.2)
        return dropout

    study = study_of(plan)
    study.optimize(objective, n_trials=40)
    later = [trial.params["dropout"] <= 0.25 for trial in study.trials[10:]]
    assert sum(later) > 20


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("pruner", ["median", "successive_halving", "hyperband"])
@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_pruners_end_some_trials_after_a_window(
    make_plan: MakePlan, pruner: str, sampler: str
) -> None:
    space = {name: SPACE[name] for name in ("learning_rate", "dropout")}
    plan = make_plan("ncf", space=space, pruner=pruner, sampler=sampler)
    trials = run(plan, 30).trials
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert 0 < len(pruned) < len(trials)
    assert all(max(trial.intermediate_values) >= STEPS for trial in pruned)
    assert any(max(trial.intermediate_values) < STEPS * WINDOWS for trial in pruned)


@pytest.mark.parametrize("fields", [{"pruner": "none"}, {"coverage_floor": 0.1}])
def test_no_pruner(make_plan: MakePlan, fields: dict[str, Any]) -> None:
    plan = make_plan("ncf", space=SPACE, sampler="random", **fields)
    assert {trial.state for trial in run(plan, 20).trials} == {TrialState.COMPLETE}


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "random"])
def test_no_two_workers_or_starts_suggest_the_same(make_plan: MakePlan, sampler: str) -> None:
    space = {name: SPACE[name] for name in ("learning_rate", "embedding_dim")}
    plan = make_plan("ncf", space=space, sampler=sampler)
    other = make_plan("ncf", space=space, sampler=sampler, sampler_seed=1)
    joined = [(plan, 0, 0), (plan, 1, 0), (plan, 0, 1), (plan, 1, 1), (plan, 0, 7), (other, 0, 0)]
    rates = [
        run(made, 2, study_of(made, worker=worker, trials=trials)).trials[number].params
        for made, worker, trials in joined
        for number in range(2)
    ]
    assert len({each["learning_rate"] for each in rates}) == len(rates)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_worker_alone_can_be_repeated(make_plan: MakePlan, sampler: str) -> None:
    space = {name: SPACE[name] for name in ("learning_rate", "embedding_dim")}
    plan = make_plan("ncf", space=space, sampler=sampler)
    one, other = ([trial.params for trial in run(plan, 4).trials] for _ in range(2))
    assert one == other


def test_a_grid_is_covered(make_plan: MakePlan) -> None:
    space = {name: SPACE[name] for name in ("learning_rate", "embedding_dim", "dropout")}
    plan = make_plan("ncf", space=space, sampler="grid", grid_points=2, pruner="none")
    grid = plan.grid()
    assert plan.budget == 2 * 2 * 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as of values beyond the range
        study = run(plan, plan.budget)
    tried = [tuple(trial.params[name] for name in grid) for trial in study.trials]
    assert sorted(tried) == sorted(product(*grid.values()))


def test_workers_share_a_grid(make_plan: MakePlan) -> None:
    space = {name: SPACE[name] for name in ("learning_rate", "loss")}
    plan = make_plan("ncf", space=space, sampler="grid", grid_points=3)
    study = study_of(plan)
    for worker in (0, 1, 0):
        study.sampler = make_sampler(plan, worker, len(study.trials))
        run(plan, 2, study)
    assert len({tuple(trial.params.values()) for trial in study.trials}) == plan.budget == 6
