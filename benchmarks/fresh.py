"""Functions run in a process of their own, whose memory is then theirs alone."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

MIB = 2**20


@dataclass(frozen=True)
class Measured:
    """What a function answered and what it took."""

    result: Any
    seconds: float
    before: int
    """Bytes resident at the most before the call: the interpreter and the imports."""
    peak: int
    """Bytes resident at the most after it."""


def measure(function: Callable[..., Any], *arguments: object) -> Measured:
    """Call a function of a module in a new process; arguments and result are pickled.

    Raises:
        RuntimeError: the process ended without an answer.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        measured: Measured = receiver.recv()
    except EOFError:
        raise RuntimeError(f"{function.__name__} ended without an answer") from None
    finally:
        process.join()
    return measured


def _run(sender: Connection, function: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    before = peak_memory()
    started = time.perf_counter()
    result = function(*arguments)
    sender.send(Measured(result, time.perf_counter() - started, before, peak_memory()))


def restart_peak() -> None:
    """Let ``peak_memory`` count anew from now on; where the system cannot, it counts on."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Bytes resident at the most so far in this process.

    Where there is no /proc, ``getrusage`` has to do; a child's figure there begins at what its
    parent held when it was started.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
