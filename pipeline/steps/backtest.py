"""backtest: the same settings, refitted at several cuts in time that nobody tuned on.

    cut .8   |##### training #####|------------------ test ------------------|
    cut .85  |######## training ########|--------------- test ---------------|
    cut .9   |########### training ###########|------------ test ------------|
    cut .95  |############## training ##############|--------- test ---------|

Each test is all that is later than its cut, the same that ``train --test_cut .9`` and ``evaluate``
have. So tests overlap, and users come again: the test over all cuts has users as its clusters.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import numpy as np

from pipeline.compare import figures
from pipeline.compare.comparison import compare_runs
from pipeline.compare.entrants import Entrant, admitted
from pipeline.compare.over_time import Backtest, Cut, Refitted
from pipeline.compare.over_time_tables import csv, section
from pipeline.compare.report import of_backtest
from pipeline.config import Experiment
from pipeline.console import console, show_line, timed, waiting
from pipeline.data.prepared import load
from pipeline.data.raw.reading import Reading
from pipeline.data.split_settings import Quantile
from pipeline.drawing import Drawn
from pipeline.errors import UserError
from pipeline.evaluation.prepared import prepare_and_tell
from pipeline.evaluation.warnings import BACKTEST_HOLDS
from pipeline.settings import AUTO, Settings
from pipeline.steps.entrants import data_of, of_file, of_run
from pipeline.steps.evaluate import evaluate
from pipeline.steps.inputs import Inputs
from pipeline.steps.report import keep_report, links_to, made_by, show_report
from pipeline.steps.train import train
from pipeline.tracking.links import how_to_see, run_address
from pipeline.tracking.runs import Run
from pipeline.tracking.search import get_evaluated
from pipeline.tracking.store import delivering
from pipeline.tracking.track import track

BACKTEST = "backtest"  # the step, and the tag of runs whose settings were refitted in one

log = logging.getLogger("pipeline")


class BacktestSettings(Settings):
    """Where to cut, and what to look at."""

    cuts: tuple[Quantile, ...] = (0.8, 0.85, 0.9, 0.95)
    """Quantiles of all timestamps at which training ends."""
    metric: str = "ndcg_at_10"
    """Of accuracy, with its k."""
    baseline: str | None = None
    """A run's id or an experiment; without it the best is compared with."""


def backtest(
    run_ids: Sequence[str],
    experiments: Sequence[Experiment],
    dataset: str,
    reading: Reading,
    settings: BacktestSettings,
    *,
    reuse: bool = True,
) -> None:
    """Refit runs and experiments at every cut, test them there, and log what holds over time.

    Runs are refitted on their own data where ``dataset`` is auto and there are no experiments.

    Raises:
        UserError: there is nothing to refit, it cannot be ranked together, or the data are not
            split in time or not by these cuts.
    """
    with delivering():  # first of what the runs' processes may have left
        runs = [(Run(run_id), Inputs.of(Run(run_id))) for run_id in dict.fromkeys(run_ids)]
        found = [*(of_run(*each) for each in runs), *(of_file(each) for each in experiments)]
    if not found:
        raise UserError(
            "Give --run_ids of finished runs, --experiments (files), a --suite or a --model."
        )
    entrants = admitted(found, settings.metric, settings.baseline)
    if dataset == AUTO and runs and not experiments:
        dataset, reading = data_of(runs)
    cuts = _prepared(dataset, entrants[0], settings.cuts, reading, reuse=reuse)
    tags = {"step": BACKTEST, "model": "none", "dataset": cuts[0].dataset}
    with track(BACKTEST, tags) as run:
        run.log_params({"dataset": dataset, **settings.model_dump()})
        at_cuts = [
            _refitted(entrants, cut, dataset, reading, settings.metric, run, reuse=reuse)
            for cut in cuts
        ]
        result = Backtest.of(settings.metric, cuts, _joined(at_cuts), settings.baseline)
        page = run_address(run)
        ids = (
            (f"{each.name} at {cut.name}", run_id)
            for row in result.rows
            for cut, each in zip(cuts, row, strict=True)
            for run_id in each.run_ids
        )
        links = [("this backtest", page), *links_to(ids)]
        with waiting(f"Comparing over {len(cuts)} cuts"):
            drawn = _log(run, result)
            kept = keep_report(of_backtest(result, drawn, links, made_by(run)), run)
    _tell_runs(run, result)
    section(result, detailed=False).show(console)
    show_line(f"See it: {how_to_see(page)}")
    show_report(kept)


