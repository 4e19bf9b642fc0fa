"""What a run says of itself: the description that the UI shows first."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pipeline.evaluation.names import in_order
from pipeline.evaluation.sample import ERROR, SAMPLE
from pipeline.evaluation.warnings import WARNING_NOTE
from pipeline.tracking.runs import Run

POPULAR = "most_popular"
"""The model that everybody has to beat; and the tag of a run with what that has on the same users,
as JSON by the metric's name."""


def remember_popularity(run: Run, values: Mapping[str, float]) -> None:
    """Keep what the most popular items are worth, beside what is known of it."""
    known = {**popularity_of(run), **{name: round(value, 6) for name, value in values.items()}}
    run.set_tags({POPULAR: json.dumps(known)})


def popularity_of(run: Run) -> dict[str, float]:
    """What ``remember_popularity`` has kept; runs of before have nothing."""
    found: dict[str, float] = json.loads(run.tags.get(POPULAR, "{}"))
    return found


def describe(run: Run) -> str:
    """A Markdown table of the run's metrics beside popularity, under its warning if any."""
    tags, metrics = run.tags, run.metrics
    lines = [f"**Warning:** {tags[WARNING_NOTE]}\n"] if WARNING_NOTE in tags else []
    lines.append(f"`{tags.get('model')}` on {tags.get('dataset')} ({tags.get('split')})\n")
    if SAMPLE in tags:
        lines.append(f"The test is a sample of {tags[SAMPLE]}; ± is the standard error.\n")
    names = in_order({key.split("/")[1] for key in metrics if key.count("/") == 1})
    popular = {} if tags.get("model") == POPULAR else popularity_of(run)
    lines += [f"| metric | validation | test | {POPULAR}, test |", "|---|---|---|---|"]
    for name in names:
        test = f"test/{name}"
        cells = [
            f"{values[key]:.4f}" if key in values else ""
            for values, key in ((metrics, f"val/{name}"), (metrics, test), (popular, test))
        ]
        if (error := metrics.get(f"{test}_{ERROR}")) is not None:
            cells[1] += f" ± {error:.4f}"
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
