"""What a study looks like: Optuna's plots, made legible, and a table of its best trials."""

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
from matplotlib.axis import Axis
from matplotlib.category import StrCategoryFormatter
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, LogLocator, MaxNLocator, NullLocator
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.tuning.chosen import find_best, is_feasible
from pipeline.tuning.objective import EPOCHS, window_steps
from pipeline.tuning.plan import Plan

COLOURS = {
    "pruned": "0.7",
    "running": "tab:green",
    "below the floor": "tab:orange",
    "complete": "tab:blue",
    "best": "tab:red",
}
PANELS = 4  # parameters in a row of slices
LETTERS = 12  # of a choice at an axis

Draw = Callable[[Study, Plan, list[str]], Figure]


def study_figures(study: Study, plan: Plan) -> dict[str, Figure]:
    """The plots of a study by file name, without those that there is nothing to see in yet.

    A study of two objectives is plotted by the first, and has the front of both.
    """
    trials = study.get_trials(deepcopy=False)
    complete = _complete(study)
    params = _varying(complete)
    differ = len({each.values[0] for each in complete}) > 1
    told = any(len(each.intermediate_values) > 1 for each in trials)
    drawings: dict[str, tuple[bool, Draw]] = {
        "history.png": (len(complete) > 1, _history),
        "importances.png": (differ and len(params) > 1, _importances),
        "parallel_coordinates.png": (differ and len(params) > 1, _parallel_coordinates),
        "slice.png": (differ and len(params) > 0, _slice),
        "intermediate_values.png": (told, _intermediate_values),
        "pareto_front.png": (len(plan.objectives) == 2 and len(complete) > 1, _pareto_front),
    }
    figures = {}
    for name, (is_worth_it, draw) in drawings.items():
        if is_worth_it:
            with _drawing():
                figures[name] = draw(study, plan, params)
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


def _history(study: Study, plan: Plan, params: list[str]) -> Figure:
    axes = plots.plot_optimization_history(study, **_target(plan))
    axes.set_title("Trials in their order")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = axes.get_legend_handles_labels()
    names = {"Best Value": "best so far", plan.objectives[0]: "complete"}
    labels = [names.get(label, label) for label in labels]
    if not all(map(is_feasible, _complete(study))):
        handles.append(Line2D([], [], color="#cccccc", marker="o", linestyle=""))
        labels.append("below the floor for coverage")
    axes.legend(handles, labels, loc="lower right")
    return _sized(axes, 8, 4.5)


def _importances(study: Study, plan: Plan, params: list[str]) -> Figure:
    axes = plots.plot_param_importances(study, params=params, **_target(plan))
    axes.set_title("", loc="left")
    axes.set_title(f"How much each parameter decides on {plan.objectives[0]}")
    axes.set(xlabel="share of the importance (PED-ANOVA)", ylabel="")
    _remove_legend(axes)
    return _sized(axes, 8, 1.5 + 0.35 * len(params))


def _parallel_coordinates(study: Study, plan: Plan, params: list[str]) -> Figure:
    axes = plots.plot_parallel_coordinate(study, params=params, **_target(plan))
    axes.set_title("Configurations, a line each", loc="left", y=1.03)
    axes.set_title("")
    (lines,) = axes.collections
    low, high = lines.get_clim()
    lines.set(cmap="Blues", clim=(low - (high - low) / 3, high))  # the worst are seen, too
    names = [label.get_text() for label in axes.get_xticklabels()]
    axes.set_xticks(axes.get_xticks(), names, rotation=20, ha="right", rotation_mode="anchor")
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5}
    for each in axes.figure.axes:
        each.tick_params(axis="y", labelsize=8)
        _plain(each.yaxis)
        if isinstance(each.yaxis.get_major_formatter(), FixedFormatter):
            labels = [_cut(label.get_text()) for label in each.get_yticklabels()]
            each.set_yticks(each.get_yticks(), labels)
        for label in each.get_yticklabels():
            label.set_bbox(box)
    return _sized(axes, 3 + 1.3 * len(params), 5)


