"""Studies: begun, gone on with, joined, counted."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import optuna
import pytest
from optuna.samplers import GPSampler
from optuna.study import Study
from optuna.trial import TrialState, create_trial

from pipeline.errors import UserError
from pipeline.space import Range
from pipeline.tuning.plan import Plan
from pipeline.tuning.storage import open_storage
from pipeline.tuning.study import (
    ERROR,
    FAILURES,
    FIRST,
    STOPPED,
    SURPLUS,
    WIDENED,
    find_study,
    is_finished,
    join_study,
    next_plan,
    open_study,
    states,
    stored_plan,
    tally,
)
from tests.tuning.conftest import DATA, MakePlan, MakeStudy

BEGINNING = datetime(2024, 2, 29, 12)
FAILED: dict[str, Any] = {"state": TrialState.FAIL, "user_attrs": {ERROR: "ValueError: odd"}}
LOST = {"state": TrialState.FAIL}
SUPERFLUOUS = {"state": TrialState.FAIL, "user_attrs": {SURPLUS: "too late"}}
COMPLETE: dict[str, Any] = {"value": 0.25}
PRUNED: dict[str, Any] = {"state": TrialState.PRUNED, "value": 0.5}
RUNNING = {"state": TrialState.RUNNING}
WAITING = {"state": TrialState.WAITING}


def add(study: Study, *trials: dict[str, Any]) -> None:
    """Trials that end a minute after each other."""
    for trial in trials:
        frozen = create_trial(**trial)
        if frozen.state.is_finished():
            minutes = len(study.get_trials())
            frozen.datetime_complete = BEGINNING + timedelta(minutes=minutes)
        study.add_trial(frozen)


def test_a_new_study(make_plan: MakePlan) -> None:
    plan = make_plan(objective="pareto")
    study = open_study(optuna.storages.InMemoryStorage(), "mine", plan, DATA)
    assert study.study_name == "mine"
    assert study.directions == plan.directions
    assert study.metric_names == plan.objectives
    assert study.user_attrs["data"] == DATA
    assert Plan.restore(study.user_attrs["plan"], "mine") == plan
    assert (study.user_attrs[STOPPED], study.user_attrs[FIRST]) == ("", 0)


def test_the_same_plan_goes_on(make_plan: MakePlan) -> None:
    storage = optuna.storages.InMemoryStorage()
    study = open_study(storage, "mine", make_plan(n_trials=3), DATA)
    add(study, COMPLETE, FAILED)
    study.set_user_attr(STOPPED, "Ctrl-C")
    again = open_study(storage, "mine", make_plan(n_trials=9, timeout=60), DATA)
    assert [trial.value for trial in again.trials] == [0.25, None]
    assert (again.user_attrs[STOPPED], again.user_attrs[FIRST]) == ("", 2)
    assert Plan.restore(again.user_attrs["plan"], "mine").settings.n_trials == 9


@pytest.mark.parametrize(
    ("fields", "fingerprint", "told"),
    [
        ({"seed": 3, "sampler": "random"}, DATA["fingerprint"], "another sampler, seed."),
        ({"objective": "pareto"}, DATA["fingerprint"], "another objective."),
        ({"space": {"components": [1, 2]}}, DATA["fingerprint"], "another space of components"),
        ({}, "0" * 16, "another dataset."),
    ],
)
def test_another_plan_needs_another_name(
    make_plan: MakePlan, fields: dict[str, Any], fingerprint: str, told: str
) -> None:
    storage, plan = optuna.storages.InMemoryStorage(), make_plan()
    study = open_study(storage, "mine", plan, DATA)
    study.set_user_attr(STOPPED, "Ctrl-C")
    with pytest.raises(UserError) as caught:
        open_study(storage, "mine", make_plan(**fields), DATA | {"fingerprint": fingerprint})
    assert f"There is a study mine with {told}" in str(caught.value)
    assert "another --study_name" in str(caught.value)
    assert Plan.restore(study.user_attrs["plan"], "mine") == plan
    assert study.user_attrs[STOPPED] == "Ctrl-C"
    open_study(storage, "other", make_plan(**fields), DATA)


def test_values_on_another_scale_are_not_compared(make_plan: MakePlan) -> None:
    """Trials of before told lifts over popularity."""
    plan, storage = make_plan(), optuna.storages.InMemoryStorage()
    study = open_study(storage, "before", plan, DATA)
    study.set_user_attr("told", "")
    open_study(storage, "before", plan, DATA)  # no trial has told anything
    study.set_user_attr("told", "")
    add(study, {"value": 0.25, "intermediate_values": {1: 1.13}})
    with pytest.raises(UserError, match=r"another scale.*--study_name"):
        open_study(storage, "before", plan, DATA)


def test_a_worker_joins(make_plan: MakePlan, make_study: MakeStudy, url: str) -> None:
    plan = make_plan("ncf", sampler="gp", pruner="hyperband", epochs=7, heartbeat=3)
    made = make_study(plan, open_storage(url, 3))
    study, joined = join_study(url, "a study", 4)
    assert joined == plan
    assert study.study_name == made.study_name
    assert isinstance(study.sampler, GPSampler)
    pruner = study.pruner
    assert isinstance(pruner, optuna.pruners.HyperbandPruner)
    assert (pruner._min_resource, pruner._max_resource) == (7, 28)
    assert study._storage.get_heartbeat_interval() == 3  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed to be used")
def test_workers_and_starts_begin_elsewhere(
    make_plan: MakePlan, make_study: MakeStudy, url: str
) -> None:
    made = make_study(make_plan(sampler="random"), open_storage(url, 15))

    def first(worker: int) -> float:
        study, _ = join_study(url, "a study", worker)
        return study.ask().suggest_float("x", 0, 1)

    made.sampler = optuna.samplers.RandomSampler()
    values = [first(0), first(1), first(0)]
    assert len(set(values)) == 3


def test_no_study_to_join(make_plan: MakePlan, url: str) -> None:
    storage = open_storage(url, 15)
    with pytest.raises(UserError, match=r"has no study mine\. It has: none"):
        join_study(url, "mine", 0)
    open_study(storage, "other", make_plan(), DATA)
    with pytest.raises(UserError, match=r"has no study mine\. It has: other"):
        join_study(url, "mine", 0)
    with pytest.raises(UserError, match="other has not begun yet: start 'tune' without a role"):
        join_study(url, "other", 0)


def test_counts(make_plan: MakePlan, make_study: MakeStudy) -> None:
    plan = make_plan()
    study = make_study(plan)
    add(study, COMPLETE, PRUNED, COMPLETE | {"value": 0.375}, FAILED, LOST, LOST, SUPERFLUOUS)
    add(study, RUNNING, WAITING, PRUNED)
    now = tally(study)
    assert (now.complete, now.pruned, now.done) == (2, 2, 4)
    assert (now.failed, now.lost, now.running, now.waiting) == (1, 2, 1, 1)
    assert now.best is not None
    assert now.best.number == 2
    assert now.in_words() == "best 0.3750 (trial 2), 2 pruned, 1 failed, 2 lost"
    words = "complete pruned complete failed lost lost lost running waiting pruned"
    assert states(study) == dict(enumerate(words.split()))


def test_counts_of_nothing(make_plan: MakePlan, make_study: MakeStudy) -> None:
    plan = make_plan()
    now = tally(make_study(plan))
    assert (now.done, now.best, now.in_words(), now.gave_up) == (0, None, "", "")


def test_no_best_below_the_floor(make_plan: MakePlan, make_study: MakeStudy) -> None:
    plan = make_plan(coverage_floor=0.5)
    study = make_study(plan)
    below = {"coverage_at_10": 0.25}
    add(study, COMPLETE | {"user_attrs": below, "constraints": {"coverage_floor": 0.25}})
    assert tally(study).best is None


def gave_up(make_plan: MakePlan, make_study: MakeStudy, *trials: dict[str, Any]) -> str:
    plan = make_plan()
    study = make_study(plan)
    add(study, *trials)
    return tally(study).gave_up


def test_failures_in_a_row(make_plan: MakePlan, make_study: MakeStudy) -> None:
    told = gave_up(make_plan, make_study, COMPLETE, *[FAILED] * FAILURES)
    assert told == "10 trials failed in a row; the last one, 10: ValueError: odd"
    for trials in (
        [FAILED] * (FAILURES - 1),
        [*[FAILED] * (FAILURES - 1), COMPLETE, FAILED],
        [*[FAILED] * (FAILURES - 1), PRUNED, FAILED],
        [LOST] * FAILURES,
        [SUPERFLUOUS] * FAILURES,
    ):
        assert gave_up(make_plan, make_study, *trials) == ""
    others = [LOST, SUPERFLUOUS, RUNNING]
    assert gave_up(make_plan, make_study, *[FAILED] * 5, *others, *[FAILED] * 5)


def test_a_row_is_one_in_time(make_plan: MakePlan, make_study: MakeStudy) -> None:
    """A long trial with a low number may end between later ones."""
    plan = make_plan()
    study = make_study(plan)
    long = create_trial(value=0.25)
    long.datetime_complete = BEGINNING + timedelta(minutes=5, seconds=30)
    study.add_trial(long)
    add(study, *[FAILED] * FAILURES)
    assert tally(study).gave_up == ""


def test_failures_before_the_last_start_do_not_count(
    make_plan: MakePlan, make_study: MakeStudy
) -> None:
    storage, plan = optuna.storages.InMemoryStorage(), make_plan()
    add(make_study(plan, storage), *[FAILED] * FAILURES)
    again = make_study(plan, storage)
    assert tally(again).gave_up == ""
    add(again, *[FAILED] * (FAILURES - 1))
    assert tally(again).gave_up == ""
    add(again, FAILED)
    assert tally(again).gave_up


def test_a_study_of_somebody_else_is_left_alone(make_plan: MakePlan, url: str) -> None:
    optuna.create_study(storage=url, study_name="theirs").optimize(lambda _: 1.0, n_trials=1)
    with pytest.raises(UserError, match="theirs in this storage was not made by 'tune'"):
        open_study(open_storage(url, 15), "theirs", make_plan(), DATA)
    (theirs,) = optuna.load_study(storage=url, study_name="theirs").trials
    assert theirs.value == 1.0


SPACE = {"components": {"low": 2, "high": 32, "log": True}}


def done(components: int) -> dict[str, Any]:
    distribution = optuna.distributions.IntDistribution(2, 32, log=True)
    return {
        "value": float(components),
        "params": {"components": components},
        "distributions": {"components": distribution},
    }


def test_a_space_is_widened_when_the_budget_is_taken(
    make_plan: MakePlan, make_study: MakeStudy
) -> None:
    plan = make_plan(space=SPACE, n_trials=2)
    study = make_study(plan)
    add(study, done(9))
    assert next_plan(study, tally(study)) == plan
    add(study, done(32))
    wider = next_plan(study, tally(study))
    assert wider.space == {"components": Range(low=2, high=128, log=True)}
    assert wider.budget == 2 + 5
    assert stored_plan(study) == wider
    assert study.user_attrs[WIDENED] == [
        "components: the best trial, 1, lay at the upper edge of its space, 32: widened to 128, "
        "5 more trials."
    ]
    queued = study.get_trials(states=(TrialState.WAITING,))
    assert [each.system_attrs["fixed_params"] for each in queued] == [
        {"components": 64},
        {"components": 128},
    ]
    assert next_plan(study, tally(study)) == wider
    assert len(study.get_trials()) == 4


def test_a_widened_study_goes_on_with_the_file_that_it_began_with(make_plan: MakePlan) -> None:
    storage, plan = optuna.storages.InMemoryStorage(), make_plan(space=SPACE, n_trials=2)
    study = open_study(storage, "mine", plan, DATA)
    add(study, done(9), done(32))
    assert not is_finished(study, plan, DATA["fingerprint"])
    next_plan(study, tally(study))
    again = open_study(storage, "mine", make_plan(space=SPACE, n_trials=4), DATA)
    assert stored_plan(again).space == {"components": Range(low=2, high=128, log=True)}
    assert stored_plan(again).budget == 4 + 5
    with pytest.raises(UserError, match="another space of components"):
        open_study(storage, "mine", make_plan(space={"components": [1, 2]}), DATA)


def test_running_trials_are_waited_for(make_plan: MakePlan, make_study: MakeStudy) -> None:
    """One of them may be the best."""
    plan = make_plan(space=SPACE, n_trials=2)
    study = make_study(plan)
    add(study, done(9), done(32), RUNNING)
    assert next_plan(study, tally(study)) == plan


def test_a_finished_study_is_found(make_plan: MakePlan) -> None:
    storage, plan = optuna.storages.InMemoryStorage(), make_plan(space=SPACE, n_trials=2)
    assert find_study(storage, "mine") is None
    study = open_study(storage, "mine", plan, DATA)
    add(study, done(9))
    assert not is_finished(study, plan, DATA["fingerprint"])
    add(study, done(8))
    found = find_study(storage, "mine")
    assert found is not None
    assert is_finished(found, plan, DATA["fingerprint"])
    assert not is_finished(found, plan, "0" * 16)
    assert not is_finished(found, make_plan(space=SPACE, n_trials=3), DATA["fingerprint"])
    assert not is_finished(found, make_plan(space=SPACE, n_trials=2, seed=1), DATA["fingerprint"])


@pytest.mark.parametrize(("wide_from", "attrs"), [((), {}), (("svd",), {"first_trial": True})])
def test_first_trials_are_queued_once(
    make_plan: MakePlan, wide_from: tuple[str, ...], attrs: dict[str, bool]
) -> None:
    """Beside other models they are the simple ones, which are not left for luck."""
    storage = optuna.storages.InMemoryStorage()
    first = [{"components": 4}, {"components": 7}]
    plan = make_plan(space=SPACE, first_trials=first, wide_from=wide_from)
    for _ in range(2):
        study = open_study(storage, "mine", plan, DATA)
    queued = study.get_trials()
    assert [each.system_attrs["fixed_params"] for each in queued] == plan.first_trials()
    assert all(each.user_attrs == attrs for each in queued)


def test_seconds_are_those_in_which_a_trial_ran(make_plan: MakePlan, make_study: MakeStudy) -> None:
    """Pauses between two starts of a study do not count, nor two workers twice."""
    study = make_study(make_plan(timeout=100))
    for start, end in ((0, 10), (5, 20), (6, 8), (1000, 1030)):
        trial = create_trial(value=0.5)
        trial.datetime_start = BEGINNING + timedelta(seconds=start)
        trial.datetime_complete = BEGINNING + timedelta(seconds=end)
        study.add_trial(trial)
    now = tally(study)
    assert now.seconds == 50
    assert [now.took_all(make_plan(timeout=each)) for each in (49, 51)] == [True, False]
