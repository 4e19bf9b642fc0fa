"""Workers on one storage: the budget, failures, interruptions, lost trials, the end."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from pipeline.errors import UserError
from pipeline.tuning import work as work_module
from pipeline.tuning.plan import Plan
from pipeline.tuning.storage import LOST_AFTER, open_storage
from pipeline.tuning.study import (
    ERROR,
    FAILURES,
    STOPPED,
    SURPLUS,
    join_study,
    tally,
)
from pipeline.tuning.suggestions import distributions, suggest
from pipeline.tuning.work import RunTrial, work
from tests.tuning.conftest import MakePlan, MakeStudy, age

SPACE = {"components": {"low": 1, "high": 90}, "values": ["ratings", "binary"]}
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_module, "IDLE_SECONDS", 0.01)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'studies.db'}"


def never() -> bool:
    return False


def count(study: Study, *states: TrialState) -> int:
    return len(study.get_trials(states=states))


def toy(plan: Plan, seconds: float = 0.0) -> RunTrial:
    """A trial worth its components."""
    space = distributions(plan)

    def run(trial: Trial) -> float:
        params = suggest(trial, space)
        time.sleep(seconds)
        return float(params["components"])

    return run


def first_then(*others: BaseException, then: RunTrial) -> RunTrial:
    """Suggests, then raises one error after the other, then does what ``then`` does."""
    errors: Iterator[BaseException] = iter(others)

    def run(trial: Trial) -> float:
        value = then(trial)
        for error in errors:
            raise error
        return value  # type: ignore[return-value]

    return run


@pytest.mark.parametrize(("workers", "budget"), [(2, 7), (4, 12)])
def test_workers_keep_the_budget_to_the_trial(
    make_plan: MakePlan, make_study: MakeStudy, url: str, workers: int, budget: int
) -> None:
    plan = make_plan(space=SPACE, n_trials=budget)
    study = make_study(plan, open_storage(url, 15))
    most = threading.Semaphore(workers)

    def run(number: int) -> int:
        mine, plan = join_study(url, "a study", number)
        ran: list[int] = []

        def trial(trial: Trial) -> float:
            assert most.acquire(blocking=False)
            ran.append(trial.number)
            value = toy(plan, 0.02)(trial)
            most.release()
            return float(value)  # type: ignore[arg-type]

        work(mine, trial, never)
        return len(ran)

    with ThreadPoolExecutor(workers) as pool:
        ran = list(pool.map(run, range(workers)))
    assert sum(ran) == count(study, *DONE) == budget
    trials = study.get_trials()
    assert {each.state for each in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    assert all(SURPLUS in each.user_attrs for each in trials if each.state == TrialState.FAIL)
    now = tally(study, plan)
    assert (now.done, now.failed, now.lost) == (budget, 0, 0)


def test_two_that_begin_the_last_trial_at_once(
    make_plan: MakePlan, make_study: MakeStudy, url: str
) -> None:
    """Both have seen room for one: the second gives way."""
    plan = make_plan(space=SPACE, n_trials=1)
    study = make_study(plan, open_storage(url, 15))
    both = threading.Barrier(2)

    def run(number: int) -> None:
        mine, plan = join_study(url, "a study", number)
        optimize = mine.optimize

        def together(*args: Any, **options: Any) -> None:
            both.wait(10)
            optimize(*args, **options)
            mine.optimize = optimize  # type: ignore[method-assign]

        mine.optimize = together  # type: ignore[method-assign]
        work(mine, toy(plan, 0.3), never)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(2)))
    states = [each.state for each in study.get_trials()]
    assert states == [TrialState.COMPLETE, TrialState.FAIL]
    assert SURPLUS in study.get_trials()[1].user_attrs


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
    now = tally(study, plan)
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
    assert tally(study, plan).gave_up


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
    assert tally(study, plan).lost == 1


def test_a_failed_trial_is_not_run_again_because_of_a_later_interruption(
    make_plan: MakePlan, make_study: MakeStudy
) -> None:
    """Such as one while the next trial's parameters are sought."""
    study = make_study(make_plan(space=SPACE))
    study.sampler = Interrupted(after=1)
    with pytest.raises(KeyboardInterrupt):
        work(study, first_then(ValueError("odd"), then=lambda trial: 1.0), never)
    assert count(study, TrialState.WAITING) == 0


class Interrupted(RandomSampler):
    """Is interrupted while it seeks parameters, after some trials."""

    def __init__(self, after: int) -> None:
        super().__init__(seed=0)
        self.after = after

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        if trial.number == self.after:
            raise KeyboardInterrupt


