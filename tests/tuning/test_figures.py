"""Figures of studies of every size: drawn where there is something to see, legible."""

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

from pipeline.drawing import Drawn
from pipeline.tuning.figures import study_figures
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
            trial.report(ndcg + 0.01 * rng.random(), step)
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
    told = [each.get_xlabel() + each.get_ylabel() for each in figure.axes]
    ticks = [tick.get_text() for each in figure.axes for tick in each.get_xticklabels()]
    return [*told, *ticks]


@pytest.fixture(scope="module")
def figures(make_plan: MakePlan, make_study: MakeStudy) -> dict[str, Drawn]:
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
    figures: dict[str, Drawn], name: str
) -> None:
    figure = figures[name].figure
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
    assert all(
        any("ndcg_at_5" in told for told in labels(each.figure)) for each in figures.values()
    )
    (axes,) = figures["pareto_front.png"].figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("coverage_at_5", "ndcg_at_5")


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


def test_what_is_pruned_is_seen_and_the_best_is_marked(figures: dict[str, Drawn]) -> None:
    (axes,) = figures["history.png"].figure.axes
    best, complete, pruned = axes.collections[2], axes.collections[0], axes.collections[1]
    data = figures["history.png"].data
    for drawn, state in ((complete, "complete"), (pruned, "pruned")):
        numbers = [round(x) for x, _ in drawn.get_offsets()]
        assert numbers == data["trial"][data["state"] == state].tolist() != []
    assert len(best.get_offsets()) == 1
    legend = {text.get_text() for text in axes.get_legend().get_texts()}
    n_pruned = (data["state"] == "pruned").sum()
    assert legend == {"best", "complete", f"pruned ({n_pruned})"}
    (number,) = (round(x) for x, _ in best.get_offsets())
    assert f"trial {number} is best" in figures["history.png"].says
    assert figures["history.png"].says == axes.get_figure().get_suptitle()


def test_every_figure_has_its_data_and_says_what_is_found(figures: dict[str, Drawn]) -> None:
    for name, drawn in figures.items():
        assert len(drawn.data), name
        assert drawn.says, name
    assert "matters most" in figures["importances.png"].says
    weighed = figures["importances.png"].data
    assert weighed["importance"].sum() == pytest.approx(1)
    told = figures["intermediate_values.png"].data
    assert set(told["state"]) >= {"complete", "pruned"}
