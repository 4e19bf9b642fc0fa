"""What a study looks like: Optuna's own plots, and a table of its best trials."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import optuna.visualization.matplotlib as plots
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.tuning.chosen import is_feasible
from pipeline.tuning.objective import EPOCHS
from pipeline.tuning.plan import Plan

INCHES = 4.5  # height of a plot; its width follows what is in it


def study_figures(study: Study, plan: Plan) -> dict[str, Figure]:
    """The plots of a study by file name, without those that there is nothing to see in yet.

    A study of two objectives is plotted by the first, and has the front of both. Values of epochs
    and windows are lifts: the metric over that of the popularity list, mean over windows begun.
    """
    trials = study.get_trials(deepcopy=False)
    complete = _complete(study)
    params = _varying(complete)
    differ = len({each.values[0] for each in complete}) > 1
    in_steps = any(len(each.intermediate_values) > 1 for each in trials)
    names = plan.objectives
    first = None if len(names) == 1 else lambda trial: trial.values[0]
    of: dict[str, Any] = {"target": first, "target_name": names[0]}
    drawings: dict[str, tuple[bool, Callable[[], Any], float]] = {
        "history.png": (len(complete) > 1, lambda: plots.plot_optimization_history(study, **of), 8),
        "importances.png": (
            differ and len(params) > 1,
            lambda: plots.plot_param_importances(study, params=params, **of),
            8,
        ),
        "parallel_coordinates.png": (
            differ and len(params) > 1,
            lambda: plots.plot_parallel_coordinate(study, params=params, **of),
            4 + 1.6 * len(params),
        ),
        "slice.png": (
            differ and len(params) > 0,
            lambda: plots.plot_slice(study, params=params, **of),
            2 + 2.7 * len(params),
        ),
        "intermediate_values.png": (in_steps, lambda: _lifts(study), 9),
        "pareto_front.png": (
            len(names) == 2 and len(complete) > 1,
            lambda: plots.plot_pareto_front(study, target_names=names),
            8,
        ),
    }
    figures = {}
    for name, (is_worth_it, draw, width) in drawings.items():
        if is_worth_it:
            with _drawing():
                figures[name] = np.ravel(np.array(draw(), dtype=object))[0].get_figure()
                figures[name].set_size_inches(width, INCHES)
                figures[name].suptitle(f"{plan.name}: {names[0]}")
                figures[name].canvas.draw()  # ticks are made only now, and take the style
    return figures


def trial_table(study: Study, plan: Plan, n: int = 10) -> str:
    """The ``n`` best complete trials in Markdown, feasible ones first, with what varies in them."""
    complete = _complete(study)
    if not complete:
        return "No trial is complete yet."
    best = sorted(complete, key=lambda each: (is_feasible(each), each.values), reverse=True)[:n]
    attributes = [plan.coverage_metric, EPOCHS]
    params = [name for name in _varying(complete) if name != EPOCHS]
    rows = [
        {"trial": str(each.number)}
        | {name: _exact(each.user_attrs[name]) for name in attributes if name in each.user_attrs}
        | {name: _exact(value) for name, value in zip(plan.objectives, each.values, strict=True)}
        | ({"floor": "reached" if is_feasible(each) else "missed"} if each.constraints else {})
        | {name: _short(each.params[name]) for name in params}
        for each in best
    ]
    wanted = ["trial", *plan.objectives, *attributes, "floor", *params]
    names = [name for name in dict.fromkeys(wanted) if any(name in row for row in rows)]
    lines = [names, ["---"] * len(names)] + [[row.get(name, "") for name in names] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _complete(study: Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _varying(complete: Sequence[FrozenTrial]) -> list[str]:
    """Parameters of which at least two values were tried, in the order of the alphabet."""
    names = sorted({name for each in complete for name in each.params})
    return [name for name in names if len({each.params.get(name) for each in complete}) > 1]


def _exact(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:#.4g}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", r"\|")


def _lifts(study: Study) -> Axes:
    """Optuna's plot, whose legend would name every trial and leave no room for the lines."""
    axes = plots.plot_intermediate_values(study)
    axes.set_ylabel("lift over the popularity list")
    legend = axes.get_legend()
    if legend is not None:
        legend.remove()
    return axes


@contextmanager
def _drawing() -> Iterator[None]:
    """Let pyplot draw into memory, and leave it as it was: backend, style, open figures."""
    backend, known = matplotlib.get_backend(auto_select=False), plt.get_fignums()
    with matplotlib.rc_context({"figure.constrained_layout.use": True}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plt.switch_backend("agg")
        try:
            yield
        finally:
            for number in set(plt.get_fignums()) - set(known):
                plt.close(number)
            if backend is not None:
                with suppress(ImportError):  # its windows may be out of reach here
                    plt.switch_backend(backend)
