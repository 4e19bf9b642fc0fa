"""The studies whose results another learns beside: found finished, or run before it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pipeline.errors import UserError
from pipeline.tracking.runs import Run
from pipeline.tuning.objective import best_trial, configuration
from pipeline.tuning.opened import Data, Launch, fit_to, opened
from pipeline.tuning.plan import WIDE, Plan
from pipeline.tuning.storage import open_storage
from pipeline.tuning.study import find_study, is_finished, stored_plan
from pipeline.tuning.wide import Found, choices, with_choices

log = logging.getLogger("pipeline")


def fill_wide(
    plan: Plan, beside: Sequence[Plan], data: Data, launch: Launch, parent: Run | None
) -> Plan:
    """The plan with a choice of ``wide`` made of what the studies ``beside`` found.

    Those that are not finished are searched first, each with its own budget; one that fails is
    left out. A study that has begun goes on with the choices that it has.

    Raises:
        UserError: none of them found anything, or they choose on other windows.
    """
    if not beside or WIDE in plan.space:
        return plan
    name = launch.study_name(plan, data.fingerprint)
    begun = find_study(open_storage(launch.storage), name)
    if begun is not None and WIDE in (known := stored_plan(begun).space):
        return plan.model_copy(update={"space": {WIDE: known[WIDE], **plan.space}})
    own = Launch(launch.storage, None, launch.workers, launch.workers_per_gpu)
    found = []
    for each in beside:
        _require_same_windows(plan, each)
        try:
            found.append(_best(each, data, own, parent))
        except UserError as error:
            log.warning("%s is left out of %s: %s", each.name, WIDE, error)
    if not found:
        names = ", ".join(each.name for each in beside)
        raise UserError(f"Study {plan.name}: wide_from: none of {names} found a configuration.")
    texts = choices(found)
    log.info("%s: %s", WIDE, " | ".join(texts))
    return with_choices(plan, texts)


def _best(plan: Plan, data: Data, launch: Launch, parent: Run | None) -> Found:
    """The best configuration of a study; the test is not looked at for it."""
    plan = fit_to(plan, data)
    name = launch.study_name(plan, data.fingerprint)
    study = find_study(open_storage(launch.storage), name)
    if study is None or not is_finished(study, plan, data.fingerprint):
        with opened(plan, data, launch, parent) as being_searched:
            being_searched.search()
            study = being_searched.study
    best, _ = best_trial(study)
    return Found(configuration(plan, best.params, f"study {name}"), best.values[0])


def _require_same_windows(plan: Plan, other: Plan) -> None:
    ours, theirs = plan.experiment, other.experiment
    for name in ("windows", "k", "split"):
        if getattr(ours, name) != getattr(theirs, name):
            raise UserError(
                f"Study {plan.name}: wide_from: {other.name} has another {name}, so that what it "
                f"found cannot be compared: give both the same."
            )
