"""Processes forked from one that has imported everything, so that moments are spent on commands."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pipeline.steps.backtest
import pipeline.steps.compare
import pipeline.steps.everything
import pipeline.steps.import_ledger
import pipeline.steps.main
import pipeline.steps.recommend
import pipeline.steps.sync  # noqa: F401  # imported before any process is forked
from tests.steps.workplace import Workplace

POLL_SECONDS = 0.005


def command(place: Workplace, *words: str, uri: str | None = None) -> tuple[int, str]:
    """``python -m pipeline WORDS``, in this process: its exit status and words."""
    outcome = place.cli(*words, uri=uri)
    return outcome.status, outcome.told


def start(do: Callable[[], Any], answer: Path | None = None) -> int:
    """Begin to do something in a process of its own, the first of its group; its id.

    It writes what ``do`` gives, a JSON value, to ``answer``; without that, it is the exit status
    and words of a command.
    """
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        result = do()
        if answer is not None:
            answer.write_text(json.dumps(result))
        status = 0 if answer is not None else result[0]
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def ended(child: int) -> bool:
    """Whether a process has ended; it stays to be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def wait(child: int) -> int:
    """The exit status of a process that ``start`` gave; negative is a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(child: int, moment: float, *, group: bool) -> bool:
    """Kill a process, or all of its ``group``, so many seconds from now; False if it was over."""
    until = time.monotonic() + moment
    while time.monotonic() < until and not ended(child):
        time.sleep(POLL_SECONDS)
    if ended(child):
        wait(child)
        return False
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL) if group else os.kill(child, signal.SIGKILL)
    wait(child)
    return True


def forked(do: Callable[[], Any]) -> Any:
    """What ``do`` gives, done in a process of its own: a JSON value."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer"
        wait(start(do, answer))
        return json.loads(answer.read_text())
