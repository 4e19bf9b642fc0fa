"""The description of a run, the first thing that the UI shows of it."""

from __future__ import annotations

from pipeline.tracking.runs import Run

COLLAPSED = "collapsed-to-popularity"
POPULAR = 0.9  # overlap with the popularity list above which a model is not personal
WARNING, WARNING_NOTE = "warning", "warning_note"
BACKTEST_HOLDS = "backtest_holds"  # what a backtest of a run's settings found, in words
ORDER = (
    "ndcg", "hit_rate", "precision", "recall", "map", "coverage",
    "popularity_overlap", "novelty", "personalization", "gini",
)  # fmt: skip


def collapse_note(overlap: float, norms: str | None) -> str:
    """Why a run counts as collapsed, and what to do, in a sentence or two."""
    seen = []
    if overlap:
        seen.append(
            f"{overlap:.0%} of its validation lists are the user's most popular unseen items"
        )
    if norms:
        seen.append(norms)
    return (
        f"This model has learned nothing personal: {', and '.join(seen)}. Its accuracy is that of "
        f"the popularity list. Look for weight_decay, which shrinks rows that a batch does not "
        f"use (l2 does not), or a loss that stopped falling early."
    )


def _place(metric: str) -> tuple[int, int]:
    name, _, k = metric.partition("_at_")
    return int(k), ORDER.index(name)


def describe(run: Run) -> str:
    """A Markdown table of the run's validation and test metrics, under its warning if any."""
    tags, metrics = run.tags, run.metrics
    lines = [f"**Warning:** {tags[WARNING_NOTE]}\n"] if WARNING_NOTE in tags else []
    lines.append(f"`{tags.get('model')}` on {tags.get('dataset')} ({tags.get('split')})\n")
    logged = {key.split("/")[1] for key in metrics if key.count("/") == 1 and "_at_" in key}
    names = sorted(logged, key=_place)
    lines += ["| metric | validation | test |", "|---|---|---|"]
    for name in names:
        cells = [
            f"{metrics[key]:.4f}" if key in metrics else ""
            for key in (f"val/{name}", f"test/{name}")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
