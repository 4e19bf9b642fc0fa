"""tune: a study. The launcher: it owns the study and its run, and starts the workers.

    launcher   opens the study and its run, starts workers and watches them (tuning/opened.py)
    workers    take trials from the study until its budget is taken (tuning/trials.py)
    launcher   refits the best configuration, evaluates it once, registers it (tuning/refit.py)

All that the two sides share is the storage and the tracking server, so that a worker may be on
any host, and either side may be killed and started again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import optuna

from pipeline.config import Experiment
from pipeline.console import console, house_table, waiting
from pipeline.space import short
from pipeline.steps.evaluate import evaluate
from pipeline.steps.inputs import Inputs
from pipeline.steps.notes import popularity_of
from pipeline.steps.report import keep_report, links_to, made_by
from pipeline.steps.train import train
from pipeline.tracking.links import run_address
from pipeline.tracking.runs import Run
from pipeline.tuning.beside import fill_wide
from pipeline.tuning.opened import Data, Launch, OpenedStudy, fit_to, opened
from pipeline.tuning.plan import Plan
from pipeline.tuning.refit import Refitted, Tuned, refit
from pipeline.tuning.study import tally
from pipeline.tuning.study_page import of_study
from pipeline.tuning.suggestions import distributions, make_sampler, suggest

SUGGESTIONS = 5  # that a dry run shows


def tune(
    plan: Plan,
    data: Data,
    launch: Launch,
    *,
    beside: Sequence[Plan] = (),
    parent: Run | None = None,
) -> Tuned:
    """Begin a study or go on with it, up to its budget; then refit, evaluate and register.

    ``beside`` are the studies of ``wide_from``, which come first.

    Raises:
        UserError: the storage cannot be used, another study has the name, or all trials fail.
    """
    plan = fit_to(fill_wide(plan, beside, data, launch, parent), data)
    with opened(plan, data, launch, parent) as study:
        study.search()
        refitted = refit(study, data, lambda each: train_and_evaluate(each, data, study.parent))
        study.report.results = refitted.lines
        with waiting("Writing the report"):
            kept = _report(study, data, refitted)
        return Tuned(study.parent, study.plan, tally(study.study), refitted, kept)


def _report(study: OpenedStudy, data: Data, refitted: Refitted) -> Path:
    run, popular = study.parent, popularity_of(refitted.runs[0])
    links = [("this study", run_address(run)), *links_to((r.name, r.id) for r in refitted.runs)]
    page = of_study(study, data.prepared.dataset, refitted, popular, links, made_by(run))
    return keep_report(page, run)


def train_and_evaluate(experiment: Experiment, data: Data, parent: Run) -> Run:
    """The run of an experiment on all of training, evaluated once; found where it is there.

    Raises:
        UserError: as of both steps.
    """
    inputs = Inputs(experiment, data.asked, data.reading, data.fingerprint)
    title = experiment.title(["seed"])
    trained = train(inputs, data.prepared, parent=parent, title=title)
    evaluate(trained, data.prepared)
    return trained.run


def dry_run(plan: Plan) -> None:
    """Show the space, and what the sampler would suggest first; nothing is run or stored."""
    study = optuna.create_study(directions=plan.directions, sampler=make_sampler(plan))
    space = distributions(plan)
    suggested = [suggest(study.ask(), space) for _ in range(min(SUGGESTIONS, plan.budget))]
    table = house_table(
        *("field", "space", *(f"{number + 1}" for number in range(len(suggested)))),
        title=f"{plan.name}: {plan.budget} trials for {', '.join(plan.objectives)}",
    )
    for name, entry in plan.space.items():
        table.add_row(name, entry.in_words(), *(short(values[name]) for values in suggested))
    console.print(table)