def test_a_trial_that_never_got_parameters_does_not_run_for_ever(
    make_plan: MakePlan, make_study: MakeStudy, url: str
) -> None:
    """Its worker was ended while it sought them."""
    plan = make_plan(space=SPACE, n_trials=2)
    study = make_study(plan, open_storage(url, 15))
    mine, _ = join_study(url, "a study", 0)
    mine.sampler = Interrupted(after=0)
    with pytest.raises(KeyboardInterrupt):
        work(mine, toy(plan), never)
    assert count(study, TrialState.RUNNING) == 1
    age(study, LOST_AFTER * 15 + 5, 0)
    other, _ = join_study(url, "a study", 1)
    work(other, toy(plan), never)
    assert (count(study, TrialState.RUNNING), count(study, *DONE)) == (0, 2)


@pytest.mark.parametrize("ending", ["value", "report", "error"])
def test_a_trial_that_counts_as_lost_while_it_runs(
    make_plan: MakePlan, make_study: MakeStudy, url: str, ending: str
) -> None:
    """As after the machine slept: the worker goes on, and the trial is another's by now."""
    plan = make_plan(space=SPACE, n_trials=2)
    study = make_study(plan, open_storage(url, 15))
    mine, _ = join_study(url, "a study", 0)

    def run(trial: Trial) -> float:
        if trial.number == 0:
            study.tell(0, state=TrialState.FAIL)
            if ending == "report":
                trial.report(1.0, 1)
            if ending == "error":
                raise ValueError("odd")
        return 1.0

    work(mine, run, never)
    assert study.get_trials()[0].state == TrialState.FAIL
    assert ERROR not in study.get_trials()[0].user_attrs
    assert count(study, TrialState.COMPLETE) == 2


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


GRID = {"components": [1, 2, 3], "values": ["ratings", "binary"]}


def one_fails(plan: Plan) -> RunTrial:
    """All trials of a grid but one have a value."""

    def run(trial: Trial) -> float:
        params = suggest(trial, distributions(plan))
        time.sleep(0.02)
        if params == {"components": 3, "values": "binary"}:
            raise ValueError("by itself")
        return 1.0

    return run


def configurations(trials: Sequence[FrozenTrial]) -> set[tuple[object, ...]]:
    return {(each.params["components"], each.params["values"]) for each in trials}


def test_a_grid_ends_when_it_is_exhausted(make_plan: MakePlan, make_study: MakeStudy) -> None:
    """Though a trial that failed leaves budget over."""
    plan = make_plan(space=GRID, sampler="grid")
    study = make_study(plan)
    work(study, one_fails(plan), never)
    assert plan.budget == 6
    assert len(configurations(study.get_trials())) == len(study.get_trials()) == 6
    assert count(study, TrialState.FAIL) == 1


def test_workers_cover_a_grid_together(
    make_plan: MakePlan, make_study: MakeStudy, url: str
) -> None:
    plan = make_plan(space=GRID, sampler="grid")
    study = make_study(plan, open_storage(url, 15))

    def start(number: int) -> None:
        work(join_study(url, "a study", number)[0], one_fails(plan), never)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(start, range(3)))
    assert len(configurations(study.get_trials(states=DONE))) == 5
    assert count(study, *DONE) <= plan.budget


def test_processes_keep_the_budget_and_a_killed_one_is_made_up_for(
    make_plan: MakePlan, make_study: MakeStudy, url: str
) -> None:
    """One of two is killed in the middle of a trial, which the other runs again."""
    plan = make_plan(space=SPACE, n_trials=5)
    study = make_study(plan, open_storage(url, 15))

    def run(number: int) -> None:
        def trial(trial: Trial) -> float:
            value = toy(plan, 0.05)(trial)
            if number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return float(value)  # type: ignore[arg-type]

        work(join_study(url, "a study", number)[0], trial, never)

    children = []
    for number in range(2):
        child = os.fork()
        if child == 0:
            try:
                run(number)
            finally:
                os._exit(0)
        children.append(child)
    ends = [os.WTERMSIG(os.waitpid(children[1], 0)[1])]
    until = time.monotonic() + 30
    while count(study, *DONE) < 4 and time.monotonic() < until:
        time.sleep(0.05)
    (killed,) = study.get_trials(states=(TrialState.RUNNING,))
    age(study, LOST_AFTER * 15 + 5, killed.number)
    ends.append(os.waitpid(children[0], 0)[1])
    assert ends == [signal.SIGKILL, 0]
    assert count(study, *DONE) == 5
    now = tally(study, plan)
    assert (now.lost, now.failed, now.running, now.waiting) == (1, 0, 0, 0)
    (lost,) = study.get_trials(states=(TrialState.FAIL,))
    assert lost.params == killed.params
    same = [each for each in study.get_trials() if each.params == lost.params]
    assert [each.state for each in same] == [TrialState.FAIL, TrialState.COMPLETE]
