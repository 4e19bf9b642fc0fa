"""Choices of ``wide``: what other studies found, as text, the best first."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config import Experiment, change
from pipeline.space import Choice
from pipeline.tuning.plan import WIDE
from pipeline.tuning.wide import Found, choices, with_choices
from tests.tuning.conftest import MakePlan


def found(make_plan: MakePlan, model: str, value: float, **fields: Any) -> Found:
    experiment: Experiment = change(make_plan(model).experiment, fields, model)
    return Found(experiment, value)


@pytest.mark.parametrize(
    ("model", "fields", "text"),
    [
        ("item_knn", {}, "item_knn"),
        ("user_knn", {"similarity": "bm25"}, "user_knn similarity=bm25"),
        ("svd", {"values": "binary", "components": 12}, "svd values=binary components=12"),
        ("als", {"alpha": 0.1 + 0.2}, "als alpha=0.30000000000000004"),
        ("ncf", {"layers": [], "patience": 2}, "ncf layers=none patience=2"),
        ("ncf", {"layers": [8, 4], "bias": True}, "ncf layers=8,4 bias=True"),
    ],
)  # fmt: skip
def test_a_family_and_what_differs_from_its_defaults(
    make_plan: MakePlan, model: str, fields: dict[str, Any], text: str
) -> None:
    assert found(make_plan, model, 0.3, **fields).text == text


def test_the_text_gives_the_same_settings_again(make_plan: MakePlan) -> None:
    given = {"alpha": 1 / 3, "factors": 7, "values": "ratings", "regularization": 1e-7}
    one = found(make_plan, "als", 0.3, **given)
    name, *words = one.text.split()
    fields = dict(word.split("=") for word in words)
    assert change(make_plan(name).experiment, fields, name).params == one.experiment.params


def test_the_best_first_and_those_within_noise(make_plan: MakePlan) -> None:
    values = {"svd": 0.29, "ease": 0.300, "item_knn": 0.2911, "als": 0.2950, "user_knn": 0.2915}
    all_of_them = [found(make_plan, model, value) for model, value in values.items()]
    assert choices(all_of_them) == ("ease", "als", "user_knn")
    assert choices(all_of_them[:3]) == ("ease", "item_knn")
    assert choices(all_of_them[:1]) == ("svd",)


def test_they_become_the_choices_of_a_field(make_plan: MakePlan) -> None:
    plan = make_plan(
        "ncf",
        space={"dropout": {"low": 0, "high": 0.5}},
        first_trials=[{"dropout": 0.1}, {"dropout": 0.2}],
    )
    filled = with_choices(plan, ["ease", "svd components=3"])
    assert filled.space[WIDE] == Choice(choices=("ease", "svd components=3"))
    assert filled.first_trials() == [
        {"wide": "ease", "dropout": 0.1},
        {"wide": "ease", "dropout": 0.2},
        {"wide": "svd components=3", "dropout": 0.1},
        {"wide": "svd components=3", "dropout": 0.2},
    ]
