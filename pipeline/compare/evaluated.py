"""A run with test metrics, as whoever compares it sees it, wherever it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

FROM_LEDGER = "ledger-csv"
"""The tag ``source`` of what was imported."""


@dataclass(frozen=True)
class EvaluatedRun:
    """What a run with test metrics holds, and how its artifacts are had."""

    id: str
    name: str
    started: int
    """Milliseconds since 1970."""
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    fetch: Callable[[str, Path], Path] = field(repr=False, compare=False)
    """Downloads an artifact into a folder; a ``UserError`` where there is none."""

    @property
    def from_ledger(self) -> bool:
        """Whether it was imported; then it has no per-user values."""
        return self.tags.get("source") == FROM_LEDGER
