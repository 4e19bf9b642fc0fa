"""A comparison as people and programs read it: in a terminal, as Markdown, CSV and JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape

from pipeline.compare.paired_tests import SEED
from pipeline.compare.result import OF_PAIR, Comparison, Standing
from pipeline.console import house_table
from pipeline.evaluation.metrics import BY_NAME, METRICS
from pipeline.evaluation.significance import ALPHA, LEVEL, p_words

NARROW = ("ndcg", "coverage", "popularity_overlap")
WIDE = 110  # characters of a terminal that has room for all of them
MARK = "†"
LEVEL_WORDS = f"{100 * LEVEL:.0f} %"


@dataclass(frozen=True)
class Section:
    """A table under its title, and what there is to say below it."""

    title: str
    heads: list[str]
    rows: list[list[tuple[str, bool]]]
    """Texts, and whether they are best."""
    sentences: list[str]
    legend: list[str]

    def show(self, console: Console) -> None:
        """Print it."""
        table = house_table(*self.heads)
        for row in self.rows:
            table.add_row(*(f"[bold]{escape(x)}[/]" if best else escape(x) for x, best in row))
        console.print(f"\n{self.title}", style="bold", markup=False)
        console.print(table)
        for line in (*self.sentences, *self.legend):
            console.print(line, markup=False)

    def markdown(self) -> str:
        """The same as Markdown, ending in a line."""
        lines = [f"**{self.title}**", "", _markdown_row(self.heads)]
        lines.append("|---" + "|--:" * (len(self.heads) - 1) + "|")
        for row in self.rows:
            texts = [f"**{text.strip()}**" if best else text.strip() for text, best in row]
            lines.append(_markdown_row(texts))
        lines += ["", *(f"- {sentence}" for sentence in self.sentences)]
        lines += ["", *(f"{line}\n" for line in self.legend)]
        return re.sub("\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def show(comparison: Comparison, console: Console) -> None:
    """Print the ranked table and what it says, and below it what cannot be ranked with it."""
    names = [*(_shown() if console.width >= WIDE else NARROW)]
    for section in _sections(comparison, names, detailed=False):
        section.show(console)


def markdown(comparison: Comparison) -> str:
    """The same with the interval of each difference and each p-value."""
    return "\n".join(section.markdown() for section in sections(comparison))


def sections(comparison: Comparison) -> list[Section]:
    """The ranked table with the interval of each difference, then those that cannot be ranked."""
    return _sections(comparison, _shown(), detailed=True)


def csv(comparison: Comparison) -> str:
    """A line per experiment and metric, every metric; ``listed`` tells who is ranked."""
    lines = []
    for listed, row in _listed(comparison):
        for name, cell in row.cells.items():
            about = {"listed": listed, "experiment": row.name, "model": row.model}
            metric = {"metric": f"{name}_at_{row.k}", **asdict(cell)}
            lines.append({**about, **metric, "run_ids": " ".join(row.run_ids)})
    return pd.DataFrame(lines).to_csv(index=False)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """All of it, all pairs included, as plain values."""
    tests, rows = comparison.tests, comparison.rows
    pairs = [
        {
            "metric": f"{name}_at_{comparison.protocol.k}",
            "one": rows[i].name,
            "other": rows[j].name,
            **{of: float(getattr(tests, of)[i, j, m]) for of in OF_PAIR},
        }
        for m, name in enumerate(comparison.tested)
        for i in range(len(rows))
        for j in range(i + 1, len(rows))
    ]
    return {
        "metric": f"{comparison.metric}_at_{comparison.protocol.k}",
        "baseline": rows[comparison.baseline].name,
        "protocol": asdict(comparison.protocol),
        "users": len(comparison.values),
        "smallest_difference": comparison.smallest,
        "looks": {name: asdict(looks) for name, looks in comparison.looks.items()},
        "sentences": comparison.sentences,
        "level": LEVEL,
        "permutations": tests.permutations,
        "seed": SEED,
        "rows": [{"listed": listed, **asdict(row)} for listed, row in _listed(comparison)],
        "pairs": pairs,
    }


def _listed(comparison: Comparison) -> Iterator[tuple[str, Standing]]:
    for row in comparison.rows:
        yield "ranked", row
    for row in comparison.ledger:
        yield "ledger", row
    for why, rows in comparison.apart.items():
        for row in rows:
            yield f"apart: {why}", row
    for row in comparison.refused:
        yield "refused", row


def _title(comparison: Comparison) -> str:
    of = comparison.protocol
    users = of.words["sample"] if of.sample else f"{len(comparison.values):,} users"
    title = f"{of.dataset} ({of.fingerprint}), test, at {of.k}, {of.words['mask']}, {users}"
    if of.knows_future:
        title += f". Split {of.split} knows the future: models train on what came after the test"
    return title


def _sections(comparison: Comparison, names: Sequence[str], detailed: bool) -> list[Section]:
    names = list(dict.fromkeys((comparison.metric, *names)))
    found = [_ranked(comparison, names, detailed)]
    if comparison.ledger:
        title = "From the ledger: without values per user, so neither ranked nor tested"
        found.append(_plain(title, comparison.ledger, names))
    for why, rows in comparison.apart.items():
        found.append(_plain(f"Apart, not to be ranked with these: {why}", rows, names))
    if comparison.refused:
        title = "Left out: results that were edited, or are not those of the run"
        found.append(_plain(title, comparison.refused, names))
    return found


def _ranked(comparison: Comparison, names: Sequence[str], detailed: bool) -> Section:
    metric, *others = [name for name in names if any(name in r.cells for r in comparison.rows)]
    seeded = any(len(row.run_ids) > 1 for row in comparison.rows)
    more = ["its interval", "p permutation", "p Wilcoxon"] if detailed else []
    heads = ["experiment", BY_NAME[metric].heading, LEVEL_WORDS, "diff.", *more, "p Holm"]
    heads += [BY_NAME[name].heading for name in others] + (["seeds"] if seeded else [])
    rows = []
    for row in comparison.rows:
        cell = row.cells[metric]
        tests = [_number(cell.difference, "+.4f") or "baseline"]
        if detailed:
            tests.append(_interval(cell.difference_low, cell.difference_high, "+.4f"))
            tests += [_p(cell.p_permutation), _p(cell.p_wilcoxon)]
        tests.append(_p(cell.p_holm))
        texts = [(row.name, False), _value(comparison, row, metric)]
        interval = _interval(cell.low, cell.high, ".4f")
        if not detailed:
            interval = _interval(cell.low, cell.high, ".3f").replace(" to ", "-")
        texts += [(text, False) for text in (interval, *tests)]
        texts += [_value(comparison, row, name) for name in others]
        if seeded:
            spread = "" if cell.seed_std is None else f" ± {cell.seed_std:.4f}"
            texts.append((f"{len(row.run_ids)}{spread}", False))
        rows.append(texts)
    sentences = [*comparison.sentences, *_sentences(comparison.rows)]
    return Section(_title(comparison), heads, rows, sentences, list(_legend(comparison)))


def _plain(title: str, rows: Sequence[Standing], names: Sequence[str]) -> Section:
    return Section(
        title,
        ["experiment", *(BY_NAME[name].heading for name in names)],
        [
            [
                (row.name, False),
                *((_number(row.cells[n].mean) if n in row.cells else "", False) for n in names),
            ]
            for row in rows
        ],
        _sentences(rows),
        [],
    )


def _value(comparison: Comparison, row: Standing, name: str) -> tuple[str, bool]:
    if name not in row.cells:
        return "", False
    cell = row.cells[name]
    mark = MARK if cell.significant and BY_NAME[name].accuracy else " "
    return f"{cell.mean:.4f}{mark}", comparison.is_best(row, name)


def _sentences(rows: Sequence[Standing]) -> list[str]:
    """What there is to say of rows, once for those of which it is the same."""
    names: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        names.setdefault(tuple(row.sentences), []).append(row.name)
    return [f"{', '.join(of)}: {'; '.join(said)}." for said, of in names.items() if said]


def _legend(comparison: Comparison) -> Iterator[str]:
    """What the signs in the table mean."""
    rows, pairs = comparison.rows, comparison.n_pairs
    if pairs:
        least = pairs / (comparison.tests.permutations + 1)
        floor = f" (none can be below {_p(least)})" if least >= 0.001 else ""
        yield (
            f"{MARK} differs from the baseline, {rows[comparison.baseline].name}: "
            f"p < {f'{ALPHA:g}'.removeprefix('0')} in a paired permutation test over users, after "
            f"Holm's correction over {pairs} pair{'s' if pairs > 1 else ''}{floor}. Bold is best."
        )
    else:
        yield "One experiment: there is nothing to compare it with."
    yield (
        f"{LEVEL_WORDS}: studentised interval over users; another seed of training would add to "
        f"it. cover. belongs to all lists together: no interval, no test. "
        f"popular: the share of a list that is also in the user's popularity list."
    )
    if comparison.smallest is not None:
        yield (
            f"{comparison.smallest:.4f} is the smallest difference that such a test finds four "
            f"times in five, by the median pair."
        )
    if comparison.looks:
        names: dict[str, list[str]] = {}
        for name, looks in comparison.looks.items():
            names.setdefault(str(looks), []).append(name)
        evaluated = "; ".join(
            f"{', '.join(of)} {looks}{' each' if len(of) > 1 else ''}"
            for looks, of in names.items()
        )
        yield (
            f"Evaluated on this test so far: {evaluated}. The more there are, the more the best of "
            f"them owes to chance."
        )
    if any(len(row.run_ids) > 1 for row in rows):
        yield f"seeds: how many, ± the standard deviation of {comparison.metric} between them."


def _number(value: float | None, spec: str = ".4f") -> str:
    return "" if value is None else format(value, spec)


def _interval(low: float | None, high: float | None, spec: str) -> str:
    return "" if low is None or high is None else f"{low:{spec}} to {high:{spec}}"


def _p(value: float | None) -> str:
    return "" if value is None else p_words(value).removeprefix("p ").removeprefix("= ")


def _shown() -> list[str]:
    """The metrics that tables for people show."""
    return [metric.name for metric in METRICS if metric.heading]


def _markdown_row(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"
