"""What a plan makes of its settings: grids, objectives, first trials, and which study it is."""

from __future__ import annotations

import json

import pytest
from optuna.study import StudyDirection

from pipeline.models import FAMILIES, family
from pipeline.space import Range
from pipeline.tuning.plan import BUDGET, Plan, StudySettings, Widening
from tests.tuning.conftest import MakePlan

TUNED = [name for name in FAMILIES if family(name).space]


def test_values_of_a_grid(make_plan: MakePlan) -> None:
    plan = make_plan(
        "ncf",
        sampler="grid",
        grid_points=4,
        space={
            "embedding_dim": {"low": 4, "high": 32, "log": True},
            "batch_size": {"low": 1, "high": 3},
            "epochs": {"low": 5, "high": 25, "step": 10},
            "dropout": {"low": 0, "high": 0.3},
            "loss": ["bpr", "bce"],
        },
    )
    grid = plan.grid()
    assert grid["embedding_dim"] == [4, 8, 16, 32]
    assert grid["batch_size"] == [1, 2, 3]
    assert grid["epochs"] == [5, 15, 25]
    assert grid["dropout"] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert grid["loss"] == ["bpr", "bce"]
    assert all(type(value) is int for value in grid["embedding_dim"] + grid["epochs"])
    assert plan.budget == 50


def test_a_grid_may_have_fewer_points_than_the_budget(make_plan: MakePlan) -> None:
    space = {"components": [2, 3], "iterations": [1, 2, 3]}
    assert make_plan(sampler="grid", space=space).budget == 6
    assert make_plan(sampler="grid", space=space, n_trials=4).budget == 4
    assert make_plan(sampler="tpe", space=space).budget == 50


def test_objectives(make_plan: MakePlan) -> None:
    one, two = make_plan(), make_plan(objective="pareto", k=[5])
    assert (one.objectives, len(one.directions)) == (["ndcg_at_10"], 1)
    assert two.objectives == ["ndcg_at_5", "coverage_at_5"]
    assert two.directions == [StudyDirection.MAXIMIZE] * 2


@pytest.mark.parametrize("objective", ["accuracy", "pareto"])
@pytest.mark.parametrize("model", TUNED)
def test_a_plan_is_restored_from_json(make_plan: MakePlan, model: str, objective: str) -> None:
    plan = make_plan(model, objective=objective, timeout=3.5, coverage_floor=0.2)
    assert Plan.restore(json.loads(json.dumps(plan.model_dump(mode="json"))), "study a") == plan


def test_every_setting_but_the_budget_makes_another_study(make_plan: MakePlan) -> None:
    plan = make_plan()
    assert plan.differences(plan) == []
    changed = {
        "objective": "pareto",
        "coverage_floor": 0.1,
        "breadth_floor": 0.1,
        "n_trials": 3,
        "timeout": 9,
        "sampler": "random",
        "grid_points": 3,
        "sampler_seed": 4,
        "pruner": None,
        "n_seeds": 1,
        "heartbeat": 2,
        "model_name": "mine",
        "wide_from": ["ease"],
        "first_trials": [{"components": 3}],
    }
    assert changed.keys() == StudySettings.model_fields.keys()
    for name, value in changed.items():
        assert plan.differences(make_plan(**{name: value})) == [name] * (name not in BUDGET)


def test_other_experiments_and_spaces_make_other_studies(make_plan: MakePlan) -> None:
    plan = make_plan()
    assert plan.differences(make_plan(seed=3, min_held_out=2)) == ["min_held_out", "seed"]
    space = {"components": {"low": 2, "high": 9}, "iterations": [1, 2]}
    other = make_plan(space=space)
    assert other.differences(make_plan(space=space | {"iterations": [1, 3]})) == [
        "space of iterations"
    ]
    assert other.differences(make_plan(space=space, flags={"iterations": 1})) == [
        "iterations",
        "space of iterations",
    ]


def test_first_trials_have_a_value_for_each_field(make_plan: MakePlan) -> None:
    plan = make_plan(
        "ncf",
        space={
            "learning_rate": {"low": 1e-6, "high": 1e-2, "log": True},
            "embedding_dim": {"low": 4, "high": 64},
            "layers": ["none", [16, 8]],
            "loss": ["bpr", "bce"],
        },
        first_trials=[{"layers": [16, 8], "embedding_dim": 8, "dropout": 0.2}, {"loss": "bce"}],
    )
    rest = {"learning_rate": 1e-6, "loss": "bpr"}
    assert plan.first_trials() == [
        {**rest, "layers": "16,8", "embedding_dim": 8},
        {**rest, "layers": "none", "embedding_dim": 4, "loss": "bce"},
    ]


def test_a_widened_space_is_the_same_study_with_more_to_spend(make_plan: MakePlan) -> None:
    plan = make_plan(space={"components": {"low": 2, "high": 8}}, n_trials=10, timeout=8)
    end = Widening(field="components", end="high", was=8, now=11, trial=3)
    wider = plan.widen([end])
    assert wider.space["components"] == Range(low=2, high=11)
    assert (plan.budget, wider.budget) == (10, 15)
    assert (plan.seconds, wider.seconds) == (8, 10)
    assert plan.differences(wider) == wider.differences(plan) == []
    assert Plan.restore(json.loads(json.dumps(wider.model_dump(mode="json"))), "a") == wider
    other = make_plan(space={"components": {"low": 2, "high": 9}}, n_trials=10)
    assert wider.differences(other) == ["space of components"]
