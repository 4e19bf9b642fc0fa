"""A worker: failures, interruptions, waiting, the end."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator

import optuna
import pytest
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from pipeline.errors import UserError
from pipeline.space import Range
from pipeline.tuning.storage import open_storage
from pipeline.tuning.study import (
    ERROR,
    FAILURES,
    STOPPED,
    join_study,
    stored_plan,
    tally,
)
from pipeline.tuning.suggestions import distributions, suggest
from pipeline.tuning.work import RunTrial, work
from tests.tuning.conftest import MakePlan, MakeStudy
from tests.tuning.toys import (
    DONE,
    GRID,
    SPACE,
    Interrupted,
    configurations,
    count,
    never,
    one_fails,
    toy,
)


def first_then(*others: BaseException, then: RunTrial) -> RunTrial:
    """Suggests, then raises one error after the other, then does what ``then`` does."""
    errors: Iterator[BaseException] = iter(others)

    def run(trial: Trial) -> float:
        value = then(trial)
        for error in errors:
            raise error
        return value  # type: ignore[return-value]

    return run


def test_a_study_goes_on_with_a_larger_budget(make_plan: MakePlan, make_study: MakeStudy) -> None:
    storage = optuna.storages.InMemoryStorage()
    for budget in (2, 5):
        plan = make_plan(space=SPACE, n_trials=budget)
        study = make_study(plan, storage)
        work(study, toy(plan), never)
        assert count(study, *DONE) == budget


def test_the_budget_is_read_anew_for_every_trial(
    make_plan: MakePlan, make_study: MakeStudy
) -> None:
    study = make_study(make_plan(space=SPACE, n_trials=20))
    smaller = make_plan(space=SPACE, n_trials=3)

    def run(trial: Trial) -> float:
        if trial.number == 1:
            make_study(smaller, study._storage)
        return 1.0

    work(study, run, never)
    assert count(study, *DONE) == 3


def test_pruned_trials_count(make_plan: MakePlan, make_study: MakeStudy) -> None:
    plan = make_plan(space=SPACE, n_trials=4)
    study = make_study(plan)
    work(study, first_then(optuna.TrialPruned(), optuna.TrialPruned(), then=toy(plan)), never)
    assert (count(study, TrialState.PRUNED), count(study, TrialState.COMPLETE)) == (2, 2)
    assert all(ERROR not in each.user_attrs for each in study.get_trials())


def test_a_failing_trial_fails_alone(
    make_plan: MakePlan, make_study: MakeStudy, caplog: pytest.LogCaptureFixture
) -> None:
    plan = make_plan(space=SPACE, n_trials=3)
    study = make_study(plan)
    errors = (UserError("training diverged"), MemoryError("too large"), ValueError("odd"))
    logging.getLogger("pipeline").propagate = True
    with caplog.at_level(logging.WARNING, "pipeline"):
        work(study, first_then(*errors, then=toy(plan)), never)
    failed = study.get_trials(states=(TrialState.FAIL,))
    assert [each.user_attrs[ERROR] for each in failed] == [
        "training diverged",
        "MemoryError: too large",
        "ValueError: odd",
    ]
    assert count(study, TrialState.COMPLETE) == 3
    told = [(record.getMessage(), bool(record.exc_info)) for record in caplog.records]
    assert told == [
        ("trial 0 failed: training diverged", False),
        ("trial 1 failed: MemoryError: too large", True),
        ("trial 2 failed: ValueError: odd", True),
    ]
    now = tally(study)
    assert (now.failed, now.lost, now.waiting) == (3, 0, 0)


@pytest.mark.parametrize("value", [float("nan"), "none"])
def test_trials_without_a_value_do_not_go_on_for_ever(
    make_plan: MakePlan, make_study: MakeStudy, value: object
) -> None:
    plan = make_plan(space=SPACE)
    study = make_study(plan)
    runs = itertools.count()
    work(study, lambda trial: value, lambda: next(runs) > 2 * FAILURES)  # type: ignore[arg-type, return-value]
    assert count(study, TrialState.FAIL) == FAILURES
    assert tally(study).gave_up


def test_trials_that_only_fail_end_the_study(make_plan: MakePlan, make_study: MakeStudy) -> None:
    study = make_study(make_plan(space=SPACE))
    errors = [ValueError(str(number)) for number in range(2 * FAILURES)]
    work(study, first_then(*errors, then=lambda trial: 1.0), never)
    assert len(study.get_trials()) == FAILURES


def queued(study: Study) -> FrozenTrial:
    (trial,) = study.get_trials(states=(TrialState.WAITING,))
    return trial


def test_an_interrupted_trial_is_run_again(make_plan: MakePlan, make_study: MakeStudy) -> None:
    plan = make_plan(space=SPACE, n_trials=3)
    study = make_study(plan)
    with pytest.raises(KeyboardInterrupt):
        work(study, first_then(KeyboardInterrupt(), then=toy(plan)), never)
    (interrupted, _) = study.get_trials()
    assert interrupted.state == TrialState.FAIL
    assert interrupted.params == queued(study).params != {}
    work(study, toy(plan), never)
    again = study.get_trials()[1]
    assert (again.state, again.params) == (TrialState.COMPLETE, interrupted.params)
    assert count(study, *DONE) == 3
    assert tally(study).lost == 1


def test_a_failed_trial_is_not_run_again_because_of_a_later_interruption(
    make_plan: MakePlan, make_study: MakeStudy
) -> None:
    """Such as one while the next trial's parameters are sought."""
    study = make_study(make_plan(space=SPACE))
    study.sampler = Interrupted(after=1)
    with pytest.raises(KeyboardInterrupt):
        work(study, first_then(ValueError("odd"), then=lambda trial: 1.0), never)
    assert count(study, TrialState.WAITING) == 0


