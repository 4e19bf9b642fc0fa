"""What a study looks like: its course, what mattered, where the best lies, what was pruned.

A study of two objectives is drawn by the first, and has the front of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.compare.trade_off import pareto_front
from pipeline.drawing import (
    BEST,
    FAINT,
    ORANGE,
    PLAIN,
    Drawn,
    headline,
    in_style,
    new_figure,
    new_panels,
)
from pipeline.space import Range, short
from pipeline.tuning.chosen import find_best
from pipeline.tuning.plan import Plan

PRUNED, CHOSEN = ORANGE, BEST
MARK_BEST: dict[str, Any] = {"marker": "*", "s": 260, "color": CHOSEN, "zorder": 4}
MARK_PRUNED: dict[str, Any] = {"marker": "x", "s": 36, "color": PRUNED, "zorder": 2}
MARK_PLAIN: dict[str, Any] = {"marker": "o", "s": 26, "color": PLAIN, "zorder": 3}
MOST_LETTERS = 11  # of a choice at an axis
IMPORTANCE_SEED = 0  # of the forest that weighs parameters


def study_figures(study: Study, plan: Plan) -> dict[str, Drawn]:
    """The plots of a study by file name, without those that there is nothing to see in yet."""
    trials = [each for each in study.get_trials(deepcopy=False) if each.state.is_finished()]
    complete = [each for each in trials if each.state == TrialState.COMPLETE]
    params = varying(complete)
    differ = len({each.values[0] for each in complete}) > 1
    in_steps = any(len(each.intermediate_values) > 1 for each in trials)
    two = len(plan.objectives) == 2
    drawings: dict[str, tuple[bool, Callable[[], Drawn]]] = {
        "history.png": (len(complete) > 1, lambda: _history(trials, plan)),
        "importances.png": (
            differ and len(params) > 1,
            lambda: _importances(study, params, plan),
        ),
        "parallel_coordinates.png": (
            differ and len(params) > 1,
            lambda: _parallel(complete, params, plan),
        ),
        "slice.png": (differ and len(params) > 0, lambda: _slice(trials, params, plan)),
        "intermediate_values.png": (in_steps, lambda: _intermediate(trials, plan)),
        "pareto_front.png": (two and len(complete) > 1, lambda: _front(complete, plan)),
    }
    return {name: draw() for name, (is_worth_it, draw) in drawings.items() if is_worth_it}


def varying(complete: Sequence[FrozenTrial]) -> list[str]:
    """Parameters of which at least two values were tried, in the order of the alphabet."""
    names = sorted({name for each in complete for name in each.params})
    return [name for name in names if len({each.params.get(name) for each in complete}) > 1]


@in_style
def _history(trials: Sequence[FrozenTrial], plan: Plan) -> Drawn:
    """Every trial's value by its number, and the best so far."""
    figure, axes = new_figure()
    data = _table(trials)
    _scatter(axes, data["trial"], data, trials)
    complete = data[data["state"] == "complete"]
    axes.step(complete["trial"], complete["value"].cummax(), where="post", color=CHOSEN, zorder=1)
    _legend(axes, trials)
    says = _of_best(trials, plan)
    headline(figure, says)
    axes.set(xlabel="trial (line: the best so far)", ylabel=_value_of(plan))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return Drawn(figure, data, says)


@in_style
def _importances(study: Study, params: Sequence[str], plan: Plan) -> Drawn:
    """How much of what differs between trials each parameter explains."""
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=IMPORTANCE_SEED)
    target = None if len(plan.objectives) == 1 else lambda trial: trial.values[0]
    found = optuna.importance.get_param_importances(
        study, evaluator=evaluator, params=list(params), target=target
    )
    names, shares = list(found), list(found.values())
    figure, axes = new_figure(8, 1.6 + 0.4 * len(names))
    colours = [BEST, *[PLAIN] * (len(names) - 1)]
    bars = axes.barh(range(len(names)), shares, color=colours, alpha=0.8)
    axes.bar_label(bars, [f"{share:.0%}" for share in shares], padding=4)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    says = f"{names[0]} matters most: {shares[0]:.0%} of what differs"
    headline(figure, says)
    axes.set(xlabel=f"share of the variance of {plan.objectives[0]} between trials", xlim=(0, 1.1))
    return Drawn(figure, pd.DataFrame({"parameter": names, "importance": shares}), says)


