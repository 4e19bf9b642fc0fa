"""What a person sees while a step runs: lines, a progress bar in a terminal, tables."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 2.0  # between the lines that replace a bar where there is no terminal

console = Console(stderr=True, highlight=False)
if not console.is_terminal:
    console = Console(stderr=True, highlight=False, width=120)  # room for tables in log files
log = logging.getLogger("pipeline")


class _ConsoleHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else None
        console.print(self.format(record), style=style, markup=False, soft_wrap=True)


def set_up_logging() -> None:
    """Lines of this project go to the terminal as they are; libraries only warn."""
    handler = _ConsoleHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)


class EpochProgress:
    """Epochs of one fit: a bar in a terminal, a plain line now and then elsewhere."""

    def __init__(self, title: str, epochs: int) -> None:
        self.title, self.epochs = title, epochs
        self.last_line = time.monotonic()
        self.bar: Progress | None = None
        if console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[told]}"),
                TimeRemainingColumn(),
                console=console,
            )
            self.task = self.bar.add_task(title, total=epochs, told="")

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

    def done(self, epoch: int, told: str) -> None:
        """Show that ``epoch`` is done, with a few words on it."""
        if self.bar is not None:
            self.bar.update(self.task, completed=epoch, told=told)
        elif epoch == self.epochs or time.monotonic() - self.last_line >= PLAIN_SECONDS:
            self.last_line = time.monotonic()
            log.info("%s: epoch %d of %d, %s", self.title, epoch, self.epochs, told)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say how long something took."""
    started = time.perf_counter()
    yield
    log.info("%s (%.1f s)", what, time.perf_counter() - started)
