"""A backtest as people and programs read it: in a terminal, as Markdown and as CSV."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from pipeline.compare.over_time import Backtest
from pipeline.compare.paired_tests import PairedTests
from pipeline.compare.tables import LEVEL_WORDS, MARK, Section
from pipeline.evaluation.significance import p_words

OF_ROW = ("mean", "low", "high")
OF_PAIR = ("difference", "difference_low", "difference_high", "p_permutation", "p_holm")


def section(result: Backtest, *, detailed: bool) -> Section:
    """The table: experiments in rows, cuts in columns, then the mean over cuts and its test."""
    heads = ["experiment"]
    heads += [f"{c.name} ({n:,})" for c, n in zip(result.cuts, result.tested, strict=True)]
    heads += ["mean", *([LEVEL_WORDS] if detailed else []), "diff.", LEVEL_WORDS, "p Holm", "holds"]
    at, over, base = result.at.mean, result.over, result.baseline
    best = at == at.max(axis=0)
    rows = []
    for i, name in enumerate(result.names):
        signs = result.differs(i, base)
        texts = [(name, False)]
        for c in range(len(result.cuts)):
            texts.append((f"{at[i, c]:.4f}{MARK if signs[c] else ' '}", bool(best[i, c])))
        texts.append((f"{over.mean[i, 0]:.4f}", i == 0))
        if detailed:
            texts.append((f"{over.low[i, 0]:.4f} to {over.high[i, 0]:.4f}", False))
        if i == base:
            verdict = ["baseline", "", "", ""]
        else:
            low, high = over.difference_low[i, base, 0], over.difference_high[i, base, 0]
            verdict = [
                f"{over.difference[i, base, 0]:+.4f}",
                f"{low:+.4f} to {high:+.4f}",
                p_words(float(over.p_holm[i, base, 0])).removeprefix("p ").removeprefix("= "),
                f"{result.holds(i, base)} of {len(result.cuts)}",
            ]
        rows.append([*texts, *((text, False) for text in verdict)])
    title = (
        f"{result.cuts[0].dataset}, {result.metric} at cuts in time (users), the same settings "
        f"refitted at each"
    )
    return Section(title, heads, rows, list(result.sentences()), list(_legend(result)))


def csv(result: Backtest) -> str:
    """A line per experiment and cut, and one for the mean over cuts."""
    lines = []
    for i, row in enumerate(result.rows):
        about = {"experiment": row[0].name, "model": row[0].model, "metric": result.metric}
        for c, (cut, each, users) in enumerate(zip(result.cuts, row, result.tested, strict=True)):
            when = {"cut": cut.name, "trained_until": pd.Timestamp(cut.moment, unit="s", tz="UTC")}
            numbers = _numbers(result, result.at, i, c)
            ids = " ".join(each.run_ids)
            lines.append({**about, **when, "users": users, **numbers, "run_ids": ids})
        numbers = _numbers(result, result.over, i, 0)
        lines.append({**about, "cut": "mean", "users": len(result.values), **numbers})
    return pd.DataFrame(lines).to_csv(index=False)


def _numbers(result: Backtest, tests: PairedTests, row: int, place: int) -> dict[str, float]:
    """What ``tests`` say of a row on their metric at ``place``."""
    values = {of: float(getattr(tests, of)[row, place]) for of in OF_ROW}
    if row != result.baseline:
        pair = row, result.baseline, place
        values |= {of: float(getattr(tests, of)[pair]) for of in OF_PAIR}
    return values


def _legend(result: Backtest) -> Iterator[str]:
    """What the columns and signs mean."""
    n = len(result.rows)
    if n == 1:
        yield "One experiment: there is nothing to compare it with."
        return
    pairs = n * (n - 1) // 2
    over = f"Holm's correction over {pairs} pair{'s' if pairs > 1 else ''}"
    base = result.names[result.baseline]
    yield (
        f"{MARK} differs from the baseline, {base}, at that cut: p < .05 in the test of compare, "
        f"after {over}. holds: at how many cuts it does, on the side of the mean."
    )
    yield (
        f"mean: over cuts, each counting the same. diff., its interval and p Holm are of that "
        f"mean, with {len(result.values):,} users as clusters: whoever is tested at several cuts "
        f"is still one, and every test is all that is later than its cut. Bold is best."
    )
