"""Trials that are validated for real: what Optuna is told, when one is given up, which is best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from pipeline.evaluation.validation import Validation, Window, rolling_windows
from pipeline.training.checkpoint import EpochMetrics
from pipeline.tuning.objective import configuration, coverage_floor, judge, reachable, window_steps
from pipeline.tuning.plan import Plan
from pipeline.tuning.suggestions import make_pruner
from tests.tuning.conftest import MakePlan

WINDOWS = (0.6, 0.8)
NDCG, COVERAGE = "ndcg_at_10", "coverage_at_10"
SMALL = {"windows": list(WINDOWS), "min_training": 5, "min_warm_training": 5, "min_held_out": 1}
NCF = {**SMALL, "embedding_dim": 2, "layers": "none", "learning_rate": 0.03, "loss": "bpr"}
Told = list[tuple[str, int, EpochMetrics]]
Judge = Callable[..., tuple[FrozenTrial, Validation | None, Told]]


@pytest.fixture(scope="module")
def windows(dataset: Dataset) -> list[Window]:
    return rolling_windows(dataset, WINDOWS, (10,))


def study_of(plan: Plan) -> Study:
    steps = window_steps(plan)
    pruner = make_pruner(plan, steps, steps * len(WINDOWS))
    return optuna.create_study(directions=plan.directions, pruner=pruner)


@pytest.fixture
def run(windows: list[Window]) -> Judge:
    """Runs a trial of a study with these parameters: the trial, its result, and what it told."""

    def run(plan: Plan, study: Study | None = None, **params: Any) -> Any:
        study = study or study_of(plan)
        results: list[Validation] = []
        told: Told = []

        def objective(trial: Trial) -> list[float]:
            experiment = configuration(plan, params, "trial")
            watch = lambda fit, number, record: told.append((fit, number, record))  # noqa: E731
            results.append(judge(trial, plan, experiment, windows, watch))
            return [results[0].mean[name] for name in plan.objectives]

        study.optimize(objective, n_trials=1)
        return study.trials[-1], results[0] if results else None, told

    return run


def reached(told: Told, windows: list[Window]) -> list[list[float]]:
    """NDCG by window and epoch."""
    return [[r[NDCG] for fit, _, r in told if fit == window.name] for window in windows]


def hoped(first: float, windows: list[Window]) -> float:
    """What is told when one of two windows has been begun, with ``first`` there."""
    here, to_come = (window.popularity[NDCG] for window in windows)
    return (first + min(1.0, first / here) * to_come) / 2


def test_a_model_without_epochs_tells_a_value_for_each_window(
    make_plan: MakePlan, run: Judge, windows: list[Window]
) -> None:
    plan = make_plan("svd", **SMALL)
    trial, validation, told = run(plan, components=3)
    (first,), (second,) = reached(told, windows)
    values = {1: hoped(first, windows), 2: (first + second) / 2}
    assert trial.intermediate_values == pytest.approx(values)
    assert trial.state == TrialState.COMPLETE
    assert validation is not None
    assert trial.value == validation.mean[NDCG] == pytest.approx(values[2])
    assert trial.user_attrs == {**validation.mean, "windows": [first, second]}
    assert trial.constraints == {}


def test_a_network_tells_its_best_epoch_so_far(
    make_plan: MakePlan, run: Judge, windows: list[Window]
) -> None:
    trial, validation, told = run(make_plan("ncf", **NCF, epochs=3))
    one, two = reached(told, windows)
    expected = {step: hoped(max(one[:step]), windows) for step in (1, 2, 3)}
    expected |= {3 + step: (max(one) + max(two[:step])) / 2 for step in (1, 2, 3)}
    assert trial.intermediate_values == pytest.approx(expected)
    assert validation is not None
    last = [record[NDCG] for record in validation.windows.values()]
    assert trial.user_attrs == {**validation.mean, "epochs": 3, "windows": last}


def test_patience_leaves_no_window_without_its_last_step(
    make_plan: MakePlan, run: Judge, windows: list[Window]
) -> None:
    plan = make_plan("ncf", **NCF, epochs=40, patience=2)
    trial, validation, told = run(plan)
    one, two = reached(told, windows)
    assert len(one) < 40
    values = trial.intermediate_values
    assert values[40] == pytest.approx(hoped(max(one), windows))
    assert values[41] == pytest.approx((max(one) + two[0]) / 2)
    assert sorted(values) == [*range(1, len(one) + 1), 40, *range(41, 41 + len(two))]
    assert validation is not None
    assert trial.user_attrs["epochs"] == validation.epochs < min(len(one), len(two))


def test_epochs_can_be_searched(make_plan: MakePlan, run: Judge, windows: list[Window]) -> None:
    """All have the steps of the largest number, and patience has no say."""
    plan = make_plan("ncf", **NCF, patience=1, space={"epochs": {"low": 2, "high": 5}})
    trial, validation, told = run(plan, epochs=2)
    one, two = reached(told, windows)
    assert (len(one), len(two)) == (2, 2)
    assert sorted(trial.intermediate_values) == [1, 2, 5, 6, 7]
    assert trial.intermediate_values[5] == pytest.approx(hoped(max(one), windows))
    assert trial.user_attrs["epochs"] == 2
    assert validation is not None
    assert validation.mean[NDCG] == pytest.approx(
        sum(record[NDCG] for _, number, record in told if number == 2) / 2
    )


@pytest.mark.parametrize(
    ("fields", "steps"),
    [
        ({"epochs": 7}, 7),
        ({"space": {"epochs": {"low": 2, "high": 9}}}, 9),
        ({"space": {"epochs": {"low": 2, "high": 9, "step": 5}}}, 9),
        ({"space": {"epochs": [4, 12, 8]}}, 12),
        ({"space": {"epochs": ["4", "12"]}}, 12),
    ],
)
def test_steps_of_a_window(make_plan: MakePlan, fields: dict[str, Any], steps: int) -> None:
    assert window_steps(make_plan("ncf", **fields)) == steps
    assert window_steps(make_plan("svd")) == 1


def test_a_configuration_is_refused_as_a_whole(make_plan: MakePlan) -> None:
    plan = make_plan("ncf", patience=5, space={"epochs": [3], "dropout": [0.1]})
    assert configuration(plan, {"dropout": 0.25}, "trial 3").flat()["patience"] == 5
    changed = configuration(plan, {"epochs": 3, "dropout": 0.25}, "trial 3").flat()
    assert (changed["epochs"], changed["patience"], changed["dropout"]) == (3, None, 0.25)
    with pytest.raises(UserError, match=r"trial 3: layers="):
        configuration(plan, {"layers": "15,8"}, "trial 3")


def earlier_trials(study: Study, values: dict[int, float]) -> None:
    """Eight that were told these values by step, a little more each time."""

    def objective(trial: Trial) -> float:
        for step, value in values.items():
            trial.report(value + 0.001 * trial.number, step)
            trial.should_prune()  # here some pruners take notes
        return 1.0

    study.optimize(objective, n_trials=8)


def test_one_that_is_given_up_looks_no_better_than_it_is(
    make_plan: MakePlan, run: Judge, windows: list[Window]
) -> None:
    """Though its first window is the one in which all have more, popularity too."""
    plan = make_plan("svd", **SMALL)
    study = study_of(plan)
    best, _, _ = run(plan, study, components=3)
    earlier_trials(study, {1: 90.0})
    pruned, _, _ = run(plan, study, components=1)
    assert pruned.state == TrialState.PRUNED
    assert best.value is not None
    assert pruned.value is not None
    assert pruned.value < best.value


@pytest.mark.parametrize("pruner", ["median", "successive_halving"])
@pytest.mark.parametrize(("model", "length"), [("svd", 1), ("ncf", 2)])
def test_a_hopeless_trial_ends_after_its_first_window(
    make_plan: MakePlan, run: Judge, windows: list[Window], pruner: str, model: str, length: int
) -> None:
    more = {**NCF, "epochs": 2} if model == "ncf" else SMALL
    plan = make_plan(model, **more, pruner=pruner)
    study = study_of(plan)
    earlier_trials(study, dict.fromkeys(range(1, length * len(WINDOWS) + 1), 90.0))
    trial, validation, told = run(plan, study)
    assert trial.state == TrialState.PRUNED
    assert validation is None
    assert [fit for fit, _, _ in told] == [windows[0].name] * length
    assert max(trial.intermediate_values) == length
    assert trial.value == trial.intermediate_values[length]


def test_a_hopeless_trial_that_patience_ended_is_judged_like_the_others(
    make_plan: MakePlan, run: Judge, windows: list[Window]
) -> None:
    """That its first window was over is known when the second one has begun."""
    plan = make_plan("ncf", **NCF, epochs=40, patience=2)
    study = study_of(plan)
    earlier_trials(study, {40: 90.0})
    trial, _, told = run(plan, study)
    assert trial.state == TrialState.PRUNED
    assert max(trial.intermediate_values) == 40
    assert [fit for fit, _, _ in told].count(windows[1].name) == 1


def test_a_good_trial_goes_on(make_plan: MakePlan, run: Judge) -> None:
    plan = make_plan("svd", **SMALL)
    study = study_of(plan)
    earlier_trials(study, {1: 0.0, 2: 0.0})
    trial, _, _ = run(plan, study)
    assert trial.state == TrialState.COMPLETE


@pytest.mark.parametrize("pruner", ["median", "successive_halving", "hyperband"])
def test_a_trial_that_is_through_is_not_given_up(
    make_plan: MakePlan, run: Judge, pruner: str
) -> None:
    plan = make_plan("svd", **SMALL, pruner=pruner)
    study = study_of(plan)
    earlier_trials(study, {1: 0.0, 2: 90.0})
    trial, validation, _ = run(plan, study)
    assert trial.state == TrialState.COMPLETE
    assert validation is not None


def test_two_objectives_are_not_told_of_steps(make_plan: MakePlan, run: Judge) -> None:
    trial, validation, told = run(make_plan("svd", **SMALL, objective="pareto"), components=2)
    assert trial.intermediate_values == {}
    assert validation is not None
    assert trial.values == [validation.mean[NDCG], validation.mean[COVERAGE]]
    assert len(told) == len(WINDOWS)


def test_a_floor_for_coverage(make_plan: MakePlan, run: Judge) -> None:
    for floor in (0.001, 0.99):
        plan = make_plan("svd", **SMALL, coverage_floor=floor)
        trial, validation, _ = run(plan, components=2)
        assert validation is not None
        assert trial.constraints == {"coverage_floor": floor - validation.mean[COVERAGE]}
        assert (trial.constraints["coverage_floor"] > 0) == (floor == 0.99)


def test_a_floor_is_a_share_of_what_can_be_reached(
    make_plan: MakePlan, run: Judge, windows: list[Window]
) -> None:
    """Lists of ten for so many users cannot hold more items than that."""
    plan = make_plan("svd", **SMALL, breadth_floor=0.5)
    shares = [
        min(1.0, len(each.dataset.test_users) * 10 / each.dataset.n_items) for each in windows
    ]
    assert reachable(plan, windows) == pytest.approx(sum(shares) / 2)
    assert coverage_floor(plan, windows) == pytest.approx(sum(shares) / 4)
    higher = make_plan("svd", **SMALL, breadth_floor=0.5, coverage_floor=0.99)
    assert coverage_floor(higher, windows) == 0.99
    trial, validation, _ = run(plan, components=2)
    assert validation is not None
    missing = sum(shares) / 4 - validation.mean[COVERAGE]
    assert trial.constraints == pytest.approx({"coverage_floor": missing})
