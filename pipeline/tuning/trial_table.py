"""A study's best trials as a table."""

from __future__ import annotations

from optuna.study import Study
from optuna.trial import TrialState

from pipeline.tuning.chosen import is_feasible
from pipeline.tuning.figures import varying
from pipeline.tuning.objective import EPOCHS
from pipeline.tuning.plan import Plan


def best_trials(study: Study, plan: Plan, n: int = 10) -> list[list[str]]:
    """Heads, then a row for each of the ``n`` best complete trials, feasible ones first.

    Columns are the objectives, coverage, epochs, and the parameters that vary; empty where no
    trial is complete.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return []
    best = sorted(complete, key=lambda each: (is_feasible(each), each.values), reverse=True)[:n]
    attributes = [plan.coverage_metric, EPOCHS]
    params = [name for name in varying(complete) if name != EPOCHS]
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
    return [names, *([row.get(name, "") for name in names] for row in rows)]


def trial_table(study: Study, plan: Plan, n: int = 10) -> str:
    """The same in Markdown."""
    found = best_trials(study, plan, n)
    if not found:
        return "No trial is complete yet."
    names, *rows = found
    lines = [names, ["---"] * len(names), *rows]
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _exact(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:#.4g}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
