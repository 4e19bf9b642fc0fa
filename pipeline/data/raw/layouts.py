"""How a text file is cut into cells, and whether its first line names them: found out.

The ending of a file only decides where several separators could be meant.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice

from pipeline.data.raw.files import Part
from pipeline.data.raw.text import LAYOUTS, UNIT, Layout, cut_start, read_start
from pipeline.errors import UserError

Sample = Sequence[Sequence[str]]
"""The first rows of a file, as cells."""

SEPARATORS = {
    "\t": "tabs",
    UNIT: "'::'",
    ";": "';'",
    ",": "','",
    "|": "'|'",
    " ": "blanks",  # the last: names may hold some
}
_QUOTED = (",", ";")  # by which cells with text are cut
_ROWS = 50
TYPED = (".inter", ".item")
"""Endings of files whose columns are named with their types (RecBole)."""
_NUMBER = re.compile(r"[ \t]*[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?[ \t]*", re.ASCII)


def find_layout(part: Part, name: Callable[[Sample], tuple[str, ...] | None]) -> Layout:
    """The layout of a text file.

    Args:
        part: the file.
        name: gives the columns of a sample names, or None where its first row names them.

    Raises:
        UserError: it is no text, or not even its ending tells how it is cut.
    """
    layout, sample = _cut(part)
    if part.suffix in TYPED:
        return layout
    return Layout(layout.separator, layout.spelled, layout.quoted, name(sample))


def width(sample: Sample) -> int:
    """How many cells most of the rows have that are cut at all."""
    counts = Counter(len(row) for row in sample if len(row) > 1)
    return counts.most_common(1)[0][0] if counts else min(1, len(sample))


def number(cell: str) -> float | None:
    """A cell as a number, also with a decimal comma; None if it is none."""
    return float(cell.replace(",", ".")) if _NUMBER.fullmatch(cell) else None


def is_number(cell: str) -> bool:
    """Whether a cell is a number."""
    return number(cell) is not None


def _cut(part: Part) -> tuple[Layout, Sample]:
    """The layout that cuts the first rows into most cells, and most of them alike."""
    usual = LAYOUTS.get(part.suffix)
    if part.suffix in TYPED and usual is not None:
        return usual, []
    start = read_start(part)
    found: list[tuple[float, Layout, Sample]] = []
    refused: UserError | None = None
    for separator, spelled in SEPARATORS.items():
        quoted = separator in _QUOTED or part.suffix == ".tsv"
        layout = Layout(separator, spelled, quoted)
        try:
            cells: Sample = list(islice(cut_start(part, start, layout), _ROWS))
        except UserError as error:
            refused = error
            continue
        found.append(
            (_cuts(cells, usual is not None and separator == usual.separator), layout, cells)
        )
    if not found and refused is not None:
        raise refused
    score, layout, cells = max(found, key=lambda one: one[0])
    if score == 0 and usual is not None:
        return usual, []
    return layout, cells


def _cuts(cells: Sample, is_usual: bool) -> float:
    """How well rows are cut: the separators of a row, in so far as rows have as many.

    What does not cut the first row, which has the names, cuts no table.
    """
    if not cells or len(cells[0]) < 2:
        return 0.0
    columns = width(cells)
    alike = sum(len(row) == columns for row in cells) / len(cells)
    return alike * (columns - 1) * (2 if is_usual and len(cells[0]) == columns else 1)
