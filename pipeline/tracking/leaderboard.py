"""The leaderboard that describes an experiment: its best models, on the data of the latest."""

from __future__ import annotations

from collections.abc import Sequence

from mlflow.entities import Run as MlflowRun

from pipeline.evaluation.metrics import METRICS
from pipeline.evaluation.names import at

TITLE = "**Leaderboard**"
"""How a description begins that is ours, and may be written anew."""
ROWS = 10
SHOWN = ("ndcg", "coverage", "popularity_overlap")  # a description is narrow
PROTOCOL = ("dataset", "dataset_fingerprint", "split", "mask")
"""Tags that runs share which may stand in one order."""


def leaderboard(runs: Sequence[MlflowRun], k: int) -> str:
    """Markdown, for runs of models that are tested, the best first."""
    latest = max(runs, key=lambda run: run.info.start_time or 0)
    alike = [run for run in runs if _protocol(run) == _protocol(latest)]
    tags = latest.data.tags
    caption = f"{TITLE}: {tags.get('dataset')}, {tags.get('split')}, test, at {k}"
    more = len(runs) - len(alike)
    if more:
        caption += f" ({more} with other data, another split or mask left out)"
    metrics = [metric for metric in METRICS if metric.name in SHOWN]
    heads = ["run", *(metric.heading for metric in metrics)]
    lines = [caption, "", f"| {' | '.join(heads)} |", "|---" + "|--:" * len(metrics) + "|"]
    for run in alike[:ROWS]:
        name = str(run.info.run_name).replace("|", r"\|")
        values = (run.data.metrics.get(f"test/{at(each, k)}") for each in metrics)
        cells = ["" if value is None else f"{value:.4f}" for value in values]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "Whether differences are real, `compare` tells: they may be chance."]
    return "\n".join(lines)


def _protocol(run: MlflowRun) -> tuple[str | None, ...]:
    return tuple(run.data.tags.get(name) for name in PROTOCOL)
