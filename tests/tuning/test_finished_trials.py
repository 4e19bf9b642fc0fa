"""Which of the trials that have ended is best, and what another that tries the same takes over."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from pipeline.errors import UserError
from pipeline.tuning.objective import best_trial, repeat
from tests.tuning.conftest import MakePlan

NDCG, COVERAGE = "ndcg_at_10", "coverage_at_10"


def tried(
    value: float | list[float], coverage: float, floor: float = 0.0, **given: Any
) -> FrozenTrial:
    values = value if isinstance(value, list) else [value]
    return create_trial(
        values=values,
        user_attrs={NDCG: values[0], COVERAGE: coverage},
        constraints={"coverage_floor": floor - coverage} if floor else None,
        params={"x": coverage},
        distributions={"x": FloatDistribution(0, 1)},
        **given,
    )


def test_the_best_trial_is_feasible(make_plan: MakePlan) -> None:
    plan = make_plan(coverage_floor=0.2)
    study = optuna.create_study(directions=plan.directions)
    study.add_trials([tried(0.3, 0.25, 0.2), tried(0.5, 0.1, 0.2), tried(0.4, 0.2, 0.2)])
    study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={1: 3.0}))
    study.add_trial(create_trial(state=TrialState.FAIL))
    best, told = best_trial(study)
    assert (best.number, told) == (study.best_trial.number, "") == (2, "")


def test_where_no_trial_reaches_the_floor_it_is_the_best_without(make_plan: MakePlan) -> None:
    plan = make_plan(coverage_floor=0.2)
    study = optuna.create_study(directions=plan.directions)
    study.add_trials([tried(0.3, 0.05, 0.2), tried(0.5, 0.1234, 0.2)])
    best, told = best_trial(study)
    assert best.number == 1
    assert "No trial reaches the floor for coverage" in told
    assert "the best one without it, 0.0766 below" in told


def test_no_trial_is_complete(make_plan: MakePlan) -> None:
    plan = make_plan()
    study = optuna.create_study(directions=plan.directions)
    study.add_trial(create_trial(state=TrialState.PRUNED, value=0.4))
    with pytest.raises(UserError, match="no trial is complete"):
        best_trial(study)


def test_the_best_of_two_objectives_lies_on_the_front(make_plan: MakePlan) -> None:
    plan = make_plan(objective="pareto")
    study = optuna.create_study(directions=plan.directions)
    study.add_trials([tried([0.4, 0.1], 0.1), tried([0.4, 0.2], 0.2), tried([0.3, 0.9], 0.9)])
    best, _ = best_trial(study)
    assert best.number == 1
    assert best in study.best_trials


def repeated(study: Study, value: float | None = None) -> FrozenTrial:
    """A further trial of a study with one parameter, which takes an earlier one's outcome."""

    def objective(trial: Trial) -> float:
        trial.suggest_float("x", 0, 1)
        earlier = repeat(trial, study)
        return float(earlier.values[0]) if earlier is not None else float("nan")

    study.enqueue_trial({"x": 0.5 if value is None else value})
    study.optimize(objective, n_trials=1)
    return study.trials[-1]


def ended(state: TrialState, value: float | None, x: float = 0.5) -> FrozenTrial:
    trial = create_trial(
        state=state,
        value=value,
        params={"x": x},
        distributions={"x": FloatDistribution(0, 1)},
        intermediate_values={1: 1.5},
        user_attrs={COVERAGE: 0.1},
    )
    trial.set_constraint("coverage_floor", -0.1)
    return trial


def test_a_trial_that_tries_the_same_has_the_same_outcome() -> None:
    study = optuna.create_study()
    study.add_trial(ended(TrialState.COMPLETE, 0.3))
    again = repeated(study)
    assert (again.state, again.value) == (TrialState.COMPLETE, 0.3)
    assert again.user_attrs == {COVERAGE: 0.1}
    assert again.intermediate_values == {1: 1.5}
    assert again.constraints == {"coverage_floor": -0.1}


def test_a_trial_that_tries_what_was_pruned_is_pruned() -> None:
    study = optuna.create_study()
    study.add_trial(ended(TrialState.PRUNED, None))
    again = repeated(study)
    assert again.state == TrialState.PRUNED
    assert again.intermediate_values == {1: 1.5}


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.COMPLETE])
def test_neither_a_failure_nor_another_trial_is_repeated(state: TrialState) -> None:
    study = optuna.create_study()
    study.add_trial(ended(TrialState.FAIL, None))
    study.add_trial(ended(state, 0.3 if state == TrialState.COMPLETE else None, x=0.25))
    assert repeated(study).state == TrialState.FAIL  # it was tried, and gave no number
