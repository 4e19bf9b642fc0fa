"""compare: which differences between evaluated models are real, as tables and figures."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.compare import figures
from pipeline.compare.comparison import compare_runs, with_looks
from pipeline.compare.evaluated import EvaluatedRun
from pipeline.compare.report import of_comparison
from pipeline.compare.result import Comparison
from pipeline.compare.tables import Section, as_json, csv, markdown, show
from pipeline.compare.trade_off import trade_off
from pipeline.console import console, show_line, waiting
from pipeline.drawing import Drawn
from pipeline.errors import UserError
from pipeline.evaluation.metrics import METRICS, use_own
from pipeline.evaluation.names import at
from pipeline.steps.report import keep_report, links_to, made_by, show_report
from pipeline.tracking.links import how_to_see, run_address
from pipeline.tracking.runs import Run
from pipeline.tracking.search import find_evaluated, get_evaluated
from pipeline.tracking.store import delivering
from pipeline.tracking.track import track

METRIC = "ndcg_at_10"
OWN = re.compile(r"[^\s\[\](),'\"]+:\w+")  # in a parameter that lists them
NOTE_LENGTH = 7500  # characters that MLflow keeps of a description, with some to spare

log = logging.getLogger("pipeline")


def compare(
    *,
    experiment: str | None = None,
    run_ids: Sequence[str] = (),
    fingerprint: str | None = None,
    baseline: str | None = None,
    metric: str = METRIC,
    parent: Run | None = None,
    report: bool = False,
    before: Sequence[Section] = (),
) -> str:
    """Compare runs, show and log what is found; returns the description of the compare run.

    The runs are those of ``run_ids``; or all of an MLflow ``experiment`` (name or id); or all on
    the dataset with this ``fingerprint``; or, given nothing, those of the current experiment.
    With ``report`` there is a page to send, too, on which tables of ``before`` come first.

    Raises:
        UserError: runs are asked for twice, or there is nothing to compare.
    """
    if run_ids and (experiment or fingerprint):
        raise UserError("--run_ids names the runs: give no --experiment and no --fingerprint.")
    with delivering():  # first of what the runs' processes may have left
        runs = get_evaluated(run_ids) if run_ids else find_evaluated(experiment, fingerprint)
    _use_own_metrics(runs)
    with waiting(f"Comparing {len(runs)} runs"):
        comparison = compare_runs(runs, metric, baseline)
    evaluated = find_evaluated(None, comparison.protocol.fingerprint)
    comparison = with_looks(comparison, runs, evaluated)
    text = markdown(comparison)
    note = _description(text)
    with track("compare", {"step": "compare", "model": "none"}, parent=parent) as run:
        with waiting("Drawing"):
            drawn = dict(_figures(comparison, metric))
        _log(run, comparison, metric, text, drawn)
        run.describe(note)
        page = run_address(run)
        kept = (
            _report([*filter(None, [parent]), run], comparison, [*drawn.values()], before)
            if report
            else None
        )
    show(comparison, console)
    show_line(f"See it: {how_to_see(page)}")
    if kept is not None:
        show_report(kept)
    return note


def _report(
    of: Sequence[Run], comparison: Comparison, drawn: Sequence[Drawn], before: Sequence[Section]
) -> Path:
    """Keep the report with the run of the comparison, the last, and with the one that asked."""
    with waiting("Writing the report"):
        ids = ((row.name, run_id) for row in comparison.rows for run_id in row.run_ids)
        links = [("this comparison", run_address(of[-1])), *links_to(ids)]
        page = of_comparison(comparison, drawn, links, made_by(of[0]), before=before)
        return keep_report(page, *of)


def _use_own_metrics(runs: Sequence[EvaluatedRun]) -> None:
    """Take metrics of one's own that runs were evaluated with, where their code is here."""
    named = {name for run in runs for name in OWN.findall(run.params.get("metrics", ""))}
    for name in sorted(named):
        try:
            use_own(name)
        except UserError as error:
            log.warning("Not shown: %s", error)


def _log(
    run: Run, comparison: Comparison, metric: str, text: str, drawn: Mapping[str, Drawn]
) -> None:
    protocol = comparison.protocol
    run.set_tags(
        {
            "dataset": protocol.dataset,
            "dataset_fingerprint": protocol.fingerprint,
            "split": protocol.split,
            "mask": protocol.mask,
        }
    )
    run.log_params({"metric": metric, "baseline": comparison.rows[comparison.baseline].name})
    run.log_text(text, "comparison.md")
    run.log_text(csv(comparison), "comparison.csv")
    run.log_json(as_json(comparison), "comparison.json")
    for name, each in drawn.items():
        run.log_figure(each, f"figures/{name}")


def _figures(comparison: Comparison, metric: str) -> Iterator[tuple[str, Drawn]]:
    rows, tests, tested = comparison.rows, comparison.tests, comparison.tested
    names = [row.name for row in rows]
    place, baseline = tested.index(comparison.metric), comparison.baseline
    metrics = {}
    for each in METRICS:
        cells = [row.cells[each.name] for row in rows if each.name in row.cells]
        if len(cells) == len(rows):
            values = [[cell.mean, cell.low, cell.high] for cell in cells]
            mean, low, high = np.array(values, np.float64).T
            metrics[at(each, comparison.protocol.k)] = mean, low, high
    if len(rows) > 1:
        others = [i for i in range(len(rows)) if i != baseline]
        yield (
            "differences.png",
            figures.forest(
                [names[i] for i in others],
                tests.difference[others, baseline, place],
                tests.difference_low[others, baseline, place],
                tests.difference_high[others, baseline, place],
                np.array([rows[i].cells[comparison.metric].significant for i in others]),
                baseline=names[baseline],
                metric=metric,
            ),
        )
    coverage = metrics.get(f"coverage_at_{comparison.protocol.k}")
    if coverage is not None:
        accuracy = tests.mean[:, place]
        yield (
            "trade_off.png",
            trade_off(names, accuracy, coverage[0], metric, baseline),
        )
    if len(rows) > 1:
        per_user = comparison.values[:, 0, place] - comparison.values[:, 1, place]
        yield "users.png", figures.user_differences(per_user, names[0], names[1], metric)
    yield "metrics.png", figures.bars(names, metrics, baseline)


def _description(text: str) -> str:
    """What fits into a run's description, in whole lines."""
    if len(text) <= NOTE_LENGTH:
        return text
    kept = text[:NOTE_LENGTH].rpartition("\n")[0]
    return f"{kept}\n\n... the rest is in the artifact comparison.md"
