"""The page of a suite of studies: what every family reached within the same budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.compare.result import Standing
from pipeline.compare.tables import Section
from pipeline.data.dataset import Dataset
from pipeline.evaluation.warnings import WARNING_NOTE
from pipeline.space import short
from pipeline.tracking.runs import Run
from pipeline.tuning.edges import widenings
from pipeline.tuning.refit import Tuned
from pipeline.tuning.suite import Suite

HEADS = (
    "family", "trials", "seconds", "validation NDCG", "test NDCG", "95 %", "coverage", "edge",
    "chosen",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What came of one family."""

    name: str
    runs: Sequence[Run] = ()
    """Evaluated on the test, one for each seed."""
    tuned: Tuned | None = None
    """None for a row without a study."""
    failed: str = ""
    """Why there is nothing."""


def page(
    suite: Suite,
    dataset: Dataset,
    windows: Sequence[float],
    outcomes: Sequence[Outcome],
    rows: Sequence[Standing],
) -> str:
    """Markdown: a table of the families in the order of ``rows``, best first, and what to mind."""
    table = families(outcomes, rows)
    quantiles = ", ".join(f"{each:g}" for each in windows)
    lines = [
        f"# {suite.name}: {dataset.name} ({dataset.fingerprint})\n",
        f"{suite.in_words()}. Protocol: {dataset.protocol}, {len(dataset.test_users):,} test "
        f"users, {dataset.n_items:,} items; chosen on the windows {quantiles} of the training "
        f"part, the test looked at once for each configuration that was chosen.\n",
        *(f"**Note:** {note}\n" for note in dataset.notes.values()),
        f"| {' | '.join(HEADS)} |",
        f"|{'---|' * len(HEADS)}",
        *(f"| {' | '.join(text for text, _ in row)} |" for row in table.rows),
        "",
        *(f"- {sentence}" for sentence in table.sentences),
    ]
    return "\n".join(lines) + "\n"


def families(outcomes: Sequence[Outcome], rows: Sequence[Standing]) -> Section:
    """A row for each family in the order of ``rows``, best first, and what to mind."""
    by_run = {run_id: row for row in rows for run_id in row.run_ids}
    ranked = [each for each in outcomes if each.runs and each.runs[0].id in by_run]
    ranked.sort(key=lambda each: rows.index(by_run[each.runs[0].id]))
    return Section(
        "What each family reached, with the same time for its search",
        list(HEADS),
        [[(cell, False) for cell in _cells(each, by_run[each.runs[0].id])] for each in ranked],
        [sentence for each in outcomes for sentence in _sentences(each)],
        [],
    )


def _cells(outcome: Outcome, row: Standing) -> list[str]:
    ndcg, coverage = row.cells["ndcg"], row.cells.get("coverage")
    interval = "" if ndcg.low is None else f"{ndcg.low:.4f} to {ndcg.high:.4f}"
    cells = {
        "family": outcome.name,
        "test NDCG": f"{ndcg.mean:.4f}",
        "95 %": interval,
        "coverage": "" if coverage is None else f"{coverage.mean:.4f}",
    }
    if outcome.tuned is not None:
        cells |= _searched(outcome.tuned)
    return [cells.get(name, "") for name in HEADS]


def _searched(tuned: Tuned) -> Mapping[str, str]:
    best, plan = tuned.refitted.best, tuned.plan
    ends = [f"{each.field} widened" for each in plan.widened]
    ends += ["at an edge"] if tuned.refitted.at_edge else []
    return {
        "trials": str(tuned.tally.done),
        "seconds": f"{tuned.tally.seconds:.0f}",
        "validation NDCG": f"{best.values[0]:.4f}",
        "edge": ", ".join(ends) or "inside",
        "chosen": ", ".join(f"{name} {short(value)}" for name, value in best.params.items()),
    }


def _sentences(outcome: Outcome) -> Iterator[str]:
    """What is to be known of a family beside its numbers."""
    if outcome.failed:
        yield f"{outcome.name} is left out: {outcome.failed}"
    if outcome.tuned is not None:
        widened = widenings(outcome.tuned.plan)
        for sentence in (*widened, *outcome.tuned.refitted.notes):
            yield f"{outcome.name}: {sentence}"
    for run in outcome.runs[:1]:
        warning = run.tags.get(WARNING_NOTE)
        if warning:
            yield f"{outcome.name}: {warning}"
