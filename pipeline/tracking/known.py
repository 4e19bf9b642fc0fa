"""What this process knows of a run without asking, because it has opened it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
    steps: dict[str, set[int]]
    """At which each metric has been logged."""

    def note(self, part: str, rows: list[list[Any]]) -> None:
        """Remember what is logged, by part of a batch."""
        if part == "metrics":
            for key, value, _, step in rows:
                self.metrics[key] = value
                self.steps.setdefault(key, set()).add(step)
        else:
            kept = self.tags if part == "tags" else self.params
            kept.update((key, value) for key, value in rows)
