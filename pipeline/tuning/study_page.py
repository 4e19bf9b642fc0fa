"""The report on a study: what was searched, what was chosen, how good that is on the test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from pipeline.compare.report import OTHER_DATA, OTHER_SEED, Report
from pipeline.compare.tables import Section
from pipeline.data.dataset import Dataset
from pipeline.evaluation.metrics import METRICS
from pipeline.evaluation.names import at
from pipeline.space import short
from pipeline.tuning import edges
from pipeline.tuning.figures import study_figures
from pipeline.tuning.opened import OpenedStudy
from pipeline.tuning.refit import Refitted
from pipeline.tuning.study import tally
from pipeline.tuning.trial_table import best_trials


def of_study(
    opened: OpenedStudy,
    dataset: Dataset,
    refitted: Refitted,
    popular: dict[str, float],
    links: Sequence[tuple[str, str]],
    made: str,
) -> Report:
    """The report, once the best configuration is refitted and tested.

    ``popular`` is what the most popular items have on the same test, by the metric's name.
    """
    study, plan, best = opened.study, opened.plan, refitted.best
    now, metric = tally(study), plan.experiment.selection_metric
    chosen = ", ".join(f"{name} {short(value)}" for name, value in best.params.items())
    windows = ", ".join(f"{each:g}" for each in plan.experiment.windows)
    trials = best_trials(study, plan)
    return Report(
        f"{plan.name} on {dataset.name}, tuned",
        f"Of {now.done} trials, trial {best.number} is best on validation, with {metric} "
        f"{best.values[0]:.4f}: {chosen}.",
        [
            ("Model", f"{plan.experiment.name} ({plan.experiment.model})"),
            ("Data", f"{dataset.name}, fingerprint {dataset.fingerprint}"),
            ("Split", f"{dataset.protocol}; validation windows {windows} of the training part"),
            ("Test", f"{len(dataset.test_users):,} users, looked at once for what was chosen"),
            ("Maximised", f"{' and '.join(plan.objectives)}, mean over windows"),
            ("Space", "; ".join(f"{name}: {each.in_words()}" for name, each in plan.space.items())),
            ("Trials", f"{now.complete} complete, {now.pruned} given up early"),
        ],
        [*_found(refitted, metric, popular)],
        [
            f"That {best.values[0]:.4f} is what it has elsewhere: it is the best of {now.done} "
            f"trials on the same windows, and flatters by that.",
            "Whether it differs from other models by more than chance: no test was made here, "
            "compare makes it.",
            *edges.widenings(plan),
            *refitted.notes,
            *([OTHER_SEED] if len(refitted.runs) == 1 else []),
            OTHER_DATA,
        ],
        [_tested(refitted, plan.experiment.k[0], popular), _trials(trials)],
        list(study_figures(study, plan).values()),
        links,
        made,
    )


def _found(refitted: Refitted, metric: str, popular: dict[str, float]) -> Iterator[str]:
    name = f"test/{metric}"
    values = [run.metrics[name] for run in refitted.runs]
    seeds = f"mean of {len(values)} seeds" if len(values) > 1 else "one seed"
    said = (
        f"Fitted on all of training, it reaches {metric} {fmean(values):.4f} on the test ({seeds})"
    )
    if name in popular:
        said += f"; the list of the most popular items has {popular[name]:.4f} there"
    yield said + "."


def _tested(refitted: Refitted, k: int, popular: dict[str, float]) -> Section:
    """The refitted runs on the test, and popularity."""
    shown = [metric for metric in METRICS if metric.heading]
    keys = [f"test/{at(metric, k)}" for metric in shown]
    rows = [(run.name, run.metrics) for run in refitted.runs]
    rows += [("most_popular", popular)] if popular else []
    return Section(
        f"Test, at {k}",
        ["", *(metric.heading for metric in shown)],
        [
            [
                (name, False),
                *((f"{values[key]:.4f}" if key in values else "", False) for key in keys),
            ]
            for name, values in rows
        ],
        [],
        [],
    )


def _trials(table: Sequence[Sequence[str]]) -> Section:
    heads, *rows = table
    marked = [[(cell, place == 0) for cell in row] for place, row in enumerate(rows)]
    return Section("The best trials, on validation", list(heads), marked, [], [])
