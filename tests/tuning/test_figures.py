"""Figures and table of studies of every size: drawn where there is something to see, legible."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import optuna
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from optuna.study import Study
from optuna.trial import Trial

from pipeline.tuning.figures import study_figures, trial_table
from pipeline.tuning.objective import window_steps
from pipeline.tuning.plan import Plan
from pipeline.tuning.suggestions import distributions, suggest
from tests.tuning.conftest import MakePlan, MakeStudy

pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
]

ONE = {"history.png", "importances.png", "parallel_coordinates.png", "slice.png"}
SPACE = {
    "layers": ["none", "16,8", "64,32,16,8,4,2", "128,64,32,16,8,4"],
    "learning_rate": {"low": 1e-6, "high": 1e-2, "log": True},
    "negatives": {"low": 1, "high": 3},
    "dropout": {"low": 0, "high": 0.5},
    "bias": [False, True],
    "rating_confidence": {"low": 0, "high": 2},
}


def fill(study: Study, plan: Plan, n_trials: int) -> Study:
    """Trials with made-up results, as ``judge`` would tell them."""
    rng = np.random.default_rng(0)
    space, length = distributions(plan), window_steps(plan)

    def objective(trial: Trial) -> float | tuple[float, float]:
        suggest(trial, space)
        ndcg, coverage = float(rng.uniform(0.2, 0.4)), float(rng.uniform(0.0, 0.2))
        for step in range(1, 4 * length + 1) if len(plan.objectives) == 1 else ():
            trial.report(ndcg * 5 + 0.1 * rng.random(), step)
        if trial.number % 7 == 3 and len(plan.objectives) == 1:
            raise optuna.TrialPruned
        if trial.number % 11 == 5:
            raise ValueError("by itself")
        trial.set_user_attr("ndcg_at_10", ndcg)
        trial.set_user_attr("coverage_at_10", coverage)
        trial.set_user_attr("epochs", trial.number + 1)
        if plan.settings.coverage_floor:
            trial.set_constraint("coverage_floor", plan.settings.coverage_floor - coverage)
        return ndcg if len(plan.objectives) == 1 else (ndcg, coverage)

    study.sampler = optuna.samplers.RandomSampler(seed=0)
    study.optimize(objective, n_trials=n_trials, catch=(ValueError,))
    return study


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """pyplot, its backend and its style are the user's."""
    before = dict(matplotlib.rcParams)
    yield
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def labels(figure: Figure) -> list[str]:
    told = [each.get_xlabel() + each.get_ylabel() + each.get_title() for each in figure.axes]
    return [*told, figure.get_suptitle()]


