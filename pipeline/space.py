"""Search spaces: what a study may choose for a field. Default ones stand beside the models.

In a file a list is a choice and a mapping a range:

    loss: [bpr, bce]
    learning_rate: {low: 1.0e-6, high: 1.0e-3, log: true}
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from pipeline.errors import UserError, brief
from pipeline.settings import Settings

MOST_STEPS = 10_000  # of a range: each is a value that a grid may try
FARTHEST = 700.0  # logarithm of a number, beyond which floating point numbers end

Value = bool | int | float | str | None


def short(value: object) -> str:
    """A value of a field in few letters: three digits, 1e6 and 1e-5, a list with commas."""
    if isinstance(value, float):
        rounded = f"{float(f'{value:.3g}'):g}"
        return re.sub(r"e([+-])0*", lambda sign: f"e{sign[1].strip('+')}", rounded)
    if isinstance(value, list | tuple):
        return ",".join(map(short, value)) or "none"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


class Range(Settings):
    """Numbers from ``low`` to ``high``, both included; whole ones for a field of whole numbers."""

    low: float
    high: float
    log: bool = False
    """Whether equal ratios count as equal distances."""
    step: float | None = Field(None, gt=0)
    """Distance between the numbers tried; none for all of them."""

    def in_words(self) -> str:
        """For people."""
        step = "" if self.step is None else f", step {self.step:g}"
        return f"{self.low:g} to {self.high:g}{', log' if self.log else ''}{step}"

    def place(self, value: float) -> float:
        """Where ``value`` lies on the range's own scale: 0 at ``low``, 1 at ``high``."""
        low, high, here = (
            math.log(each) if self.log else each for each in (self.low, self.high, value)
        )
        return (here - low) / (high - low)

    def at(self, place: float) -> float:
        """The value at ``place``, which may lie beyond the ends."""
        if not self.log:
            return self.low + (self.high - self.low) * place
        low, high = math.log(self.low), math.log(self.high)
        return math.exp(min(max(low + (high - low) * place, -FARTHEST), FARTHEST))

    @model_validator(mode="after")
    def _can_be_searched(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low:g}, high is {self.high:g}: expected low < high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("with log, low must be above 0 and there is no step")
        width = self.high - self.low
        if math.isinf(width):
            raise ValueError(f"from {self.low:g} to {self.high:g} is too far")
        if self.step is not None and width / self.step > MOST_STEPS:
            raise ValueError(f"step is {self.step:g}: expected at most {MOST_STEPS:,} steps")
        return self


class Choice(Settings):
    """One of several values, without an order."""

    choices: tuple[Value, ...] = Field(min_length=1)

    def in_words(self) -> str:
        """For people."""
        return " | ".join(str(choice) for choice in self.choices)

    @field_validator("choices", mode="before")
    @classmethod
    def _as_words(cls, choices: Any) -> Any:
        """A list among the choices, as in layers, becomes the word that a flag would be."""
        if not isinstance(choices, list | tuple):
            return choices
        return [as_choice(choice) for choice in choices]


Space = dict[str, Range | Choice]
"""By field."""


def read_space(values: Any, where: str) -> Space:
    """The space that a file describes.

    Raises:
        UserError: it is no mapping, or an entry is neither a list nor a mapping with low and high.
    """
    if not isinstance(values, Mapping):
        raise UserError(
            f"{where}: {brief(repr(values))}: expected the fields that vary and, for each, a list "
            f"of choices or a range."
        )
    space: Space = {}
    for name, value in values.items():
        here = f"{where}: {brief(name)}"
        if isinstance(value, list):
            space[str(name)] = Choice.read({"choices": value}, here)
        elif isinstance(value, Mapping):
            space[str(name)] = (Choice if "choices" in value else Range).read(value, here)
        else:
            raise UserError(
                f"{here}: {brief(repr(value))} is one value: expected a list of choices, as in "
                f"[bpr, bce], or a range, as in {{low: 1, high: 64, log: true}}."
            )
    return space


def spread(entry: Range | Choice, points: int) -> list[Value]:
    """At most ``points`` values of a range, evenly spread, ends included; all of a choice."""
    if isinstance(entry, Choice):
        return list(entry.choices)
    if entry.step is not None:
        steps = int((entry.high - entry.low) / entry.step + 1e-9)
        return [min(entry.low + number * entry.step, entry.high) for number in range(steps + 1)]
    inside = [entry.at(place / (points - 1)) for place in range(1, points - 1)]
    return [entry.low, *inside, entry.high]


def as_choice(value: Any) -> Any:
    """A value as it stands among choices: a list as the word that a flag would be."""
    if not isinstance(value, list | tuple):
        return value
    return ",".join(str(each) for each in value) or "none"
