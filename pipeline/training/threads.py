"""Threads of PyTorch: more than one pays only where a single operation is long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread.

    Operations on what fits into a cache take microseconds. A second thread gains little there, and
    where another process holds its core, each of them waits for the scheduler: 50 times as long.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
