"""What preparing ratings in memory takes."""

from __future__ import annotations

from pipeline.data.raw.files import TableFiles
from pipeline.data.raw.parquet import count_rows
from pipeline.data.raw.text import read_start

BYTES_PER_ROW = 130
"""At the peak of the preparation of 25 million ratings (docs/performance.md), and some to spare."""


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
