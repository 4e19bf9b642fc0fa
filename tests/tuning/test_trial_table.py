"""The table of a study's best trials."""

from __future__ import annotations

import optuna
import pytest
from optuna.study import Study

from pipeline.tuning.plan import Plan
from pipeline.tuning.suggestions import distributions
from pipeline.tuning.trial_table import trial_table
from tests.tuning.conftest import MakePlan, MakeStudy
from tests.tuning.test_figures import SPACE, fill

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


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
