"""Interactions in shards, so that several processes train on what one process would.

    users   0 .............................................. n_users
    shard   |------ 0 ------|------ 1 ------|------ 2 ------|------ 3 ------|
    process |------------- 0 -------------|-------------- 1 ----------------|

A shard is of users in a row, with about as many interactions as every other, and draws from random
numbers of its own: order, negatives and dropout. A batch takes from all shards, by their sizes. So
it depends on the number of shards, and not on the number of processes that have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from pipeline.training.loop import Network, TrainingLoop
from pipeline.training.method import Method
from pipeline.training.processes import number, summed


class ReadRows(Protocol):
    """Interactions by their rows: users ascending and items, int32 [n], and the confidence of each,
    float32 [n], or one for all, []."""

    def __call__(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]: ...


@dataclass(frozen=True)
class Interactions:
    """All interactions, in shards; they are read when a process's portion is asked for."""

    read: ReadRows
    popularity: Tensor
    """Interactions of each item, int64 [n_items]."""
    sizes: tuple[int, ...]
    """Interactions of each shard; some are empty where users are fewer."""

    @classmethod
    def in_shards(
        cls, read: ReadRows, activity: Tensor, popularity: Tensor, shards: int
    ) -> Interactions:
        """``activity``: interactions of each user, int64 [n_users], none of them 0."""
        ends = activity.cumsum(0)
        n = int(ends[-1])
        even = torch.tensor([n * shard // shards for shard in range(1, shards)])
        # A shard begins with the first row of a user.
        users = torch.searchsorted(ends, even.long(), right=True)
        cuts = torch.cat([(ends - activity)[users], ends[-1:]])
        sizes = cuts.diff(prepend=torch.zeros(1, dtype=torch.int64))
        return cls(read, popularity, tuple(sizes.tolist()))

    def portion(self, process: int = 0, processes: int = 1) -> Portion:
        """What one of ``processes`` has: shards in a row, read now."""
        first, last = (each * len(self.sizes) // processes for each in (process, process + 1))
        rows = slice(sum(self.sizes[:first]), sum(self.sizes[:last]))
        return Portion(*self.read(rows), self.popularity, self.sizes, range(first, last))


@dataclass(frozen=True)
class Portion:
    """The interactions of some shards, the first of them first, on a CPU."""

    users: Tensor
    """int32 [n], ascending."""
    items: Tensor
    """int32 [n]."""
    weights: Tensor
    """Confidence of each, float32 [n], or one for all, []."""
    popularity: Tensor
    """Interactions of each item in all shards, int64 [n_items]."""
    sizes: tuple[int, ...]
    """Interactions of each shard there is."""
    shards: range
    """Those that are here."""

    def on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, int]:
        """Users and items, int64 [n], weights and how many items there are, for a loop."""
        users, items = (part.to(device, torch.int64) for part in (self.users, self.items))
        return users, items, self.weights.to(device), len(self.popularity)

    def steps(self, batch_size: int) -> list[list[int]]:
        """How many interactions of each shard there is come into each step's batch.

        In every step a shard is as far through as the whole is.
        """
        total = sum(self.sizes)
        ends = [min((step + 1) * batch_size, total) for step in range(-(-total // batch_size))]
        through = [[size * end // total for size in self.sizes] for end in (0, *ends)]
        steps = (
            [after - before for before, after in zip(*pair, strict=True)]
            for pair in pairwise(through)
        )
        return [step for step in steps if any(step)]  # batches may be smaller than shards are many


class ShardedLoop(TrainingLoop):
    """Passes over the interactions of all shards, of which this process has a portion.

    Every process ends a step with the same parameters: gradients are those of the mean over the
    batch, as one process has them, up to rounding.
    """

    def __init__(
        self, network: Network, portion: Portion, method: Method, generator: torch.Generator
    ) -> None:
        """``network`` and ``generator`` live on one device; the interactions are moved there."""
        device = generator.device
        popularity = portion.popularity.to(device)
        super().__init__(network, *portion.on(device), method, generator, popularity=popularity)
        self.replayed = None  # a graph holds one shape, and no word of other processes
        self.shards, self.steps = portion.shards, portion.steps(method.batch_size)
        on_cuda = device.type == "cuda"
        shared = torch.cuda.default_generators[device.index or 0] if on_cuda else None
        self.generators = [generator, torch.default_generator, *([shared] if shared else [])]

    def _run(self) -> Tensor:
        # All is drawn by the seed that PyTorch's global generator has as the epoch begins.
        epoch, first = torch.initial_seed(), 0
        drawn = []
        for shard in self.shards:
            sizes = [step[shard] for step in self.steps]
            self._seed(epoch, shard)
            order = torch.randperm(sum(sizes), device=self.users.device, generator=self.generator)
            drawn.append(self._drawn(first + order, sizes))
            first += sum(sizes)
        losses = []
        for step, parts in enumerate(self._renewing(zip(*drawn, strict=True))):
            self.optimizer.begin()
            loss = objective = torch.zeros((), device=self.users.device)
            for shard, part in zip(self.shards, parts, strict=True):
                share = self.steps[step][shard] / sum(self.steps[step])
                if share:
                    self._seed(epoch, shard, step)
                    of_shard, with_penalty = self._objective(*self._given(*part))
                    loss = loss + share * of_shard.detach()
                    objective = objective + share * with_penalty
            self._descend(objective)
            losses.append(loss)
        (together,) = summed([torch.stack(losses)])
        return together

    def _seed(self, *of: int) -> None:
        for generator in self.generators:
            generator.manual_seed(hash(of))

    def _gradients(self, objective: Tensor) -> Sequence[Tensor]:
        own: Sequence[Tensor]
        if objective.requires_grad:
            own = super()._gradients(objective)
        else:  # nothing of this batch is here
            own = [torch.zeros_like(each) for each in self.optimizer.parameters]
        return own if number() == 1 else self.optimizer.gather(own)


def make_loop(
    network: Network, portion: Portion, method: Method, generator: torch.Generator
) -> TrainingLoop:
    """Passes over interactions that are in one shard, or in several."""
    if len(portion.sizes) > 1:
        return ShardedLoop(network, portion, method, generator)
    return TrainingLoop(network, *portion.on(generator.device), method, generator)
