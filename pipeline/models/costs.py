"""What a fit will take, said before it starts, and refused where the machine does not have it."""

from __future__ import annotations

import logging
import os
from functools import cache
from pathlib import Path

import numpy as np
from scipy import sparse

from pipeline.errors import UserError

log = logging.getLogger("pipeline")

SHORT = 5  # seconds that need no announcement
SMALL = 2**30  # bytes that need none
PRODUCTS = 2.5e8  # of pairs of interactions a second on one core, in X^T X


def announce(what: str, seconds: float, memory: float, advice: str) -> None:
    """Say of a fit that is not small what it will take; both numbers are rough.

    Args:
        what: the model and the sizes that its cost comes from.
        seconds: on one core.
        memory: bytes at its peak.
        advice: what to do where that is too much.

    Raises:
        UserError: it needs more memory than there is.
    """
    needed = f"about {_size(memory)} of memory and {_duration(seconds)}"
    available = available_memory()
    if memory > available:
        raise UserError(
            f"{what}: a fit takes {needed}, and {_size(available)} of memory are left here. "
            f"{advice}"
        )
    if seconds > SHORT or memory > SMALL:
        _say(f"{what}: a fit takes {needed}")


@cache
def _say(text: str) -> None:
    """Once: a study fits a model of the same sizes again and again."""
    log.info("%s", text)


def pairs_of_interactions(interactions: sparse.csr_matrix) -> float:
    """Products that X^T X takes: the sum over rows of their squared lengths."""
    return float((np.diff(interactions.indptr).astype(np.float64) ** 2).sum())


def available_memory(root: Path = Path("/")) -> float:
    """Bytes that processes can still take: the machine's, or a container's where that has less.

    Args:
        root: where /proc and /sys are.
    """
    groups = root / "sys/fs/cgroup"
    return min(
        _free_of_machine(root / "proc/meminfo"),
        _left(groups / "memory.max", groups / "memory.current", groups / "memory.stat"),
        _left(
            groups / "memory/memory.limit_in_bytes",
            groups / "memory/memory.usage_in_bytes",
            groups / "memory/memory.stat",
        ),
    )


def _free_of_machine(meminfo: Path) -> float:
    """What Linux says is available; elsewhere all memory that is built in."""
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return float(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")


def _left(limit: Path, used: Path, statistics: Path) -> float:
    """A control group's limit less what is in use; files that it has read can be dropped."""
    try:
        most, taken = float(limit.read_text()), float(used.read_text())  # "max" is no number
        fields = dict(line.split() for line in statistics.read_text().splitlines())
        return most - taken + float(fields.get("inactive_file", 0))
    except (OSError, ValueError):
        return float("inf")


def _size(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB"


def _duration(seconds: float) -> str:
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{max(1, seconds):,.0f} s"