def _slice(study: Study, plan: Plan, params: list[str]) -> Figure:
    drawn = plots.plot_slice(study, params=params, **_target(plan))
    panels = list(np.array(drawn, dtype=object, ndmin=1))
    figure, columns = panels[0].figure, min(PANELS, len(panels))
    rows = -(-len(panels) // columns)
    grid = GridSpec(rows, columns, figure)
    points = panels[-1].collections[0]
    points.colorbar.remove()
    for place, panel in enumerate(panels):
        panel.set_subplotspec(grid[place])
        _plain(panel.xaxis)
        if isinstance(panel.xaxis.get_major_formatter(), StrCategoryFormatter):
            labels = [_cut(label.get_text().strip("'")) for label in panel.get_xticklabels()]
            panel.set_xticks(panel.get_xticks(), labels)
        is_first = place % columns == 0
        panel.tick_params(labelsize=8, labelleft=is_first)
        panel.set(title="", ylabel=plan.objectives[0] if is_first else "")
    figure.colorbar(points, ax=panels, label="trial (white: the first)")
    told = "" if all(map(is_feasible, _complete(study))) else " (grey: below the coverage floor)"
    figure.suptitle(f"Trials by each parameter{told}")
    return _sized(panels[0], 2 + 2.7 * columns, 1 + 2.5 * rows)


def _intermediate_values(study: Study, plan: Plan, params: list[str]) -> Figure:
    axes = plots.plot_intermediate_values(study)
    kinds = _kinds(study)
    for line in axes.get_lines():
        kind = kinds[int(str(line.get_label()).removeprefix("Trial"))]
        line.set(color=COLOURS[kind], markersize=3, linewidth=1)
        line.set_zorder(2 + list(COLOURS).index(kind) / 10)
    shown = [kind for kind in reversed(COLOURS) if kind in kinds.values()]
    handles = [Line2D([], [], color=COLOURS[kind], marker=".") for kind in shown]
    axes.legend(handles, shown, bbox_to_anchor=(1.01, 1), loc="upper left")
    length = window_steps(plan)
    for number in range(1, len(plan.experiment.windows)):
        axes.axvline(number * length + 0.5, color="0.4", linestyle="--", linewidth=0.8, zorder=1)
    axes.set_title("Validation, window after window (dashed: the next one begins)")
    axes.set(
        xlabel="window" if length == 1 else f"step: {length} for each window, one for an epoch",
        ylabel=f"lift: {plan.objectives[0]} / the popularity list's\n(mean over windows begun)",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _sized(axes, 9, 5)


def _pareto_front(study: Study, plan: Plan, params: list[str]) -> Figure:
    axes = plots.plot_pareto_front(study, target_names=plan.objectives)
    axes.set_title("All trials (red: the Pareto front)")
    _remove_legend(axes)
    return _sized(axes, 8, 5)


def _remove_legend(axes: Axes) -> None:
    legend = axes.get_legend()
    if legend is not None:
        legend.remove()


def _plain(axis: Axis) -> None:
    """Write the numbers at a logarithmic axis as a person would, and few of them."""
    if axis.get_scale() != "log":
        return
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,), numticks=5))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def _target(plan: Plan) -> dict[str, Any]:
    first = None if len(plan.objectives) == 1 else lambda trial: trial.values[0]
    return {"target": first, "target_name": plan.objectives[0]}


def _kinds(study: Study) -> dict[int, str]:
    """What there is to say of each trial, by number: one of COLOURS."""
    trials = study.get_trials(deepcopy=False)
    kinds = {each.number: each.state.name.lower() for each in trials}
    kinds |= {each.number: "below the floor" for each in _complete(study) if not is_feasible(each)}
    best = find_best(trials)
    return kinds if best is None else {**kinds, best.number: "best"}


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


def _cut(label: str) -> str:
    return label if len(label) <= LETTERS else f"{label[: LETTERS - 1]}…"


def _sized(axes: Axes, width: float, height: float) -> Figure:
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    figure.set_size_inches(width, height)
    return figure


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
