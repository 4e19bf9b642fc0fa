"""Best trials at the edge of a space: it is widened once, and said where that is not enough."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.trial import FrozenTrial, create_trial

from pipeline.space import Range
from pipeline.tuning import edges
from pipeline.tuning.plan import Plan
from pipeline.tuning.suggestions import distributions
from tests.tuning.conftest import MakePlan

NETWORK = {
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "embedding_dim": {"low": 4, "high": 64, "log": True},
    "dropout": {"low": 0, "high": 0.5},
    "exposure_users": {"low": 0, "high": 4},
    "loss": ["bpr", "bce"],
}
INSIDE = {
    "learning_rate": 1e-3, "embedding_dim": 16, "dropout": 0.2, "exposure_users": 2, "loss": "bpr"
}  # fmt: skip


def best(plan: Plan, **params: Any) -> FrozenTrial:
    trial = create_trial(value=0.5, params=params, distributions=distributions(plan))
    trial.number = 12
    return trial


def ends(plan: Plan, **params: Any) -> list[tuple[str, str, float]]:
    found = edges.widening(plan, best(plan, **{**INSIDE, **params}))
    assert all(each.trial == 12 for each in found)
    return [(each.field, each.end, pytest.approx(each.now)) for each in found]


def test_inside_nothing_is_widened(make_plan: MakePlan) -> None:
    plan = make_plan("ncf", space=NETWORK)
    assert ends(plan) == []
    assert ends(plan, learning_rate=1.3e-4, dropout=0.46) == []
    assert edges.widening(plan, None) == ()


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"learning_rate": 1.2e-4}, ("learning_rate", "low", 1e-5)),
        ({"learning_rate": 1e-2}, ("learning_rate", "high", 1e-1)),
        ({"embedding_dim": 64}, ("embedding_dim", "high", 256)),
        ({"embedding_dim": 4}, ("embedding_dim", "low", 1)),
        ({"dropout": 0.49}, ("dropout", "high", 0.75)),
        ({"exposure_users": 4}, ("exposure_users", "high", 6)),
    ],
)
def test_an_end_moves_by_half_the_range_on_its_own_scale(
    make_plan: MakePlan, params: dict[str, Any], found: tuple[str, str, float]
) -> None:
    assert ends(make_plan("ncf", space=NETWORK), **params) == [found]


def test_several_ends(make_plan: MakePlan) -> None:
    plan = make_plan("ncf", space=NETWORK)
    found = ends(plan, learning_rate=1e-4, embedding_dim=64)
    assert {(field, end) for field, end, _ in found} == {
        ("learning_rate", "low"),
        ("embedding_dim", "high"),
    }


def test_where_a_study_begins_nothing_lies_beyond(make_plan: MakePlan) -> None:
    first = {"learning_rate": 1e-4, "embedding_dim": 4}
    plan = make_plan("ncf", space=NETWORK, first_trials=[first])
    assert ends(plan, **first) == []
    assert edges.left(plan, best(plan, **{**INSIDE, **first})) == []
    assert ends(plan, learning_rate=1e-2) == [("learning_rate", "high", 1e-1)]
    other = make_plan("ncf", space=NETWORK, first_trials=[{"loss": "bce"}])  # names no end
    assert ends(other, embedding_dim=4) == [("embedding_dim", "low", 1)]


@pytest.mark.parametrize("params", [{"dropout": 0.0}, {"exposure_users": 0}])
def test_where_the_field_ends_so_does_the_space(
    make_plan: MakePlan, params: dict[str, Any]
) -> None:
    plan = make_plan("ncf", space=NETWORK)
    assert ends(plan, **params) == []
    assert edges.left(plan, best(plan, **{**INSIDE, **params})) == []


@pytest.mark.parametrize(
    ("entry", "at", "now"),
    [
        ({"low": 0.5, "high": 0.9}, 0.9, 0.95),  # half the way to 1, which dropout does not take
        ({"low": 0.1, "high": 0.3, "step": 0.1}, 0.3, 0.4),
        ({"low": 0.2, "high": 0.6}, 0.2, 0.0),  # which it takes
    ],
)
def test_a_bound_is_kept_to(
    make_plan: MakePlan, entry: dict[str, float], at: float, now: float
) -> None:
    plan = make_plan("ncf", space={"dropout": entry})
    (found,) = edges.widening(plan, best(plan, dropout=at))
    assert found.now == pytest.approx(now)
    wider = plan.widen([found])
    assert isinstance(wider.space["dropout"], Range)


def test_the_data_limit_a_space_too(make_plan: MakePlan) -> None:
    plan = make_plan("ncf", space=NETWORK)
    limited = plan.model_copy(update={"limits": {"embedding_dim": 100}})
    assert ends(limited, embedding_dim=64) == [("embedding_dim", "high", 100)]
    at_limit = plan.model_copy(update={"limits": {"embedding_dim": 64}})
    assert ends(at_limit, embedding_dim=64) == []


def test_neither_grids_nor_epochs_are_widened_but_said(make_plan: MakePlan) -> None:
    grid = make_plan("ncf", space=NETWORK, sampler="grid")
    assert ends(grid, dropout=0.5) == []
    epochs = make_plan("ncf", space={"epochs": {"low": 2, "high": 9}})
    at_end = best(epochs, epochs=9)
    assert edges.widening(epochs, at_end) == ()
    (told,) = edges.left(epochs, at_end)
    assert told.startswith("epochs=9: the best trial, 12, lies at the upper edge of its space")


def test_it_is_widened_once_and_then_said(make_plan: MakePlan) -> None:
    plan = make_plan("ncf", space=NETWORK, n_trials=40)
    found = edges.widening(plan, best(plan, **{**INSIDE, "learning_rate": 1e-4}))
    wider = plan.widen(found)
    assert edges.widenings(wider) == [
        "learning_rate: the best trial, 12, lay at the lower edge of its space, 0.0001: widened to "
        "1e-05, 10 more trials."
    ]
    still = best(wider, **{**INSIDE, "learning_rate": 1e-5})
    assert edges.widening(wider, still) == ()
    (told,) = edges.left(wider, still)
    assert "lower edge of its space, 1e-05 to 0.01, log, although that was widened once" in told
    assert edges.left(wider, best(wider, **INSIDE)) == []


def test_probes_look_into_what_is_new(make_plan: MakePlan) -> None:
    plan = make_plan("ncf", space=NETWORK)
    at_edge = best(plan, **{**INSIDE, "learning_rate": 1e-4, "embedding_dim": 64})
    wider = plan.widen(edges.widening(plan, at_edge))
    one, two = edges.probes(wider, at_edge)
    assert one["learning_rate"] == pytest.approx(10**-4.5)
    assert (two["learning_rate"], two["embedding_dim"]) == (pytest.approx(1e-5), 256)
    assert one["embedding_dim"] == 128
    assert type(one["embedding_dim"]) is type(two["embedding_dim"]) is int
    assert one["dropout"] == two["dropout"] == 0.2
