"""Models to learn beside: the best linear configurations of the same data, as choices of ``wide``.

A study with ``wide_from`` takes what the studies that it names found: the best on validation, and
up to two others with no difference from it there. A choice is text, as the field takes it: the
family and the settings that differ from its defaults, ``ease values=ratings penalty=100``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config import Experiment
from pipeline.space import Choice
from pipeline.tuning.plan import WIDE, Plan

MOST = 3
WITHIN = 0.03  # of the best value: what windows of a few hundred users cannot tell apart


@dataclass(frozen=True)
class Found:
    """The best configuration of a study, and its value on validation."""

    experiment: Experiment
    value: float

    @property
    def text(self) -> str:
        """The family and what differs from its defaults."""
        given = self.experiment.params.model_dump(exclude_defaults=True)
        settings = (f"{name}={_word(value)}" for name, value in given.items())
        return " ".join([self.experiment.model, *settings])


def choices(found: Sequence[Found]) -> tuple[str, ...]:
    """The best first, then those within noise of it."""
    ranked = sorted(found, key=lambda each: each.value, reverse=True)[:MOST]
    return tuple(each.text for each in ranked if each.value >= (1 - WITHIN) * ranked[0].value)


def with_choices(plan: Plan, texts: Sequence[str]) -> Plan:
    """The plan with these choices of ``wide``."""
    return plan.model_copy(update={"space": {WIDE: Choice(choices=tuple(texts)), **plan.space}})


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