def _prepared(
    dataset: str, entrant: Entrant, quantiles: Sequence[float], reading: Reading, *, reuse: bool
) -> list[Cut]:
    """Every cut of the data, before the first fit: one that leaves no test is an error at once.

    Raises:
        UserError: as ``prepare_and_tell``, the split is none in time, or cuts are the same.
    """
    cuts: list[Cut] = []
    for quantile in sorted(set(quantiles)):
        split = entrant.at(quantile).split
        made = prepare_and_tell(dataset, split, reading, reuse=reuse).dataset
        if not made.protocol.startswith("time-"):
            raise UserError(
                f"{dataset} is split {made.protocol}: a backtest moves a cut in time, and this "
                f"split has none. Give the ratings themselves, with their times."
            )
        if made.split.word != split.settled(is_timed=True).word:
            raise UserError(
                f"The cut {quantile:g} of {dataset} leaves no user with at least "
                f"{split.least_training} training and {split.least_held_out} held-out "
                f"interactions, and all cuts are to be judged by the same: leave it out of "
                f"--cuts, or give a smaller --min_held_out."
            )
        moment = int(made.train["timestamp"].max())
        if cuts and moment == cuts[-1].moment:
            raise UserError(
                f"The cuts {cuts[-1].name} and {quantile:g} are the same moment of {dataset}: "
                f"leave one out of --cuts."
            )
        cuts.append(Cut(quantile, moment, made.name, made.fingerprint))
    if not cuts:
        raise UserError("cuts is empty: expected quantiles of time, as in --cuts .8,.85,.9,.95")
    return cuts


def _refitted(
    entrants: Sequence[Entrant],
    cut: Cut,
    dataset: str,
    reading: Reading,
    metric: str,
    parent: Run,
    *,
    reuse: bool,
) -> list[Refitted]:
    """All entrants, trained and evaluated at one cut; seeds of an experiment are one."""
    prepared = load(cut.fingerprint)
    by_run: dict[str, Entrant] = {}
    with timed(f"cut {cut.name} done"):
        for entrant in entrants:
            experiment = entrant.at(cut.quantile)
            inputs = Inputs(experiment, dataset, reading, cut.fingerprint)
            title = experiment.title(["test_cut", "seed"])
            trained = train(
                inputs, prepared, reuse=reuse, parent=parent, step=BACKTEST, title=title
            )
            evaluate(trained, prepared, reuse=reuse)
            by_run.setdefault(trained.run.id, entrant)
    compared = compare_runs(get_evaluated(list(by_run)), metric, None)
    ranked = {run_id for row in compared.rows for run_id in row.run_ids}
    if missing := [by_run[run_id].experiment.name for run_id in by_run if run_id not in ranked]:
        raise UserError(
            f"At cut {cut.name} {', '.join(missing)} cannot be ranked with the others: "
            f"'compare --run_ids {','.join(by_run)}' says why."
        )
    made = prepared.dataset
    users = np.sort(made.users["user"].to_numpy()[made.test_users])
    values = compared.values[:, :, compared.tested.index(compared.metric)]
    return [
        Refitted(row.name, row.model, row.run_ids, [by_run[i] for i in row.run_ids], users, own)
        for row, own in zip(compared.rows, values.T, strict=True)
    ]


def _joined(at_cuts: Sequence[Sequence[Refitted]]) -> list[list[Refitted]]:
    """A row per experiment, with what it is at each cut, whatever it was ranked there."""
    rows = []
    for first in at_cuts[0]:
        same = [
            next(each for each in found if first.entrants[0] in each.entrants) for found in at_cuts
        ]
        rows.append(same)
    return rows


def _log(run: Run, result: Backtest) -> Drawn:
    """Log what came out; the figure of it."""
    for c, cut in enumerate(result.cuts):
        means = {
            f"{BACKTEST}/{_key(name)}/{result.metric}": float(result.at.mean[i, c])
            for i, name in enumerate(result.names)
        }
        # A chart over time in the UI is one over the time of the data.
        run.log_metrics(means, step=round(1000 * cut.quantile), time=1000 * cut.moment)
    text = section(result, detailed=True).markdown()
    run.log_text(text, "backtest.md")
    run.log_text(csv(result), "backtest.csv")
    heads = [
        f"{c.name}\n{c.date}\n{users:,} users"
        for c, users in zip(result.cuts, result.tested, strict=True)
    ]
    ends = result.at.mean, result.at.low, result.at.high
    drawn = figures.over_time(
        result.names, heads, *ends, metric=result.metric, baseline=result.baseline
    )
    run.log_figure(drawn, "figures/over_time.png")
    run.describe(text)
    return drawn


def _tell_runs(run: Run, result: Backtest) -> None:
    """Leave with the runs whose settings were refitted what came of them, for ``compare``."""
    with delivering():
        for i, row in enumerate(result.rows):
            tags = {BACKTEST: run.id, BACKTEST_HOLDS: result.in_words(i)}
            for entrant in row[0].entrants:
                if entrant.run_id is not None:
                    Run(entrant.run_id).set_tags(tags)


def _key(name: str) -> str:
    """A name as MLflow takes it in a metric's."""
    return re.sub(r"[^\w. -]", "_", name)