@pytest.fixture(scope="module")
def figures(make_plan: MakePlan, make_study: MakeStudy) -> dict[str, Figure]:
    """Of a study as large as they are by default."""
    plan = make_plan("ncf", space=SPACE, epochs=3, coverage_floor=0.1)
    return study_figures(fill(make_study(plan), plan, 50), plan)


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        ({}, {"intermediate_values.png"}),
        ({"coverage_floor": 0.1}, {"intermediate_values.png"}),
        ({"coverage_floor": 0.9}, {"intermediate_values.png"}),
        ({"objective": "pareto"}, {"pareto_front.png"}),
        ({"objective": "pareto", "coverage_floor": 0.1}, {"pareto_front.png"}),
    ],
)
def test_all_there_is_to_see(
    make_plan: MakePlan,
    make_study: MakeStudy,
    fields: dict[str, object],
    more: set[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    space = {name: SPACE[name] for name in ("layers", "learning_rate")}
    plan = make_plan("ncf", space=space, epochs=3, **fields)
    study = fill(make_study(plan), plan, 6)
    with caplog.at_level(logging.WARNING):
        figures = study_figures(study, plan)
    assert figures.keys() == ONE | more
    assert caplog.records == []


@pytest.mark.parametrize("name", sorted(ONE | {"intermediate_values.png"}))
def test_figures_can_be_saved_with_all_that_is_in_them(
    figures: dict[str, Figure], name: str
) -> None:
    figure = figures[name]
    buffer = io.BytesIO()
    figure.savefig(buffer)
    buffer.seek(0)
    assert imread(buffer)[..., :3].std() > 0.01


def test_axes_tell_the_metric(make_plan: MakePlan, make_study: MakeStudy) -> None:
    space = {name: SPACE[name] for name in ("negatives", "learning_rate")}
    plan = make_plan("ncf", space=space, objective="pareto", k=[5])
    study = make_study(plan)
    for number in range(3):
        params = {name: values[number % 2] for name, values in plan.grid().items()}
        study.add_trial(
            optuna.create_trial(
                params=params, distributions=distributions(plan), values=[0.3 - number / 9, number]
            )
        )
    figures = study_figures(study, plan)
    assert all(any("ndcg_at_5" in told for told in labels(each)) for each in figures.values())
    told, _ = labels(figures["pareto_front.png"])
    assert told.startswith("ndcg_at_5coverage_at_5")


@pytest.mark.parametrize("n_trials", [0, 1])
@pytest.mark.parametrize("objective", ["accuracy", "pareto"])
def test_too_few_trials(
    make_plan: MakePlan, make_study: MakeStudy, n_trials: int, objective: str
) -> None:
    plan = make_plan(objective=objective)
    figures = study_figures(fill(make_study(plan), plan, n_trials), plan)
    told = {"intermediate_values.png"} if n_trials and objective == "accuracy" else set()
    assert figures.keys() == told


def test_one_parameter(make_plan: MakePlan, make_study: MakeStudy) -> None:
    plan = make_plan(space={"components": {"low": 1, "high": 90}})
    figures = study_figures(fill(make_study(plan), plan, 4), plan)
    assert figures.keys() == {"history.png", "slice.png", "intermediate_values.png"}


def test_one_value(make_plan: MakePlan, make_study: MakeStudy) -> None:
    """Of the objective, or of every parameter."""
    plan = make_plan(space={"components": {"low": 1, "high": 90}, "iterations": [1, 2]})
    for values, components in (([0.3] * 3, [1, 2, 3]), ([0.1, 0.2, 0.3], [4] * 3)):
        study = make_study(plan)
        for value, component in zip(values, components, strict=True):
            study.add_trial(
                optuna.create_trial(
                    params={"components": component, "iterations": 1},
                    distributions=distributions(plan),
                    value=value,
                )
            )
        assert study_figures(study, plan).keys() == {"history.png"}


def test_figures_of_the_user_stay_open(make_plan: MakePlan, make_study: MakeStudy) -> None:
    mine = plt.figure()
    plan = make_plan()
    study_figures(fill(make_study(plan), plan, 3), plan)
    assert plt.get_fignums() == [mine.number]
    plt.close(mine)


def table(study: Study, plan: Plan, n: int = 10) -> list[dict[str, str]]:
    lines = trial_table(study, plan, n).splitlines()
    head, rule, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert set(rule) == {"---"}
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_the_table_has_the_best_first(make_plan: MakePlan, make_study: MakeStudy) -> None:
    plan = make_plan("ncf", space=SPACE)
    study = fill(make_study(plan), plan, 30)
    rows = table(study, plan, n=4)
    assert list(rows[0]) == ["trial", "ndcg_at_10", "coverage_at_10", "epochs", *sorted(SPACE)]
    assert len(rows) == 4
    values = [float(row["ndcg_at_10"]) for row in rows]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(study.best_value, abs=5e-5)
    best = study.best_trial
    assert rows[0]["trial"] == str(best.number)
    assert rows[0]["epochs"] == str(best.number + 1)
    assert rows[0]["layers"] == best.params["layers"]
    assert rows[0]["learning_rate"] == f"{best.params['learning_rate']:.4g}"
    assert rows[0]["negatives"] == str(best.params["negatives"])


def test_the_table_has_feasible_trials_first(make_plan: MakePlan, make_study: MakeStudy) -> None:
    plan = make_plan("ncf", space=SPACE, coverage_floor=0.1)
    rows = table(fill(make_study(plan), plan, 30), plan, n=30)
    floors = [row["floor"] for row in rows]
    assert floors == sorted(floors, key=["reached", "missed"].index)
    assert set(floors) == {"reached", "missed"}
    assert all((float(row["coverage_at_10"]) >= 0.1) == (row["floor"] == "reached") for row in rows)


def test_the_table_has_both_objectives_once(make_plan: MakePlan, make_study: MakeStudy) -> None:
    plan = make_plan("ncf", space=SPACE, objective="pareto")
    rows = table(fill(make_study(plan), plan, 9), plan)
    assert list(rows[0])[:4] == ["trial", "ndcg_at_10", "coverage_at_10", "epochs"]
    assert list(rows[0]).count("coverage_at_10") == 1


def test_the_table_leaves_out_what_does_not_vary(
    make_plan: MakePlan, make_study: MakeStudy
) -> None:
    plan = make_plan(space={"components": {"low": 1, "high": 90}, "iterations": [7]})
    assert "iterations" not in trial_table(fill(make_study(plan), plan, 3), plan)


def test_four_digits(make_plan: MakePlan, make_study: MakeStudy) -> None:
    plan = make_plan("ncf", space={"learning_rate": {"low": 1e-6, "high": 1e-2, "log": True}})
    study = make_study(plan)
    for value, rate in ((0.3, 0.00012345678), (0.123456, 1e-5)):
        study.add_trial(
            optuna.create_trial(
                params={"learning_rate": rate}, distributions=distributions(plan), value=value
            )
        )
    assert trial_table(study, plan).splitlines()[2:] == [
        "| 0 | 0.3000 | 0.0001235 |",
        "| 1 | 0.1235 | 1e-05 |",
    ]


def test_no_table_without_a_trial(make_plan: MakePlan, make_study: MakeStudy) -> None:
    plan = make_plan()
    assert trial_table(make_study(plan), plan) == "No trial is complete yet."
