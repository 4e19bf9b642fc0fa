"""What a training step cannot be quicker than on this device: memory, arithmetic, launches.

The device's rates are measured here and now. What a step has to do is counted:

    bytes   the embeddings that are looked up are read and their gradients written once, and Adam
            reads and writes every parameter and both moments, and writes and reads its gradient
    flops   three matrix products a layer, two flops a multiplication
    launches  the operations of a step that are no views, each of which is at least one kernel

Activations are not counted: a single kernel could keep them on the chip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.device import Size, seconds
from benchmarks.gpu_audit import step_of_ncf
from pipeline.models.neumf import NCFMethod
from pipeline.training.graphs import cuda_graph, on_stream, stream_of
from pipeline.training.method import Precision

FLOAT = 4  # bytes
ADAM = 8  # floats that move per parameter: three are read and written, one is written and read
LAUNCHES = 1000  # of which the time of one is given
ROUNDS = 5  # of every measurement; the best counts


@dataclass(frozen=True)
class Rates:
    """What a device does in a second, and how long it takes to begin."""

    bytes: float
    """Read or written by a copy, per second."""
    flops: Mapping[Precision, float]
    """Of the product of large matrices, per second."""
    launch: float
    """Seconds of a kernel that does next to nothing, launched from Python."""
    node: float | None
    """Seconds of the same in a graph; None where there are no graphs."""


@dataclass(frozen=True)
class Floors:
    """Seconds below which a step cannot be."""

    memory: float
    arithmetic: float
    launches: float

    @property
    def highest(self) -> float:
        """The one that binds."""
        return max(self.memory, self.arithmetic, self.launches)


def rates(device: str, precisions: Sequence[Precision], megabytes: int, width: int) -> Rates:
    """Measure a device with copies of ``megabytes`` and matrices [width, width]."""
    source = torch.ones(megabytes * 10**6 // FLOAT, device=device)
    target = torch.empty_like(source)
    copied = _best(lambda: target.copy_(source), device)
    small = torch.zeros(1, device=device)
    launched = _best(lambda: _launch(small), device) / LAUNCHES
    node = None
    if device != "cpu":
        with on_stream(stream_of(torch.device(device))):
            _launch(small)
            replay = cuda_graph(lambda: _launch(small), torch.Generator(device))
            node = _best(replay, device) / LAUNCHES
    multiplied = {precision: _multiply(device, precision, width) for precision in precisions}
    return Rates(2 * source.nbytes / copied, multiplied, launched, node)


def _launch(small: Tensor) -> Tensor:
    for _ in range(LAUNCHES):
        small.add_(1)
    return small


def _multiply(device: str, precision: Precision, width: int) -> float:
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.ones(width, width, device=device, dtype=kind) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    taken = _best(lambda: left @ right, device)
    torch.set_float32_matmul_precision(before)
    return 2 * width**3 / taken


def _best(function: Callable[[], object], device: str) -> float:
    function()
    return min(seconds(function, device) for _ in range(ROUNDS))


def floors(size: Size, plan: NCFMethod, measured: Rates, replayed: bool) -> Floors:
    """Of a step on a full batch, which may come from a graph."""
    a_launch = measured.node if replayed and measured.node is not None else measured.launch
    return Floors(
        memory=step_bytes(size, plan) / measured.bytes,
        arithmetic=step_flops(plan) / measured.flops[plan.precision],
        launches=step_operations(size, plan) * a_launch,
    )


def step_bytes(size: Size, plan: NCFMethod) -> int:
    """That a step has to move."""
    half = plan.layers[0] // 2 if plan.layers else 0
    width = plan.embedding_dim + half + plan.bias
    embeddings = plan.batch_size * (2 + plan.negatives)  # one user and 1 + negatives items
    inner = sum(fan_in * fan_out + fan_out for fan_in, fan_out in pairwise(plan.layers))
    output = plan.embedding_dim + (plan.layers[-1] if plan.layers else 0) + 1
    parameters = width * (size.users + size.items) + inner + output
    return FLOAT * (2 * width * embeddings + ADAM * parameters)


def step_flops(plan: NCFMethod) -> int:
    """Of the matrix products of a step: forward, to the weights and to the inputs."""
    samples = plan.batch_size * (1 + plan.negatives)
    output = plan.embedding_dim + (plan.layers[-1] if plan.layers else 0)
    return 3 * 2 * samples * (sum(a * b for a, b in pairwise(plan.layers)) + output)


def step_operations(size: Size, plan: NCFMethod) -> int:
    """Operations of a step on a GPU that are no views, each of which is at least one kernel."""
    return len(step_of_ncf(size, plan).operations)
