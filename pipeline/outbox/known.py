"""What this process knows of a run without asking, because it has opened it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.outbox.contents import EMPTY, Contents


@dataclass
class Known:
    """A run that this process has opened, as the store will know it: nobody else writes to it."""

    name: str
    experiment_id: str
    status: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    """The last value of each."""
    points: dict[str, dict[int, float]]
    """The value of each metric by step, of all that have been logged."""
    must: Contents = EMPTY
    """What it must hold to end as FINISHED, besides parameters and metrics."""

    def whole(self) -> Contents:
        """All that it must hold to end as FINISHED: what is asked of it, and what was logged."""
        return self.must | Contents.named(params=self.params, metrics=self.metrics)

    def note(self, part: str, rows: list[list[Any]]) -> None:
        """Remember what is logged, by part of a batch."""
        if part == "metrics":
            for key, value, _, step in rows:
                self.metrics[key] = value
                self.points.setdefault(key, {})[step] = value
        else:
            kept = self.tags if part == "tags" else self.params
            kept.update((key, value) for key, value in rows)
