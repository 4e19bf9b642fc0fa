"""Several workers on one storage: the budget, a grid, trials that lose their worker."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from optuna.trial import Trial, TrialState

from pipeline.tuning.storage import LOST_AFTER, open_storage
from pipeline.tuning.study import (
    ERROR,
    SURPLUS,
    join_study,
    tally,
)
from pipeline.tuning.work import work
from tests.tuning.conftest import MakePlan, MakeStudy, age
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
    now = tally(study)
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
    now = tally(study)
    assert (now.lost, now.failed, now.running, now.waiting) == (1, 0, 0, 0)
    (lost,) = study.get_trials(states=(TrialState.FAIL,))
    assert lost.params == killed.params
    same = [each for each in study.get_trials() if each.params == lost.params]
    assert [each.state for each in same] == [TrialState.FAIL, TrialState.COMPLETE]
