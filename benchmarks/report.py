"""What every benchmark prints: the machine, its tables, and the bars that it met or missed.

The tables are Markdown, so that they go into docs/performance.md as they are, and nothing but the
standard library and torch is needed, so that a bare GPU machine will do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

Row = dict[str, str | int | float]


@dataclass(frozen=True)
class Table:
    """Rows with the same keys; these head the columns and hold the units, as in "time [s]"."""

    title: str
    rows: Sequence[Row]

    def __str__(self) -> str:
        heads = list(self.rows[0])
        cells = [heads] + [[_spelled(row[head]) for head in heads] for row in self.rows]
        widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
        numeric = [not isinstance(self.rows[0][head], str) for head in heads]
        lines = [
            "| "
            + " | ".join(
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(line, widths, numeric, strict=True)
            )
            + " |"
            for line in cells
        ]
        rule = "|".join(
            "-" * (width + 1) + (":" if right else "-")
            for width, right in zip(widths, numeric, strict=True)
        )
        return "\n".join([f"### {self.title}", "", lines[0], f"|{rule}|", *lines[1:]])


@dataclass(frozen=True)
class Bar:
    """What a measured figure has to reach."""

    what: str
    measured: float
    limit: float
    unit: str = ""
    at_least: bool = False
    """Whether more is better; otherwise less is."""

    @property
    def met(self) -> bool:
        """Whether the figure reaches its limit."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def __str__(self) -> str:
        word = "at least" if self.at_least else "at most"
        limit, measured = (
            f"{_spelled(x)} {self.unit}".strip() for x in (self.limit, self.measured)
        )
        return f"- {'met' if self.met else '**missed**'}: {self.what}: {measured} ({word} {limit})"


@dataclass
class Report:
    """The result of one benchmark."""

    title: str
    tables: list[Table] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences that a reader of the figures needs."""

    def publish(self, as_json: bool) -> None:
        """Print it, as Markdown or as one JSON object."""
        if as_json:
            bars = [{**asdict(bar), "met": bar.met} for bar in self.bars]
            print(json.dumps({**asdict(self), "bars": bars, "machine": machine()}, indent=2))
            return
        about = "; ".join(f"{name} {value}" for name, value in machine().items())
        parts = [f"## {self.title}", about, *map(str, self.tables)]
        if self.bars:
            parts.append("\n".join(map(str, self.bars)))
        print("\n\n".join(parts + self.notes))


def machine() -> dict[str, str]:
    """Processor, cores, threads and versions: what figures depend on."""
    import torch

    found = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "torch threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of command lines with what all benchmarks take: ``--json``."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", action="store_true", help="print one JSON object, no tables")
    return made


def progress(message: str) -> None:
    """Tell on stderr what is being measured, so that stdout stays a table or JSON."""
    print(message, file=sys.stderr, flush=True)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _spelled(value: str | int | float) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else value
