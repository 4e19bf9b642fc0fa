"""A study in its storage: made or gone on with, and how far it is.

The study holds all that a worker needs to join it: the plan, the data, the parent run. Nothing but
the storage and the tracking server is shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.database import shown
from pipeline.errors import UserError
from pipeline.tuning.chosen import SIMPLE, find_best
from pipeline.tuning.edges import probes, widening, widenings
from pipeline.tuning.objective import window_steps
from pipeline.tuning.plan import Plan
from pipeline.tuning.storage import open_storage
from pipeline.tuning.suggestions import make_pruner, make_sampler

PLAN, DATA, PARENT_RUN = "plan", "data", "parent_run"
WIDENED = "widened"  # which ends of the space were moved, in words
READY = "ready"  # whether the parent run has all that a worker needs
STOPPED = "stopped"  # why no further trial is to begin, if so
FIRST = "first"  # number of the first trial since the study was started last
ERROR = "error"  # of a trial that failed by itself
REPORTED, EXPECTED = "told", "the objective to be expected"  # by trials, before their end
SURPLUS = "surplus"  # of a trial that began when the budget was already taken
FAILURES = 10  # in a row, after which the study itself is at fault


def open_study(storage: BaseStorage, name: str, plan: Plan, data: dict[str, Any]) -> Study:
    """The study called ``name``: a new one, or the one that is there, if it is of the same plan.

    ``data`` is what a worker needs to find the dataset again.

    Raises:
        UserError: there is a study with this name and another plan or other data.
    """
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=plan.directions,
        load_if_exists=True,
        sampler=make_sampler(plan),
    )
    known, trials = study.user_attrs, study.get_trials(deepcopy=False)
    if PLAN not in known and trials:
        raise UserError(
            f"The study {name} in this storage was not made by 'tune': give another --study_name."
        )
    if PLAN in known:
        stored = stored_plan(study)
        differing = stored.differences(plan)
        differing += ["dataset"] if known[DATA]["fingerprint"] != data["fingerprint"] else []
        if differing:
            raise UserError(
                f"There is a study {name} with another {', '.join(differing)}. Give the same "
                f"to go on with it, or another --study_name to begin a new one."
            )
        if known.get(REPORTED) != EXPECTED and any(each.intermediate_values for each in trials):
            raise UserError(
                f"Trials of study {name} reported their values on another scale, as before this "
                f"version, and the pruner would compare both: begin a new one with --study_name."
            )
        plan = plan.widen(stored.widened)
    study.set_metric_names(plan.objectives)
    study.set_user_attr(DATA, data)
    study.set_user_attr(PLAN, plan.model_dump(mode="json"))
    study.set_user_attr(REPORTED, EXPECTED)
    study.set_user_attr(STOPPED, "")
    study.set_user_attr(FIRST, len(trials))
    simple = {SIMPLE: True} if plan.settings.wide_from else {}
    for params in plan.first_trials():
        study.enqueue_trial(params, simple, skip_if_exists=True)
    return study


def find_study(storage: BaseStorage, name: str) -> Study | None:
    """The study called ``name`` that ``tune`` has made, if there is one; it is left as it is."""
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return None
    return study if PLAN in study.user_attrs else None


def is_finished(study: Study, plan: Plan, fingerprint: str) -> bool:
    """Whether a study has searched just this, on these data, with all of the budget."""
    stored, now = stored_plan(study), tally(study)
    is_same = not stored.differences(plan) and study.user_attrs[DATA]["fingerprint"] == fingerprint
    plan = plan.widen(stored.widened)
    is_left = now.running or not now.took_all(plan) or widening(plan, now.best)
    return is_same and bool(now.complete) and not is_left


def stored_plan(study: Study) -> Plan:
    """The plan as it is now: whoever goes on with a study may give it more budget."""
    return Plan.restore(study.user_attrs[PLAN], f"study {study.study_name}")


def next_plan(study: Study, now: Tally) -> Plan:
    """The plan for the trials to come: widened once, where its budget is taken and ``now`` has the
    best trial at the edge of the space.

    Any number of processes may do this at once: all come to the same.
    """
    plan = stored_plan(study)
    ends = widening(plan, now.best) if now.took_all(plan) and not now.running else ()
    if not ends:
        return plan
    plan = plan.widen(ends)
    study.set_user_attr(PLAN, plan.model_dump(mode="json"))
    study.set_user_attr(WIDENED, widenings(plan))
    assert now.best is not None
    for params in probes(plan, now.best):
        study.enqueue_trial(params, skip_if_exists=True)
    return plan


def join_study(url: str, name: str, worker: int) -> tuple[Study, Plan]:
    """The study called ``name`` and its plan, with the sampler and pruner of a worker.

    Raises:
        UserError: there is none, or no launcher has begun it.
    """
    storage = open_storage(url)
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        known = ", ".join(optuna.get_all_study_names(storage)) or "none"
        raise UserError(f"The storage {shown(url)} has no study {name}. It has: {known}.") from None
    if not study.user_attrs.get(READY):
        raise UserError(f"Study {name} has not begun yet: start 'tune' without a role first.")
    plan = stored_plan(study)
    steps = window_steps(plan)
    joined = optuna.load_study(
        study_name=name,
        storage=open_storage(url, plan.settings.heartbeat),
        sampler=make_sampler(plan, worker, len(study.get_trials(deepcopy=False))),
        pruner=make_pruner(plan, steps, steps * len(plan.experiment.windows)),
    )
    return joined, plan


@dataclass(frozen=True)
class Tally:
    """How far a study is."""

    complete: int
    pruned: int
    failed: int
    """Ended by an error of their own."""
    lost: int
    """Ended from outside, and run again."""
    running: int
    waiting: int
    best: FrozenTrial | None
    failures: Sequence[FrozenTrial]
    """The last ones in a row, since the study was started last."""
    seconds: float
    """In which at least one trial ran."""

    @property
    def done(self) -> int:
        """Trials that count."""
        return self.complete + self.pruned

    def took_all(self, plan: Plan) -> bool:
        """Whether the budget is taken: its trials, or its time."""
        return self.done >= plan.budget or self.seconds >= plan.seconds

    @property
    def gave_up(self) -> str:
        """Why the study is to stop, if its trials only fail."""
        if len(self.failures) < FAILURES:
            return ""
        error = self.failures[-1].user_attrs[ERROR]
        return (
            f"{FAILURES} trials failed in a row; the last one, {self.failures[-1].number}: {error}"
        )

    def in_words(self) -> str:
        """The counts and the best value in a few words."""
        words = [f"best {self.best.values[0]:.4f} (trial {self.best.number})"] if self.best else []
        counts = {"pruned": self.pruned, "failed": self.failed, "lost": self.lost}
        return ", ".join([*words, *(f"{count} {word}" for word, count in counts.items() if count)])


def tally(study: Study) -> Tally:
    """Count the trials of a study."""
    trials = study.get_trials(deepcopy=False)
    count = {state: sum(each.state == state for each in trials) for state in TrialState}
    failed = [each for each in trials if each.state == TrialState.FAIL and ERROR in each.user_attrs]
    surplus = sum(SURPLUS in each.user_attrs for each in trials)
    return Tally(
        complete=count[TrialState.COMPLETE],
        pruned=count[TrialState.PRUNED],
        failed=len(failed),
        lost=count[TrialState.FAIL] - len(failed) - surplus,
        running=count[TrialState.RUNNING],
        waiting=count[TrialState.WAITING],
        best=find_best(trials),
        failures=_failures_in_a_row(trials, study.user_attrs.get(FIRST, 0)),
        seconds=_seconds(trials),
    )


def _seconds(trials: Sequence[FrozenTrial]) -> float:
    """The length of the union of the times in which the trials ran, or run."""
    begun = [(each.datetime_start, each.datetime_complete) for each in trials]
    spans = [(start, end or datetime.now()) for start, end in begun if start is not None]
    seconds, until = 0.0, datetime.min
    for start, end in sorted(spans):
        seconds += max(0.0, (end - max(start, until)).total_seconds())
        until = max(until, end)
    return seconds


def states(study: Study) -> dict[int, str]:
    """Every trial's state in a word, by number: as Optuna's, but a FAIL is failed or lost."""
    words = {}
    for each in study.get_trials(deepcopy=False):
        word = each.state.name.lower()
        if each.state == TrialState.FAIL:
            word = "failed" if ERROR in each.user_attrs else "lost"
        words[each.number] = word
    return words


def _failures_in_a_row(trials: Sequence[FrozenTrial], first: int) -> list[FrozenTrial]:
    ended = [each for each in trials if each.number >= first and each.datetime_complete]
    ended.sort(key=lambda each: str(each.datetime_complete))
    row: list[FrozenTrial] = []
    for each in ended:
        if each.state != TrialState.FAIL:
            row = []
        elif ERROR in each.user_attrs:
            row.append(each)
    return row
