"""A suite of studies: every family with the same budget, then the comparison, on one page.

Each study is a study and a run of its own, under one parent run, so that the same command goes on
where it was. A family that fails is left out, with the reason; the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pipeline.compare.comparison import compare_runs
from pipeline.config import Experiment
from pipeline.console import console, timed, waiting
from pipeline.data.raw.reading import Reading
from pipeline.errors import UserError
from pipeline.steps.compare import compare
from pipeline.steps.tune import train_and_evaluate, tune
from pipeline.tracking.datasets import dataset_tags, settled
from pipeline.tracking.runs import Run
from pipeline.tracking.search import get_evaluated
from pipeline.tracking.track import track
from pipeline.tracking.trials import STUDY, find_parent
from pipeline.tuning.opened import Data, Launch
from pipeline.tuning.page import Outcome, families, page
from pipeline.tuning.plan import Plan
from pipeline.tuning.suite import Suite

PAGE = "everything.md"
FAILURES = (UserError, MemoryError)  # of one family, which the others do not mind

log = logging.getLogger("pipeline")


def everything(suite: Suite, dataset: str, reading: Reading, launch: Launch) -> None:
    """Tune every family of a suite, or go on with that, and compare what was refitted.

    Raises:
        UserError: the dataset cannot be had, or no family came to a result.
    """
    first = suite.experiments[0]
    data = Data.find(first, dataset, reading)
    windows = data.windowed(first).windows
    name = f"{suite.name}-{data.fingerprint[:8]}"
    log.info("%s: %s.", name, suite.in_words())
    about = dataset_tags(data.prepared.dataset)
    tags = {"step": "everything", "model": "none", STUDY: name, **about}
    with track(f"tune {name}", tags, resume=find_parent(name)) as parent:
        params = {"dataset": dataset, **suite.given}
        parent.log_params(settled(params, data.prepared.dataset))
        outcomes = [_fixed(each, data, parent) for each in suite.fixed]
        for plan, beside in suite.studies:
            with timed(f"{plan.name} done"):
                outcomes.append(_tuned(plan, beside, data, launch, parent))
        run_ids = [run.id for each in outcomes for run in each.runs]
        if not run_ids:
            raise UserError(f"{name}: no family came to a result: {outcomes[0].failed}")
        metric = first.selection_metric
        with waiting(f"Comparing {len(run_ids)} runs"):
            rows = compare_runs(get_evaluated(run_ids), metric, None).rows
        table = families(outcomes, rows)
        note = compare(run_ids=run_ids, metric=metric, parent=parent, report=True, before=[table])
        text = page(suite, data.prepared.dataset, windows, outcomes, rows)
        parent.log_text(f"{text}\n{note}", PAGE)
        parent.describe(text)
        table.show(console)


def _fixed(experiment: Experiment, data: Data, parent: Run) -> Outcome:
    """A row without a study."""
    data = data.under(experiment)
    experiment = data.windowed(experiment)
    try:
        run = train_and_evaluate(experiment, data, parent)
    except FAILURES as error:
        return _left_out(experiment.name, error)
    return Outcome(experiment.name, runs=[run])


def _tuned(plan: Plan, beside: Sequence[Plan], data: Data, launch: Launch, parent: Run) -> Outcome:
    """A row of a study."""
    try:
        tuned = tune(plan, data.under(plan.experiment), launch, beside=beside, parent=parent)
    except FAILURES as error:
        return _left_out(plan.name, error)
    return Outcome(plan.name, tuned=tuned, runs=tuned.refitted.runs)


def _left_out(name: str, error: BaseException) -> Outcome:
    why = str(error) or type(error).__name__
    log.warning("%s is left out: %s", name, why)
    return Outcome(name, failed=why)
