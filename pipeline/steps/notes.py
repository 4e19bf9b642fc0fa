"""What a run says of itself: the description that the UI shows first."""

from __future__ import annotations

from pipeline.evaluation.metrics import in_order
from pipeline.evaluation.warnings import WARNING_NOTE
from pipeline.tracking.runs import Run


def describe(run: Run) -> str:
    """A Markdown table of the run's validation and test metrics, under its warning if any."""
    tags, metrics = run.tags, run.metrics
    lines = [f"**Warning:** {tags[WARNING_NOTE]}\n"] if WARNING_NOTE in tags else []
    lines.append(f"`{tags.get('model')}` on {tags.get('dataset')} ({tags.get('split')})\n")
    names = in_order({key.split("/")[1] for key in metrics if key.count("/") == 1})
    lines += ["| metric | validation | test |", "|---|---|---|"]
    for name in names:
        cells = [
            f"{metrics[key]:.4f}" if key in metrics else ""
            for key in (f"val/{name}", f"test/{name}")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
