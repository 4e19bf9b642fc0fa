"""A suite of studies: every family with the same budget, then the comparison, on one page.

Each study is a study and a run of its own, under one parent run, so that the same command goes on
where it was. A family that fails is left out, with the reason; the others go on.
"""

from __future__ import annotations

import logging

from pipeline.config import Experiment
from pipeline.console import console, timed
from pipeline.data.reading import Reading
from pipeline.errors import UserError
from pipeline.steps.compare import compare
from pipeline.steps.comparison import compare_runs
from pipeline.steps.evaluate import evaluate
from pipeline.steps.everything_page import Outcome, page
from pipeline.steps.inputs import Inputs
from pipeline.steps.opened_study import Launch
from pipeline.steps.prepare import dataset_tags, find_prepared
from pipeline.steps.train import train
from pipeline.steps.tune import tune
from pipeline.tracking.runs import Run
from pipeline.tracking.search import get_evaluated
from pipeline.tracking.track import track
from pipeline.tracking.trials import STUDY, find_parent
from pipeline.tuning.suite import Suite

PAGE = "everything.md"

log = logging.getLogger("pipeline")


def everything(suite: Suite, dataset: str, reading: Reading, launch: Launch) -> None:
    """Tune every family of a suite, or go on with that, and compare what was refitted.

    Raises:
        UserError: the dataset cannot be had, or no family came to a result.
    """
    first = suite.experiments[0]
    prepared = find_prepared(dataset, first.split, reading)
    name = f"{suite.name}-{prepared.dataset.fingerprint[:8]}"
    log.info("%s: %s.", name, suite.told())
    tags = {"step": "everything", "model": "none", STUDY: name, **dataset_tags(prepared.dataset)}
    with track(f"tune {name}", tags, resume=find_parent(name)) as parent:
        parent.log_params({"dataset": dataset, **suite.settings.model_dump(mode="json")})
        outcomes = [_fixed(each, dataset, reading, parent) for each in suite.fixed]
        for plan, beside in suite.studies:
            with timed(f"{plan.name} done"):
                try:
                    tuned = tune(plan, dataset, reading, launch, beside=beside, parent=parent)
                    outcomes.append(Outcome(plan.name, tuned=tuned, runs=tuned.refitted.runs))
                except UserError as error:
                    log.warning("%s is left out: %s", plan.name, error)
                    outcomes.append(Outcome(plan.name, failed=str(error)))
        run_ids = [run.id for each in outcomes for run in each.runs]
        if not run_ids:
            raise UserError(f"{name}: no family came to a result: {outcomes[0].failed}")
        metric = first.selection_metric
        rows = compare_runs(get_evaluated(run_ids), metric, None).rows
        note = compare(run_ids=run_ids, metric=metric, parent=parent)
        text = page(suite, prepared, outcomes, rows)
        parent.log_text(f"{text}\n{note}", PAGE)
        parent.describe(text)
        console.print(text, soft_wrap=True, markup=False)


def _fixed(experiment: Experiment, dataset: str, reading: Reading, parent: Run) -> Outcome:
    """A row without a study."""
    prepared = find_prepared(dataset, experiment.split, reading)
    inputs = Inputs(experiment, dataset, reading, prepared.dataset.fingerprint)
    try:
        trained = train(inputs, prepared, parent=parent)
        evaluate(trained, prepared)
    except UserError as error:
        log.warning("%s is left out: %s", experiment.name, error)
        return Outcome(experiment.name, failed=str(error))
    return Outcome(experiment.name, runs=[trained.run])
