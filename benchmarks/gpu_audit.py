"""What a GPU would be asked to do, looked at without one.

Torch's device "meta" has shapes and types and no memory: what runs there runs at any size at once.
An ``Audit`` sees every operation on it with the line of this project that asked for it. Faults are

    devices  an operation on tensors of two devices, which CUDA refuses
    wait     the host waits for the device, or for a copy between the two: ``item``, ``cpu``,
             ``nonzero``, ``unique``, a boolean index. A CUDA graph can hold none of these.
    draw     random numbers from another generator than the run's
    turned   signals that lie in memory in different orders meet, or one is answered that lies in
             another: a kernel that does so takes several times as long. Matrix products may.

and of each operation it notes the bytes that it moves and its flops. What depends on values is
answered as if every value were one. ``numpy`` of a tensor raises, as on CUDA. A tensor that is made
of Python's numbers is a copy as well, but torch does not show it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

from benchmarks.device import Size
from pipeline.models.neumf import NCFMethod, NCFNetwork
from pipeline.training.layers import by_samples
from pipeline.training.loop import Network, TrainingLoop
from pipeline.training.method import Method

DEVICE = torch.device("meta")
SEED = 4_294_967_311  # by which a run's generator is known again: torch hands on a copy
ROOT = f"{Path(__file__).parents[1]}/"
OURS = tuple(f"{ROOT}{part}/" for part in ("pipeline", "benchmarks", "tests"))

OF_VALUES = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
COPIES = {"copy_", "_to_copy"}
INDEXED = {"index", "index_put", "index_put_"}  # dynamic with booleans alone
NO_KERNEL = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"}
NO_KERNEL |= {"_unsafe_view"}
OVERWRITE = {"copy_", "fill_", "zero_", "bernoulli_", "random_", "uniform_", "normal_"}
LIKE = {"new_zeros", "zeros_like", "ones_like", "full_like"}  # read a shape and no value
IN_ANY_ORDER = {"mm", "addmm", "bmm", "_fused_adam_"}  # or of several parameters at once
LOOKED_UP = {"index", "index_select", "gather"}
ADDED_UP = {"index_add_", "index_put_", "scatter_add_", "index_add"}


class _Generator(torch.Generator):
    device = DEVICE  # which torch makes none for


def generator() -> torch.Generator:
    """A run's generator, as if it were the device's."""
    return _Generator().manual_seed(SEED)


@dataclass(frozen=True)
class Fault:
    """What should not be there."""

    kind: str
    """devices, wait, draw or turned."""
    operation: str
    where: str
    """File and line, the innermost of this project."""


@dataclass(frozen=True)
class Operation:
    """A kernel, as far as torch tells."""

    name: str
    where: str
    bytes: int
    """Read and written; of a table that is looked up in, as much as is looked up."""
    flops: int
    """Of matrix products."""
    scattered: int
    """Numbers that are read or added one by one where an index says, and not a row at a time."""


class Audit(TorchDispatchMode):
    """Notes what happens on the device for as long as it lasts."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.faults: list[Fault] = []
        self.operations: list[Operation] = []

    def __torch_dispatch__(
        self,
        func: OpOverload[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        with self:  # in inference mode, what is made of other operations comes here whole
            made = func.decompose(*args, **kwargs)
        if made is not NotImplemented:
            return made
        name, where = func._schema.name.partition("::")[2], _where()
        given = _tensors((args, kwargs))
        # A single number of the host may stand beside the device's, in a kernel's arguments.
        devices = {each.device for each in given if each.dim() or each.device == DEVICE}
        target = kwargs.get("device")
        ends = devices if target is None else devices | {torch.device(target)}
        if DEVICE not in ends:
            return func(*args, **kwargs)
        of_values = bool(OF_VALUES & set(func.tags))
        if name in INDEXED:
            of_values = any(each.dtype == torch.bool for each in _tensors(args[1]))
        if of_values or (name in COPIES and len(ends) > 1):
            self.faults.append(Fault("wait", name, where))
        elif len(devices) > 1:
            self.faults.append(Fault("devices", name, where))
            args, kwargs = tree_map(_there, (args, kwargs))  # and on, to find what else there is
        if torch.Tag.nondeterministic_seeded in func.tags and SEED not in _seeds(args, kwargs):
            self.faults.append(Fault("draw", name, where))
        to_host = name in COPIES and (target or args[0].device) != DEVICE
        if of_values or to_host:
            made = func(*tree_map(_ones, tuple(args)), **tree_map(_ones, dict(kwargs)))
            made = made if to_host else tree_map(_there, made)
        else:
            made = func(*args, **kwargs)
        if name not in NO_KERNEL and not _is_view(func):
            if name not in IN_ANY_ORDER and len(_orders([*given, *_tensors(made)])) > 1:
                self.faults.append(Fault("turned", name, where))
            done = _operation(func, name, where, args, kwargs, made)
            if done.bytes:  # nothing is launched for tensors without entries
                self.operations.append(done)
        return made


def _where() -> str:
    frame = sys._getframe(2)
    while frame.f_back is not None and (
        frame.f_code.co_filename == __file__ or not frame.f_code.co_filename.startswith(OURS)
    ):
        frame = frame.f_back
    return f"{frame.f_code.co_filename.removeprefix(ROOT)}:{frame.f_lineno}"


def _orders(tensors: Sequence[Tensor]) -> set[bool]:
    """Whether signals lie by samples, of those of which it can be told."""
    return {
        by_samples(each)
        for each in tensors
        if each.is_floating_point() and each.dim() > 1 and min(each.shape[0], each.shape[-1]) > 1
        if 0 not in (ends := each.stride()[:: each.dim() - 1]) and ends.count(1) == 1
    }


def _seeds(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[int]:
    every = (*args, *kwargs.values())
    return [each.initial_seed() for each in every if isinstance(each, torch.Generator)]


def _tensors(tree: Any) -> list[Tensor]:
    """Every tensor of a tree, once."""
    return list({id(each): each for each in tree_leaves(tree) if isinstance(each, Tensor)}.values())


def _there(leaf: Any) -> Any:
    return leaf.to(DEVICE) if isinstance(leaf, Tensor) else leaf


def _ones(leaf: Any) -> Any:
    """A tensor on the device as one of ones on the host; all else as it is."""
    if not isinstance(leaf, Tensor) or leaf.device != DEVICE:
        return leaf
    return torch.ones(leaf.shape, dtype=leaf.dtype)


def _is_view(func: OpOverload[..., Any]) -> bool:
    aliases = [answer.alias_info for answer in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def _operation(
    func: OpOverload[..., Any],
    name: str,
    where: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    made: Any,
) -> Operation:
    given = _tensors((args, kwargs))
    changed = _tensors(list(_written(func, args, kwargs)))
    written = changed or _tensors(made)
    scattered = 0
    if name in LOOKED_UP:
        moved = 2 * _bytes(written) + _bytes(given[1:])
        by_rows = given[0].dim() > 1 and name == "index_select" and args[1] == 0
        scattered = 0 if by_rows else sum(each.numel() for each in written)
    elif name in ADDED_UP:
        scattered = max(each.numel() for each in given[1:])
        indices = [each for each in given[1:] if not each.is_floating_point()]
        moved = 3 * scattered * given[0].element_size() + _bytes(indices)
    else:
        unread = {id(each) for each in (given if name in LIKE else changed * (name in OVERWRITE))}
        moved = _bytes(written) + _bytes([each for each in given if id(each) not in unread])
    formula = flop_registry.get(func.overloadpacket)
    flops = 0 if formula is None else int(formula(*args, **kwargs, out_val=made))
    return Operation(name, where, moved, flops, scattered)


def _written(
    func: OpOverload[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Iterator[Any]:
    """The arguments that an operation changes."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield args[place] if place < len(args) else kwargs.get(argument.name)


def _bytes(tensors: Sequence[Tensor]) -> int:
    """What lies in memory: a number that is expanded lies there once."""
    total = 0
    for each in tensors:
        count = each.element_size()
        for size, stride in zip(each.shape, each.stride(), strict=True):
            count *= size if stride else 1
        total += count
    return total


def on_device(network: Network, size: Size, method: Method) -> TrainingLoop:
    """The training loop of a network that is on the device, over interactions that are as well."""
    users, items = (
        torch.empty(size.interactions, dtype=torch.int64, device=DEVICE) for _ in range(2)
    )
    weights = torch.ones((), device=DEVICE)
    with Audit():  # what is counted once, before the first epoch, is waited for
        return TrainingLoop(network, users, items, weights, size.items, method, generator())


def ncf(size: Size, method: NCFMethod) -> NCFNetwork:
    """A network on the device."""
    network = NCFNetwork(size.users, size.items, method, generator())
    return network.to(DEVICE)


@cache
def step_of_ncf(size: Size, method: NCFMethod) -> Audit:
    """What a step on a full batch asks of the device, with a network of ``size``."""
    made = on_device(ncf(size, method), replace(size, interactions=method.batch_size), method)
    candidates = made.items.expand(1 + method.negatives, -1).contiguous()
    audit = Audit()
    with audit:
        made.step(made.users, candidates)
    return audit