@in_style
def _slice(trials: Sequence[FrozenTrial], params: Sequence[str], plan: Plan) -> Drawn:
    """A panel for each parameter: every trial's value by what it tried."""
    columns = min(4, len(params))
    rows = -(-len(params) // columns)
    figure, panels = new_panels(2 + 2.7 * columns, 0.7 + 3.2 * rows, rows, columns)
    data = _table(trials)
    for axes, name in zip(panels, params, strict=False):
        has = [place for place, each in enumerate(trials) if name in each.params]
        places = _places(axes, [trials[i].params[name] for i in has], plan, name)
        _scatter(axes, places, data.iloc[has], [trials[i] for i in has])
        axes.set(xlabel=name)
    for axes in panels[len(params) :]:
        axes.remove()
    panels[0].set(ylabel=_value_of(plan))
    best = find_best(trials)
    told = [f"{name} {short(best.params[name])}" for name in params[:3]] if best else []
    says = f"The best trial has {', '.join(told)}" if best else "No trial is good enough yet"
    says += ", ..." if len(params) > 3 else ""
    headline(figure, says)
    return Drawn(figure, data, says)


@in_style
def _parallel(complete: Sequence[FrozenTrial], params: Sequence[str], plan: Plan) -> Drawn:
    """A line for each trial through its values, the better the bluer."""
    figure, axes = new_figure(4 + 1.6 * len(params), 4.5)
    values = np.array([each.values[0] for each in complete])
    ranks = values.argsort().argsort() / max(1, len(values) - 1)
    heights = np.column_stack(
        [*(_unit(plan, name, [e.params.get(name) for e in complete]) for name in params), ranks]
    )
    top = ranks >= 0.8
    for line, is_top in zip(heights, top, strict=True):
        axes.plot(line, color=BEST if is_top else FAINT, linewidth=1.5 if is_top else 0.8,
                  zorder=2 if is_top else 1)  # fmt: skip
    names = [*params, f"rank by\n{plan.objectives[0]}"]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks([0, 1], ["lowest", "highest"])
    axes.grid(axis="y", visible=False)
    alike = params[int(np.argmin(np.nan_to_num(heights[top, :-1], nan=0.5).std(axis=0)))]
    says = f"The best fifth of {len(complete)} trials (blue) are most alike in {alike}"
    headline(figure, says)
    return Drawn(figure, _table(complete), says)


@in_style
def _intermediate(trials: Sequence[FrozenTrial], plan: Plan) -> Drawn:
    """Every trial's value as it was told, window after window; pruned ones end with a cross."""
    figure, axes = new_figure(9)
    best, lines = find_best(trials), []
    for each in trials:
        steps, values = list(each.intermediate_values), list(each.intermediate_values.values())
        pruned, chosen = each.state == TrialState.PRUNED, best is not None and each is best
        if not steps:
            continue
        axes.plot(
            steps, values, color=PRUNED if pruned else CHOSEN if chosen else "0.7",
            linewidth=2.5 if chosen else 0.8, zorder=3 if chosen else 1,
        )  # fmt: skip
        if pruned:
            axes.scatter(steps[-1], values[-1], **MARK_PRUNED)
        if chosen:
            axes.scatter(steps[-1], values[-1], **MARK_BEST)
        told = {"trial": each.number, "state": each.state.name.lower()}
        lines.append(pd.DataFrame({**told, "step": steps, "value": values}))
    _legend(axes, trials)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    says = _of_best(trials, plan)
    headline(figure, says)
    axes.set(
        xlabel="step: epochs, or fits, of one validation window after another",
        ylabel=f"{plan.objectives[0]} to be expected\n(windows to come count as popularity's)",
    )
    return Drawn(figure, pd.concat(lines, ignore_index=True), says)


@in_style
def _front(complete: Sequence[FrozenTrial], plan: Plan) -> Drawn:
    """Both objectives; the trials that no other beats on both are the front."""
    figure, axes = new_figure()
    one, other = np.array([each.values for each in complete]).T
    best = pareto_front(one, other)
    axes.scatter(other[~best], one[~best], **MARK_PLAIN, label="other")
    axes.scatter(other[best], one[best], s=50, color=BEST, zorder=3, label="front")
    for place in np.flatnonzero(best).tolist():
        axes.annotate(
            str(complete[place].number), (other[place], one[place]), xytext=(5, 5),
            textcoords="offset points", fontsize=9,
        )  # fmt: skip
    axes.legend()
    says = (
        f"The front, on which nothing beats a trial on both: {int(best.sum())} of {len(complete)}"
    )
    headline(figure, says)
    axes.set(xlabel=plan.objectives[1], ylabel=plan.objectives[0])
    return Drawn(figure, _table(complete).assign(on_front=best), says)


def _table(trials: Sequence[FrozenTrial]) -> pd.DataFrame:
    """A row for each trial; the value of one that was pruned is the last that it told."""
    return pd.DataFrame(
        {
            "trial": each.number,
            "state": each.state.name.lower(),
            "value": each.values[0] if each.values else np.nan,
            **each.params,
        }
        for each in trials
    )


def _scatter(
    axes: Axes, places: Sequence[float] | pd.Series[float], data: pd.DataFrame,
    trials: Sequence[FrozenTrial],
) -> None:  # fmt: skip
    best = find_best(trials)
    where = np.asarray(places, np.float64)
    for state, mark in (("complete", MARK_PLAIN), ("pruned", MARK_PRUNED)):
        chosen = (data["state"] == state).to_numpy()
        axes.scatter(where[chosen], data["value"].to_numpy()[chosen], **mark)
    if best is not None:
        place = [each.number for each in trials].index(best.number)
        axes.scatter(where[place], best.values[0], **MARK_BEST)


def _legend(axes: Axes, trials: Sequence[FrozenTrial]) -> None:
    """The signs that are in use."""
    n_pruned = sum(each.state == TrialState.PRUNED for each in trials)
    axes.scatter([], [], **{**MARK_BEST, "s": 90}, label="best")
    axes.scatter([], [], **MARK_PLAIN, label="complete")
    if n_pruned:
        axes.scatter([], [], **MARK_PRUNED, label=f"pruned ({n_pruned})")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _of_best(trials: Sequence[FrozenTrial], plan: Plan) -> str:
    """Which trial is best, and what became of the others."""
    best = find_best(trials)
    states = [each.state for each in trials]
    n_pruned, n_done = states.count(TrialState.PRUNED), states.count(TrialState.COMPLETE)
    told = f"{n_done} complete, {n_pruned} pruned"
    if best is None:
        return f"{plan.name}: no trial can be chosen yet; {told}"
    return f"{plan.name}: trial {best.number} is best, {best.values[0]:.4f}; {told}"


def _value_of(plan: Plan) -> str:
    return f"{plan.objectives[0]}, mean over windows"


def _places(axes: Axes, values: Sequence[object], plan: Plan, name: str) -> Sequence[float]:
    """Where values stand from left to right; the axis is made ready for them."""
    entry = plan.space.get(name)
    if isinstance(entry, Range):
        if entry.log:
            axes.set_xscale("log")
        return [float(str(value)) for value in values]
    known = sorted({str(value) for value in values})
    axes.set_xticks(range(len(known)), [_brief(each) for each in known], rotation=30, ha="right")
    return [float(known.index(str(value))) for value in values]


def _unit(plan: Plan, name: str, values: Sequence[object]) -> list[float]:
    """Values between 0 and 1 on a parameter's own scale."""
    entry = plan.space.get(name)
    if isinstance(entry, Range):
        return [np.nan if value is None else entry.place(float(str(value))) for value in values]
    known = sorted({str(value) for value in values})
    return [known.index(str(value)) / max(1, len(known) - 1) for value in values]


def _brief(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 1]}…"
