"""Plans fitted to data: what they cannot hold or tell apart is cut before the first trial."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from pipeline.evaluation.validation import Window, rolling_windows
from pipeline.space import Choice, Range
from pipeline.tuning.fitting import fit
from pipeline.tuning.plan import Plan
from tests.tuning.conftest import MakePlan

SMALL = {"windows": [0.6, 0.8], "min_warm_training": 5, "min_held_out": 1}


@pytest.fixture(scope="module")
def windows(dataset: Dataset) -> list[Window]:
    return rolling_windows(dataset, (0.6, 0.8), (10,))


@pytest.fixture
def fitted(dataset: Dataset, windows: list[Window], monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(plan: Plan, *distinct: str) -> tuple[Plan, list[str]]:
        monkeypatch.setattr(Dataset, "distinct_values", lambda self: distinct, raising=False)
        return fit(plan, dataset, windows)

    return run


def smallest(windows: list[Window]) -> tuple[int, int, int]:
    data = [window.dataset for window in windows]
    users, items = min(each.n_users for each in data), min(each.n_items for each in data)
    return users, items, min(len(each.test_users) for each in data)


def test_a_space_that_fits_stays(make_plan: MakePlan, fitted: Any) -> None:
    plan = make_plan("svd", **SMALL, space={"components": {"low": 2, "high": 12}})
    found, told = fitted(plan)
    assert (found.space, told) == (plan.space, [])
    assert found.differences(plan) == []


@pytest.mark.parametrize(
    ("model", "field", "limit"),
    [
        ("svd", "components", lambda users, items, tests: min(users, items)),
        ("als", "factors", lambda users, items, tests: min(users, items)),
        ("ncf", "embedding_dim", lambda users, items, tests: min(users, items)),
        ("item_knn", "neighbours", lambda users, items, tests: items),
        ("user_knn", "neighbours", lambda users, items, tests: users),
        ("slim", "top_weights", lambda users, items, tests: items),
        ("ease", "exposure_users", lambda users, items, tests: tests),
    ],
)
def test_no_more_than_the_smallest_window_holds(
    make_plan: MakePlan,
    fitted: Any,
    windows: list[Window],
    model: str,
    field: str,
    limit: Any,
) -> None:
    most = limit(*smallest(windows))
    plan = make_plan(model, **SMALL, space={field: {"low": 1, "high": 5000}})
    found, (told,) = fitted(plan)
    assert found.space == {field: Range(low=1, high=most)}
    assert found.limits == {field: most}
    assert told == f"{field}: 1 to 5000 is cut to 1 to {most}: these data hold at most {most}."


def test_a_field_with_one_value_left_has_it(make_plan: MakePlan, fitted: Any) -> None:
    space = {"components": {"low": 2000, "high": 5000}, "iterations": [2, 3]}
    found, (told,) = fitted(make_plan("svd", **SMALL, space=space))
    assert found.space.keys() == {"iterations"}
    assert found.experiment.params.model_dump()["components"] == found.limits["components"]
    assert "is cut to" in told


def test_values_that_the_data_cannot_tell_apart(make_plan: MakePlan, fitted: Any) -> None:
    space = {"values": ["binary", "ratings"], "components": [2, 3, 100_000]}
    plan = make_plan("svd", **SMALL, space=space)
    both, _ = fitted(plan, "binary", "ratings", "log")
    assert both.space["values"] == Choice(choices=("binary", "ratings"))
    assert both.space["components"] == Choice(choices=(2, 3))
    one, told = fitted(plan, "binary")
    assert one.space.keys() == {"components"}
    assert one.experiment.params.model_dump()["values"] == "binary"
    assert any("values: binary | ratings is cut to binary: on these data" in each for each in told)


def test_nothing_left_to_search(make_plan: MakePlan, fitted: Any) -> None:
    plan = make_plan("svd", **SMALL, space={"values": ["binary", "ratings"]})
    with pytest.raises(UserError, match=r"there is nothing to search\. values: binary \| ratings"):
        fitted(plan, "binary")


def test_a_floor_that_cannot_be_reached(
    make_plan: MakePlan, fitted: Any, windows: list[Window]
) -> None:
    space = {"components": {"low": 2, "high": 12}}
    short = {**SMALL, "k": [1], "space": space}
    data = [window.dataset for window in windows]
    most = sum(len(each.test_users) / each.n_items for each in data) / 2
    users = sorted(len(each.test_users) for each in data)
    with pytest.raises(UserError) as caught:
        fitted(make_plan("svd", **short, coverage_floor=0.9))
    told = str(caught.value)
    assert f"coverage_floor=0.9 cannot be reached: at most {most:.3f} with {users[0]}" in told
    assert "lists of 1." in told
    assert "give breadth_floor instead" in told
    fitted(make_plan("svd", **short, coverage_floor=most - 1e-6))
    fitted(make_plan("svd", **short, breadth_floor=1))
