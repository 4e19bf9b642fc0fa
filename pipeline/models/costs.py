"""What a fit will take, said before it starts, and refused where the machine does not have it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from pipeline.errors import UserError
from pipeline.memory import available_memory

log = logging.getLogger("pipeline")

SHORT = 60  # seconds that need no announcement
SMALL = 2**30  # bytes that need none
LONGEST = 48 * 3600.0  # seconds of a fit that has to be begun anew if anything ends it
# On one core, a second:
PRODUCTS = 1e8  # of pairs of interactions, in X^T X
FLOPS = 2e10  # operations of dense products
THIN_FLOPS = 1e10  # operations of products of long and narrow matrices, and of sparse ones


@dataclass(frozen=True)
class Cost:
    """What a fit will take, from the sizes of the data; both numbers are rough.

    ``python -m benchmarks.costs`` holds them against what was measured.
    """

    what: str
    """The model and the sizes that its cost comes from."""
    seconds: float | None
    """On one core; None where nobody has worked it out."""
    memory: float
    """Bytes at its peak, beside the dataset."""
    advice: str
    """What to do where that is too much."""
    goes_on: bool = False
    """Whether a fit that was ended goes on from where it stood."""
    available: float | None = None
    """Bytes where the fit takes place; None: this machine's."""


def announce(cost: Cost | None) -> None:
    """Say of a fit that is not small what it will take.

    Raises:
        UserError: it needs more memory than there is, or days in one piece.
    """
    if cost is None:
        return
    needed = f"about {_size(cost.memory)} of memory"
    if cost.seconds is not None:
        needed += f" and {duration(cost.seconds)}"
    available = available_memory() if cost.available is None else cost.available
    if cost.memory > available:
        raise UserError(
            f"{cost.what}: a fit takes {needed}, and {_size(available)} of memory are left here. "
            f"{cost.advice}"
        )
    seconds = cost.seconds or 0.0
    if seconds > LONGEST and not cost.goes_on:
        raise UserError(
            f"{cost.what}: a fit takes {needed}, in one piece that a kill would undo. {cost.advice}"
        )
    if seconds > SHORT or cost.memory > SMALL:
        _say(f"{cost.what}: a fit takes {needed}")


@cache
def _say(text: str) -> None:
    """Once: a study fits a model of the same sizes again and again."""
    log.info("%s", text)


def pairs_of_interactions(lengths: npt.NDArray[np.integer]) -> float:
    """Products that X^T X takes, X having rows of these ``lengths``: the sum of their squares."""
    return float((lengths.astype(np.float64) ** 2).sum())


def _size(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB"


def duration(seconds: float) -> str:
    """In words, rounded to what an estimate can tell."""
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{max(1, seconds):,.0f} s"