def test_stopping_lets_the_running_trial_finish(make_plan: MakePlan, make_study: MakeStudy) -> None:
    plan = make_plan(space=SPACE)
    study = make_study(plan)
    asked: list[int] = []

    def run(trial: Trial) -> float:
        if trial.number == 2:
            asked.append(trial.number)
        return 1.0

    work(study, run, lambda: bool(asked))
    assert [each.state for each in study.get_trials()] == [TrialState.COMPLETE] * 3


def test_a_stopped_study_begins_no_trial(make_plan: MakePlan, make_study: MakeStudy) -> None:
    plan = make_plan(space=SPACE)
    study = make_study(plan)

    def run(trial: Trial) -> float:
        if trial.number == 1:
            study.set_user_attr(STOPPED, "Ctrl-C")
        return 1.0

    work(study, run, never)
    assert len(study.get_trials()) == 2
    work(make_study(plan, study._storage), toy(plan), lambda: len(study.get_trials()) > 2)
    assert len(study.get_trials()) == 3


def test_a_worker_waits_for_the_last_trials_of_others(
    make_plan: MakePlan, make_study: MakeStudy
) -> None:
    """One of them may be lost."""
    plan = make_plan(space=SPACE, n_trials=1)
    study = make_study(plan)
    study.ask()
    waited = itertools.count()

    def stopping() -> bool:
        if next(waited) == 3:
            study.tell(0, state=TrialState.FAIL)
        return False

    work(study, toy(plan), stopping)
    assert next(waited) > 4
    assert [each.state for each in study.get_trials()] == [TrialState.FAIL, TrialState.COMPLETE]


def test_a_grid_ends_when_it_is_exhausted(make_plan: MakePlan, make_study: MakeStudy) -> None:
    """Though a trial that failed leaves budget over."""
    plan = make_plan(space=GRID, sampler="grid")
    study = make_study(plan)
    work(study, one_fails(plan), never)
    assert plan.budget == 6
    assert len(configurations(study.get_trials())) == len(study.get_trials()) == 6
    assert count(study, TrialState.FAIL) == 1


def test_the_time_is_up(make_plan: MakePlan, make_study: MakeStudy) -> None:
    plan = make_plan(space=SPACE, n_trials=1000, timeout=0.2)
    study = make_study(plan)
    work(study, toy(plan, 0.05), never)
    assert 1 <= count(study, TrialState.COMPLETE) < 20


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "random"])
def test_a_worker_goes_on_in_the_widened_space(
    make_plan: MakePlan, make_study: MakeStudy, url: str, sampler: str
) -> None:
    """In a real storage: ranges of numbers may differ between trials."""
    space = {"components": {"low": 1, "high": 90}, "iterations": {"low": 1, "high": 9}}
    plan = make_plan(space=space, n_trials=12, sampler=sampler)
    made = make_study(plan, open_storage(url, 15))
    made.enqueue_trial({"components": 90, "iterations": 3})
    study, _ = join_study(url, "a study", 0)

    def run(trial: Trial) -> float:
        params = suggest(trial, distributions(stored_plan(study)))
        return float(params["components"])

    work(study, run, never)
    trials = study.get_trials()
    assert count(study, *DONE) == 12 + 5
    assert stored_plan(study).space["components"] == Range(low=1, high=134)
    assert max(each.params["components"] for each in trials[:12]) == 90
    assert [each.params["components"] for each in trials[12:14]] == [112, 134]
    assert tally(study).best == trials[13]
