"""A report to send: one HTML page that says what was compared, on what, and what that shows.

The page holds all that it needs, its figures too, so that it can be mailed, printed, and read
without a network. What users have named is text in it, never markup.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from pipeline.compare.card import HELD_OUT
from pipeline.compare.contenders import Protocol
from pipeline.compare.over_time import Backtest
from pipeline.compare.over_time_tables import section as over_time_section
from pipeline.compare.result import Comparison
from pipeline.compare.tables import Section, sections

if TYPE_CHECKING:  # who only says where a report is draws nothing
    from pipeline.drawing import Drawn

REPORT = "report.html"
"""The artifact, which MLflow's UI shows as a page."""
TEMPLATE = "report.html.jinja"
OTHER_SEED = (
    "Whether another seed of training would give the same order, but where seeds are in the table: "
    "intervals and tests are over users alone."
)
OTHER_DATA = (
    "What holds on other data, at another time, or with people who see the recommendations: this "
    "is one test on what was recorded."
)


@dataclass(frozen=True)
class Report:
    """What the page says, in its order."""

    title: str
    about: str
    """In a sentence."""
    facts: Sequence[tuple[str, str]]
    """Of data and protocol: names and what they are."""
    may: Sequence[str]
    """What may be concluded, a sentence each."""
    may_not: Sequence[str]
    """What may not."""
    tables: Sequence[Section]
    figures: Sequence[Drawn]
    links: Sequence[tuple[str, str]]
    """Names of runs, and where they are."""
    made: str
    """By what, when."""

    def html(self) -> str:
        """The page."""
        pictures = [{"says": each.says, "address": _address(each)} for each in self.figures]
        return _template().render(report=self, pictures=pictures)


def of_comparison(
    comparison: Comparison,
    figures: Sequence[Drawn],
    links: Sequence[tuple[str, str]],
    made: str,
    *,
    title: str = "",
    before: Sequence[Section] = (),
) -> Report:
    """The report on a comparison; tables of ``before`` stand before its own."""
    protocol, rows = comparison.protocol, comparison.rows
    metric, baseline = f"{comparison.metric}_at_{protocol.k}", rows[comparison.baseline].name
    n_runs = sum(len(row.run_ids) for row in rows)
    ranked, *others = sections(comparison)
    users = protocol.words["sample"] if protocol.sample else f"{len(comparison.values):,} users"
    of_rows = ranked.sentences[len(comparison.sentences) :]  # those on all of it stand above
    facts = [
        ("Models", ", ".join(f"{row.name} ({row.model})" for row in rows)),
        ("Data", f"{protocol.dataset}, fingerprint {protocol.fingerprint}"),
        ("Split", _split(protocol)),
        ("Lists", f"the best {protocol.k} of the whole catalogue, {protocol.words['mask']}"),
        ("Test", users),
        ("Ranked by", f"{metric}; compared with {baseline}"),
        ("Runs", f"{n_runs} of {_count(len(rows), 'experiment')}"),
    ]
    return Report(
        title or f"{_count(len(rows), 'recommender')} on {protocol.dataset}",
        f"{rows[0].name} has the highest {metric}, {rows[0].cells[comparison.metric].mean:.4f}. "
        f"Whether that is more than chance stands below.",
        facts,
        [*comparison.findings, *of_rows],
        [*comparison.sentences, *_unlike(comparison), OTHER_SEED, OTHER_DATA],
        [*before, replace(ranked, sentences=[]), *others],
        figures,
        links,
        made,
    )


def of_backtest(
    result: Backtest, figure: Drawn, links: Sequence[tuple[str, str]], made: str
) -> Report:
    """The report on the same settings at several cuts in time."""
    table = over_time_section(result, detailed=True)
    base = result.names[result.baseline]
    cuts = [
        f"{cut.name} ({cut.date}, {users:,} users)"
        for cut, users in zip(result.cuts, result.tested, strict=True)
    ]
    sure, unsure = list[str](), list[str]()
    for row, name in enumerate(result.names):
        if row != result.baseline:
            differs = result.differs(row, result.baseline).any()
            (sure if differs else unsure).append(f"{name}: {result.verdict(row)}.")
    return Report(
        f"{_count(len(result.names), 'recommender')} over time on {result.cuts[0].dataset}",
        figure.says + ".",
        [
            ("Models", ", ".join(f"{row[0].name} ({row[0].model})" for row in result.rows)),
            ("Data", f"{result.cuts[0].dataset}, refitted at each cut and tested on all later"),
            ("Cuts", "; ".join(cuts)),
            ("Ranked by", f"the mean of {result.metric} over cuts; compared with {base}"),
        ],
        sure,
        [*unsure, *table.sentences, OTHER_SEED, OTHER_DATA],
        [replace(table, sentences=[])],
        [figure],
        links,
        made,
    )


def _split(protocol: Protocol) -> str:
    """The split by its name, and in words where it is one of ours."""
    name = protocol.words["split"].removeprefix("split ")
    for kind, words in HELD_OUT.items():
        if found := re.match(rf"{kind.replace('_', '-')}-([\d.]+)", protocol.split):
            return f"{name}. {words.format(float(found[1]))}"
    return name


def _unlike(comparison: Comparison) -> list[str]:
    """What stands in no order with the rows that are ranked."""
    said = []
    if comparison.ledger or comparison.apart:
        said.append(
            "How models do that were measured otherwise: those in further tables are in no order "
            "with the ranked ones."
        )
    if comparison.refused:
        names = ", ".join(row.name for row in comparison.refused)
        said.append(f"Anything of {names}: what these runs hold does not fit together.")
    return said


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def _address(drawn: Drawn) -> str:
    """The figure itself, as an address that a page can show."""
    content = BytesIO()
    drawn.save(content, "svg")
    return f"data:image/svg+xml;base64,{b64encode(content.getvalue()).decode()}"


@cache
def _template() -> Template:
    """Undefined names are errors; all text is escaped."""
    environment = Environment(
        loader=PackageLoader("pipeline", "compare"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template(TEMPLATE)
