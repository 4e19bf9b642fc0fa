"""Parts of a test in processes of their own: forked, so that nothing is imported again."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess

from sqlalchemy import event
from sqlalchemy.engine import Engine

FORK = multiprocessing.get_context("fork")


def at_once(number: int, do: Callable[[int], object]) -> list[int | None]:
    """Call ``do`` with 0, 1, ... in so many processes at the same moment; their exit statuses."""
    barrier = FORK.Barrier(number)

    def begin(which: int) -> None:
        barrier.wait()
        do(which)

    return [_ended(each) for each in [_started(begin, which) for which in range(number)]]


def killed_at(statement: int, do: Callable[[], object]) -> int | None:
    """Call ``do`` in a process that kills itself after so many writes to a database; its status."""

    def begin(_: int) -> None:
        left = [statement]

        def count(connection: object, cursor: object, text: str, *_: object) -> None:
            left[0] -= text.strip().startswith(("CREATE", "INSERT", "UPDATE", "ALTER", "DROP"))
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(Engine, "after_cursor_execute", count)
        do()

    return _ended(_started(begin, 0))


def _started(do: Callable[[int], object], which: int) -> BaseProcess:
    process = FORK.Process(target=do, args=(which,))
    process.start()
    return process


def _ended(process: BaseProcess) -> int | None:
    process.join(240)
    return process.exitcode
