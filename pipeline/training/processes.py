"""Processes that train one model: the first of them leads, the others take part in its steps.

torch.distributed's collectives, and not its DistributedDataParallel: that sums gradients as they
come to lie beside parameters, and here autograd is asked for them, lazy_adam's of what was looked
up. Gradients of one buffer are summed at once; what a step looked up travels by the batch and not
by the table.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import pad

from pipeline.errors import LostError, UserError, brief

CPU = torch.device("cpu")
PATIENCE = timedelta(days=365)  # others wait while the first one validates; who dies is noticed


@contextmanager
def joined() -> Iterator[None]:
    """Be one of the processes that torchrun has started, for a ``with`` block.

    Where there are GPUs each process sees its own alone. Whoever leads lets the others go at the
    end, if all went well; they end with its process otherwise.

    Raises:
        LostError: another process has ended.
        UserError: there are fewer GPUs than processes on this machine.
    """
    _take_own_gpu(int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]))
    with _lost():
        kinds = "cpu:gloo,cuda:nccl" if torch.cuda.device_count() else "gloo"
        dist.init_process_group(kinds, timeout=PATIENCE)
    yield
    if leads():
        for other in range(1, number()):
            give(other, None)
    dist.destroy_process_group()


def _take_own_gpu(place: int, processes: int) -> None:
    """See one GPU alone: before anything is done on one, CUDA asks which it may see."""
    gpus = torch.cuda.device_count()
    if 0 < gpus < processes:
        raise UserError(
            f"torchrun has started {processes} processes on a machine with {gpus} GPUs, and each "
            f"takes one: give --nproc_per_node {gpus}, or train on the CPU, where none is seen: "
            f"CUDA_VISIBLE_DEVICES= torchrun ..."
        )
    if gpus:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
        os.environ["CUDA_VISIBLE_DEVICES"] = seen.split(",")[place]


def number() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this process is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def on_this_machine() -> int:
    """How many of them are on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if dist.is_initialized() else 1


def leads() -> bool:
    """Whether this process is the first of several."""
    return number() > 1 and rank() == 0


def give(other: int, what: Any) -> None:
    """Give the process ``other`` an object, for ``receive``; the first one's to do.

    Raises:
        LostError: another process has ended.
    """
    with _lost():
        dist.send_object_list([what], other, device=CPU)


def receive() -> Any:
    """What the first process gives.

    Raises:
        LostError: another process has ended.
    """
    held = [None]
    with _lost():
        dist.recv_object_list(held, 0, device=CPU)
    return held[0]


def of_first(what: Any) -> Any:
    """What the first process has for ``what``; alone, what this one has.

    Raises:
        LostError: another process has ended.
    """
    if number() == 1:
        return what
    held = [what]
    with _lost():
        dist.broadcast_object_list(held, 0, device=CPU)
    return held[0]


@torch.no_grad()
def share(tensors: Iterable[Tensor]) -> None:
    """Give tensors the values that they have in the first process.

    Raises:
        LostError: another process has ended.
    """
    with _lost():
        for each in tensors:
            dense = each.contiguous()
            dist.broadcast(dense, 0)
            each.copy_(dense)


def summed(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The sums over processes of tensors of one type and device, in one message.

    Raises:
        LostError: another process has ended.
    """
    if number() == 1 or not tensors:
        return list(tensors)
    flat = torch.cat([each.flatten() for each in tensors])
    with _lost():
        dist.all_reduce(flat)
    parts = flat.split([each.numel() for each in tensors])
    return [part.view(each.shape) for part, each in zip(parts, tensors, strict=True)]


def gathered(*tensors: Tensor) -> list[Tensor]:
    """The columns of all processes, in their order: [..., m] of each to [..., sum of m].

    ``tensors`` have the same m, which differs between processes.

    Raises:
        LostError: another process has ended.
    """
    own = tensors[0].shape[-1]
    sizes = [torch.zeros(1, dtype=torch.int64, device=tensors[0].device) for _ in range(number())]
    with _lost():
        dist.all_gather(sizes, torch.full_like(sizes[0], own))
        counts = [int(size) for size in sizes]
        found = []
        for each in tensors:
            padded = pad(each, (0, max(counts) - own))
            parts = [torch.empty_like(padded) for _ in counts]
            dist.all_gather(parts, padded)
            columns = [part[..., :count] for part, count in zip(parts, counts, strict=True)]
            found.append(torch.cat(columns, dim=-1))
    return found


def from_all(row: Tensor) -> Tensor:
    """The ``row`` [m] of each process, [processes, m], on a CPU.

    Raises:
        LostError: another process has ended.
    """
    rows = [torch.empty_like(row) for _ in range(number())]
    with _lost():
        dist.all_gather(rows, row)
    return torch.stack(rows)


def exchanged(rows: Tensor, given: list[int], taken: list[int]) -> Tensor:
    """What all processes give this one, in their order, for what it gives them.

    Args:
        rows: [sum of given, ...], those for the first process first.
        given, taken: how many are for each process, and come from each.

    Raises:
        LostError: another process has ended.
    """
    found = rows.new_empty(sum(taken), *rows.shape[1:])
    with _lost():
        dist.all_to_all_single(found, rows, taken, given)
    return found


def send_tensor(tensor: Tensor, other: int) -> None:
    """Give the process ``other`` the values of a tensor, which it has one of the same shape for.

    Raises:
        LostError: another process has ended.
    """
    with _lost():
        dist.send(tensor.contiguous(), other)


def receive_tensor(tensor: Tensor, other: int) -> Tensor:
    """``tensor``, with the values that the process ``other`` gives.

    Raises:
        LostError: another process has ended.
    """
    with _lost():
        dist.recv(tensor, other)
    return tensor


@contextmanager
def _lost() -> Iterator[None]:
    """Make of a connection that is gone a sentence.

    torchrun sends SIGTERM to whoever is left: what is ended already is not interrupted by it.
    """
    try:
        yield
    except RuntimeError as error:  # of several kinds, by what the connection is made of
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise LostError(
            f"Another process of torchrun has ended; torchrun says which ({brief(error)})."
        ) from error
