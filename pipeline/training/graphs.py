"""Training steps as CUDA graphs: one launch instead of a hundred.

The kernels of a small batch take a microsecond or two each, and launching one from Python takes
several. A graph launches all of a step's kernels at once, always on the same memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeAlias

import torch
from torch import Tensor

# Steps run as they stand before one is recorded, by which the libraries' work spaces are made:
# inside a graph they would be made anew at every replay.
WARM_UP = 3

Recorder: TypeAlias = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""Takes what is to be done and answers what does it again; its result is one and the same tensor.

Raises RuntimeError where it cannot be recorded."""


class Replayed:
    """A function of batches of one shape that is recorded once and replayed from then on.

    Where it cannot be recorded it is called as it stands, with a warning that says why. It is
    given at every call and not kept: a step belongs to who would keep it in turn.
    """

    def __init__(self, record: Recorder) -> None:
        self.record = record
        self.calls = 0
        self.buffers: tuple[Tensor, ...] = ()
        self.replay: Callable[[], Tensor] | None = None

    def __call__(self, function: Callable[..., Tensor], *batch: Tensor) -> Tensor:
        """``function(*batch)``; the function is the same one every time."""
        if self.calls == WARM_UP:
            self._record(function, batch)
        self.calls += 1
        if self.replay is None:
            return function(*batch)
        for buffer, part in zip(self.buffers, batch, strict=True):
            buffer.copy_(part)
        return self.replay().clone()

    def _record(self, function: Callable[..., Tensor], batch: tuple[Tensor, ...]) -> None:
        buffers = self.buffers = tuple(part.clone() for part in batch)
        try:
            self.replay = self.record(lambda: function(*buffers))
        except RuntimeError as error:
            # What forbids it comes first; that the recording failed for it is all that CUDA adds.
            first: BaseException = error
            while first.__context__ is not None:
                first = first.__context__
            reason = str(first).partition("\n")[0]
            warnings.warn(
                f"A training step cannot be recorded as a CUDA graph, so its kernels are launched "
                f"one by one, which is slower and no different otherwise: {reason}",
                stacklevel=2,
            )


def cuda_graph(function: Callable[[], Tensor], generator: torch.Generator) -> Callable[[], Tensor]:
    """Record what ``function`` does on the current stream, which must not be the default one.

    Recording runs nothing. Every replay draws from ``generator`` where the last one stopped, so
    that no two are alike.

    Raises:
        RuntimeError: it does what a graph cannot hold, such as waiting for a result.
    """
    before = generator.clone_state()
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    try:
        with torch.cuda.graph(graph, stream=torch.cuda.current_stream(generator.device)):
            result = function()
    except RuntimeError:
        # One that was to be part of a graph refuses to draw outside it, even if there is no graph.
        generator.graphsafe_set_state(before)
        raise

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


@cache
def stream_of(device: torch.device) -> torch.cuda.Stream:
    """The stream of ``device`` that training has, since a graph is not recorded on the default one.

    All fits have the same: cuBLAS keeps 65 MiB for every stream that it has ever worked on.
    """
    return torch.cuda.Stream(device)


@contextmanager
def on_stream(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """Do the work on ``stream``, after what has been begun and before what comes; None: here."""
    if stream is None:
        yield
        return
    outside = torch.cuda.current_stream(stream.device)
    stream.wait_stream(outside)
    with torch.cuda.stream(stream):
        yield
    outside.wait_stream(stream)
