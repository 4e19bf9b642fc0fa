"""What preparing ratings in memory takes, and what there is."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from pipeline.data.files import TableFiles
from pipeline.data.parquet import count_rows
from pipeline.data.text import read_start

BYTES_PER_ROW = 130
"""At the peak of the preparation of 25 million ratings (docs/performance.md), and some to spare."""

_GROUPS = Path("/sys/fs/cgroup")
_LIMITS = (  # of a control group of version 2 and of version 1, and what of it is used
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def needed(files: TableFiles) -> int:
    """Bytes of memory that ratings in these files take to be prepared in it, at the peak.

    Rows of text are estimated: as long as those at the start of the first file.

    Raises:
        UserError: a file cannot be read.
    """
    if files.parts[0].is_parquet:
        return BYTES_PER_ROW * sum(map(count_rows, files.parts))
    start = read_start(files.parts[0])
    row_bytes = max(1.0, len(start) / max(1, start.count(b"\n")))
    return int(BYTES_PER_ROW * sum(part.unpacked_bytes for part in files.parts) / row_bytes)


def available() -> int:
    """Bytes that this process may still take: of the machine, its control group and its limits."""
    found = [_of_machine()]
    for limit, used in _LIMITS:
        try:
            left = int((_GROUPS / limit).read_text()) - int((_GROUPS / used).read_text())
        except (OSError, ValueError):  # there is no such group, or its limit is "max"
            continue
        found.append(left)
    allowed = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if allowed != resource.RLIM_INFINITY:
        found.append(allowed - _own_data())
    return max(0, min(found))


def _of_machine() -> int:
    page = os.sysconf("SC_PAGE_SIZE")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return page * os.sysconf("SC_PHYS_PAGES")


def _own_data() -> int:
    """Bytes of this process that count towards its limit of data."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[5])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
