"""Memory that is left: of the machine, of a container, and of what this process is allowed."""

from __future__ import annotations

import os
import resource
from pathlib import Path


def available_memory(root: Path = Path("/")) -> float:
    """Bytes that this process may still take: of the machine, a container, and its own limit.

    Args:
        root: where /proc and /sys are.
    """
    groups = root / "sys/fs/cgroup"
    found = min(
        _free_of_machine(root / "proc/meminfo"),
        _left(groups / "memory.max", groups / "memory.current", groups / "memory.stat"),
        _left(
            groups / "memory/memory.limit_in_bytes",
            groups / "memory/memory.usage_in_bytes",
            groups / "memory/memory.stat",
        ),
        _left_of_own(root / "proc/self/statm"),
    )
    return max(0.0, found)


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


def _left_of_own(statm: Path) -> float:
    """This process's limit of data less what it has of it."""
    allowed = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if allowed == resource.RLIM_INFINITY:
        return float("inf")
    try:
        pages = int(statm.read_text().split()[5])
    except OSError:
        pages = 0
    return float(allowed - pages * os.sysconf("SC_PAGE_SIZE"))
