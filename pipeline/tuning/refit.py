"""After the budget: the best configuration on all of training, once on the test, registered."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from optuna.trial import FrozenTrial

from pipeline.config import Experiment, change
from pipeline.data.prepared import Prepared
from pipeline.tracking.registry import (
    Champion,
    Verdict,
    beats,
    measured,
    promote,
    registered_name,
)
from pipeline.tracking.runs import Run
from pipeline.tracking.trials import STUDY
from pipeline.tuning.edges import left
from pipeline.tuning.objective import EPOCHS, best_trial
from pipeline.tuning.opened import Data, OpenedStudy
from pipeline.tuning.plan import Plan
from pipeline.tuning.study import Tally

AT_EDGE = "at_edge"  # whether the best trial lies where its space ends and might go on
BELOW_FLOOR = "below_floor"  # whether no trial was broad enough, and the best one was taken
LOOKS = "test_evaluations"  # configurations of this study that have been seen on the test

log = logging.getLogger("pipeline")


@dataclass(frozen=True)
class Refitted:
    """What came of the best configuration."""

    best: FrozenTrial
    runs: list[Run]
    """One for each seed."""
    at_edge: bool
    """Whether it lies where its space ends and might go on."""
    notes: list[str]
    """What there is to say of the choice, a sentence each."""
    lines: list[str]
    """All of it in Markdown."""


@dataclass(frozen=True)
class Tuned:
    """What came of a study."""

    run: Run
    """The study's."""
    plan: Plan
    tally: Tally
    refitted: Refitted
    report: Path
    """A page to send."""


def refit(opened: OpenedStudy, data: Data, fit_once: Callable[[Experiment], Run]) -> Refitted:
    """Fit the best configuration with every seed, evaluate each once, register the first.

    What has been done before, for the same configuration, is found again and not done twice.

    Args:
        opened: the study.
        data: what it is on.
        fit_once: trains and evaluates an experiment, or finds it done; its run.

    Raises:
        UserError: no trial is complete.
    """
    study, plan, parent, prepared = opened.study, opened.plan, opened.parent, data.prepared
    best, below = best_trial(study)
    log.info("Best is trial %d: %s", best.number, best.params)
    at_edge = left(plan, best)
    notes = [*filter(None, [below]), *at_edge]
    for sentence in notes:
        log.warning("%s", sentence)
    parent.set_tags({BELOW_FLOOR: str(bool(below)).lower(), AT_EDGE: str(bool(at_edge)).lower()})
    looks = _count_looks(parent, best.number)
    runs = []
    for experiment in _seeds(plan, best.params, best.user_attrs.get(EPOCHS)):
        run = fit_once(experiment)
        run.set_tags({STUDY: study.study_name, "from_trial": str(best.number)})
        runs.append(run)
    metric = plan.experiment.selection_metric
    validation = fmean(run.metrics[f"val/{metric}"] for run in runs)
    names = [metric, f"hit_rate_at_{plan.experiment.k[0]}", plan.coverage_metric]
    promoted = _promote(runs[0], plan, prepared, validation)
    lines = [
        f"Trial {best.number} was refitted with {len(runs)} seeds and evaluated on the test:\n"
    ]
    lines += ["| test | mean | deviation |", "|---|---|---|"]
    for name in names:
        values = [run.metrics[f"test/{name}"] for run in runs]
        spread = stdev(values) if len(values) > 1 else 0.0
        lines.append(f"| {name} | {fmean(values):.4f} | {spread:.4f} |")
        parent.log_metrics({f"test/{name}": fmean(values)})
        log.info(
            "test %s: %.4f, deviation over %d seeds %.4f", name, fmean(values), len(values), spread
        )
    if looks > 1:
        lines.append(
            f"\n**The test has been looked at {looks} times in this study**, for so many best "
            f"trials: its figures flatter more with every look."
        )
    page = [f"{sentence}\n" for sentence in notes]
    return Refitted(best, runs, bool(at_edge), notes, [*page, *lines, f"\n{promoted}\n"])


def _seeds(plan: Plan, params: dict[str, object], epochs: int | None) -> list[Experiment]:
    """The best configuration with a fixed number of epochs, once per seed."""
    fields = {**params} if epochs is None else {**params, EPOCHS: epochs, "patience": None}
    tuned = change(plan.experiment, fields, "the best trial")
    tuned = tuned.model_copy(update={"name": f"{plan.name}_tuned"})
    return [
        tuned.model_copy(update={"seed": tuned.seed + number})
        for number in range(plan.settings.n_seeds)
    ]


def _count_looks(parent: Run, trial: int) -> int:
    seen = set(filter(None, parent.tags.get(LOOKS, "").split(",")))
    seen.add(str(trial))
    parent.set_tags({LOOKS: ",".join(sorted(seen, key=int))})
    return len(seen)


def _promote(run: Run, plan: Plan, prepared: Prepared, validation: float) -> str:
    """Register the first seed's model, and make it the champion where validation says so.

    What is compared is the mean over seeds: one seed may have been lucky.
    """
    name = plan.settings.model_name or registered_name(plan.name, prepared.dataset.name)
    metric = plan.experiment.selection_metric
    fingerprint, windows = prepared.dataset.fingerprint, plan.experiment.windows
    tags = measured(f"val/{metric}", validation, fingerprint, windows)

    def judge(holder: Champion | None, _: str) -> Verdict:
        wins, why = beats(tags, holder)
        notes = "Chosen on validation, by a mean over seeds; no test of significance was made."
        met = {} if holder is None else {
            "comparison_metric": f"val/{metric}",
            "comparison_version": holder.version,
            "comparison_run": holder.run_id,
        }  # fmt: skip
        return Verdict(wins, why, met, notes)

    text = promote(run, name, tags, judge)
    log.info("%s", text)
    return text
