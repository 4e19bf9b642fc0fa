"""What a person sees while a step runs: lines, a progress bar in a terminal, tables."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

PLAIN_SECONDS = 2.0  # between the lines that replace a bar where there is no terminal

console = Console(stderr=True, highlight=False)
if not console.is_terminal:
    console = Console(stderr=True, highlight=False, width=120)  # room for tables in log files
log = logging.getLogger("pipeline")


class _ConsoleHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record), "yellow" if record.levelno >= logging.WARNING else None)


def say(text: str, style: str | None = None) -> None:
    """Print sentences: wrapped at words in a terminal, and a line each in a log file."""
    console.print(text, style=style, markup=False, soft_wrap=not console.is_terminal)


def show_line(text: str, style: str | None = None) -> None:
    """Print a line that is not wrapped, so that a link or a command in it can be taken as it is."""
    console.print(text, style=style, markup=False, soft_wrap=True)


def show_next(commands: Sequence[str]) -> None:
    """Commands, each on a line of its own, as they can be typed here."""
    say("Next:")
    for command in (*_activation(), *commands):
        show_line(f"  {command}", "bold")


def _activation() -> list[str]:
    """How this Python's environment is entered, where the shell has not."""
    script = Path(sys.prefix) / "bin" / "activate"
    entered = os.environ.get("VIRTUAL_ENV") == sys.prefix
    if entered or sys.prefix == sys.base_prefix or not script.exists():
        return []
    here = Path.cwd()
    path = script.relative_to(here) if script.is_relative_to(here) else script
    return [f"source {shlex.quote(str(path))}"]


def set_up_logging() -> None:
    """Lines of this project go to the terminal as they are; libraries only warn."""
    handler = _ConsoleHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    # It prints the traceback of what it raises, as a database that is locked for a moment; whoever
    # catches that says it in words.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def house_table(*heads: str, title: str | None = None) -> Table:
    """An empty table in the one style that tables have: numbers stand at the right."""
    table = Table(title=title, box=SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    for number, head in enumerate(heads):
        justify: JustifyMethod = "right" if number else "left"
        table.add_column(head, justify=justify, no_wrap=number > 0, overflow="fold")
    return table


class ProgressBar:
    """Units of work done of a number known before: a bar, or a plain line now and then."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit  # there may come to be more
        self.last_line = time.monotonic()
        self.last = 0
        self.bar: Progress | None = None
        if console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[words]}"),
                TimeRemainingColumn(),
                console=console,
                speed_estimate_period=3600,  # a unit may take minutes
            )
            self.task = self.bar.add_task(title, total=total, words="")

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def done(self, number: int, words: str) -> None:
        """Show that units up to ``number`` are done, with a few words on it."""
        if self.bar is not None:
            self.bar.update(self.task, total=self.total, completed=number, words=words)
        elif number != self.last and (
            number == self.total or time.monotonic() - self.last_line >= PLAIN_SECONDS
        ):
            self.last, self.last_line = number, time.monotonic()
            log.info("%s: %s %d of %d, %s", self.title, self.unit, number, self.total, words)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show that something of unknown length goes on, where it takes more than a moment.

    It is a clock in a terminal, which goes when it is done, and a line elsewhere.
    """
    if console.is_terminal:
        columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        with Progress(*columns, console=console, transient=True) as shown:
            shown.add_task(what, total=None)
            yield
        return
    line = threading.Timer(PLAIN_SECONDS, log.info, ("%s ...", what))
    line.daemon = True
    line.start()
    try:
        yield
    finally:
        line.cancel()


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say how long something took."""
    started = time.perf_counter()
    yield
    log.info("%s (%.1f s)", what, time.perf_counter() - started)
