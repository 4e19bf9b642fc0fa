"""How figures look: one style for all, colours that colour-blind people can tell apart.

A figure is drawn with what it shows as a table, so that whoever wants other figures has the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from textwrap import fill
from typing import IO, Any, Literal, ParamSpec, TypeVar

import pandas as pd
from cycler import cycler
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, AMBER = "#56B4E9", "#E69F00"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY, "#000000")
"""Of Okabe and Ito, 2008; without their yellow, which is too light for a line."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""As many as colours, and used with them: colours alone do not do in print."""
BEST, WORSE, PLAIN, FAINT = BLUE, ORANGE, "0.5", "0.85"

LETTERS_PER_INCH = 10  # of a headline
STYLE: Any = {  # of matplotlib's own names
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.size": 10,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "svg.hashsalt": "figures",  # so that the same figure is the same file
}

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Drawn:
    """A figure, and the numbers that it shows."""

    figure: Figure
    data: pd.DataFrame
    says: str
    """What is found in it, in a sentence: its title."""

    def save(self, target: Path | IO[bytes], kind: Literal["png", "svg"]) -> None:
        """Write the figure; what is drawn alike is the same file, byte for byte."""
        with rc_context(STYLE):
            metadata = {"Date": None} if kind == "svg" else None
            self.figure.savefig(target, format=kind, metadata=metadata)


def in_style(draw: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let a function draw in the style of the house; pyplot's own settings stay as they are."""

    @wraps(draw)
    def styled(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def new_figure(width: float = 8, height: float = 4.5) -> tuple[Figure, Axes]:
    """An empty figure, in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def headline(figure: Figure, says: str) -> None:
    """Write what a figure says over all of its width, on as many lines as that takes."""
    lines = fill(says, int(LETTERS_PER_INCH * figure.get_figwidth()))
    figure.suptitle(lines, x=0.01, ha="left", fontsize=12, fontweight="bold")


def new_panels(width: float, height: float, rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    """An empty figure, in inches, and its axes, row by row, which share what is at their left."""
    figure = Figure(figsize=(width, height), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(rows, columns, sharey=True, squeeze=False).flat  # type: ignore[assignment]
    return figure, list(panels)
