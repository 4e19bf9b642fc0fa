"""The training loop: Adam over shuffled interactions, negatives drawn anew every epoch.

Nothing but torch is needed here, so that it can be timed where the rest is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from pipeline.training.adam import Adam
from pipeline.training.graphs import Replayed, cuda_graph, on_stream
from pipeline.training.losses import LOSSES, LossName
from pipeline.training.sampling import NegativeSampler

Precision = Literal["float32", "tf32", "bf16"]


class Method(Protocol):
    """How to train; TrainingSettings explains it."""

    @property
    def loss(self) -> LossName: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def l2(self) -> float: ...
    @property
    def negatives(self) -> int: ...
    @property
    def negative_power(self) -> float: ...
    @property
    def verified_negatives(self) -> bool: ...
    @property
    def precision(self) -> Precision: ...


class Pull(Protocol):
    """The way back through a network, to the gradients of its parameters."""

    def __call__(self, slope: Tensor, used: Sequence[Tensor] = ()) -> None:
        """Set the parameters' gradients from those of the logits, [C, B], and of the embeddings."""
        ...


class Network(Protocol):
    """What is trained."""

    capturable: bool
    """Whether a CUDA graph can hold it: it waits for no result, and all shapes are the batch's."""

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...

    def __call__(
        self, users: Tensor, items: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, tuple[Tensor, ...], Pull]:
        """Users [B] and candidates [C, B] to logits [C, B], the embeddings used [width, ...] and
        the way back. Autograd knows nothing of them."""
        ...


class Epochs:
    """Passes of a network over training interactions, all on one device.

    On CUDA the device is never waited for, and steps on full batches are replayed from a graph.
    """

    def __init__(
        self,
        network: Network,
        users: Tensor,
        items: Tensor,
        weights: Tensor,
        n_items: int,
        method: Method,
        generator: torch.Generator,
    ) -> None:
        """Everything lives on the device of ``generator``.

        Args:
            users, items: the interactions, int64 [n].
            weights: confidence of each, float32 [n], or one for all, [].
        """
        self.network, self.method, self.generator = network, method, generator
        self.users, self.items, self.weights = users, items, weights
        on_cuda = generator.device.type == "cuda"
        self.sampler = NegativeSampler(
            users,
            items,
            n_items,
            power=method.negative_power,
            verified=method.verified_negatives,
        )
        self.optimizer = Adam(network.parameters(), method.learning_rate, method.weight_decay)
        # A graph cannot be recorded on the default stream: all of the work has one of its own.
        self.stream = torch.cuda.Stream(generator.device) if on_cuda else None
        self.full_step = self._full_step()

    def run(self) -> Tensor:
        """One epoch in a new order with new negatives: the losses of its steps, float32 [steps]."""
        tf32 = self.method.precision == "tf32" and self.stream is not None
        with on_stream(self.stream), _tf32(tf32):
            return self._run()

    def _run(self) -> Tensor:
        order = torch.randperm(len(self.users), device=self.users.device, generator=self.generator)
        users = self.users.index_select(0, order)
        negatives = self.sampler.draw(users, self.method.negatives, self.generator)
        size, even = self.method.batch_size, self.weights.dim() == 0
        parts = (order.split(size), users.split(size), negatives.split(size, dim=1))
        losses = []
        for batch, user, drawn in zip(*parts, strict=True):
            positive = self.items.index_select(0, batch)
            weights = self.weights if even else self.weights.index_select(0, batch)
            step = self.full_step if len(batch) == size else self.step
            losses.append(step(user, torch.cat([positive[None], drawn]), weights))
        return torch.stack(losses)

    def step(self, users: Tensor, candidates: Tensor, weights: Tensor) -> Tensor:
        """Learn from users [B] with candidates [C, B], positives first: the loss before it."""
        logits, used, pull = self.network(users, candidates, self.generator)
        loss, slope = LOSSES[self.method.loss](logits, weights)
        # The penalty is l2 times the mean squared norm of each kind of embedding used.
        shrink = 2 * self.method.l2
        pull(slope, [part * (shrink / part[0].numel()) for part in used] if shrink else ())
        self.optimizer.step()
        return loss

    def _full_step(self) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        if self.stream is None or not self.network.capturable:
            return self.step
        return Replayed(self.step, partial(cuda_graph, generator=self.generator))


@contextmanager
def _tf32(wanted: bool) -> Iterator[None]:
    """Products of float32 matrices in TF32 where wanted; afterwards as before."""
    if not wanted:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
