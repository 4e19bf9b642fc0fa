"""The training loop: Adam over shuffled interactions, negatives drawn anew every epoch.

Nothing but torch and NumPy is needed here, so that it can be timed where the rest is not installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from pipeline.training.graphs import Replayed, cuda_graph, on_stream, stream_of
from pipeline.training.losses import find_loss
from pipeline.training.method import Method
from pipeline.training.optimizers.lazy_adam import make_optimizer
from pipeline.training.sampling import NegativeSampler

# Steps after which the optimizer renews what steps let grow: by a factor of 22,000, and a float32
# holds 10**38.
RENEWED_EVERY = 10_000

Step = TypeVar("Step")


class Network(Protocol):
    """What is trained: an ordinary module, with a forward pass that autograd differentiates.

    One with an attribute ``capturable`` that is true is replayed from a CUDA graph where there is
    CUDA. It waits for no result, all shapes are the batch's, and Python decides nothing anew.
    """

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...

    def __call__(self, users: Tensor, items: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Users [B] and candidates [C, B] to logits [C, B] and the embeddings used, which the
        penalty is on: [width, B] or [width, C, B] of each kind."""
        ...


class TrainingLoop:
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
        *,
        popularity: Tensor | None = None,
    ) -> None:
        """Everything lives on the device of ``generator``.

        Args:
            users, items: the interactions, int64 [n].
            weights: confidence of each, float32 [n], or one for all, [].
            popularity: interactions of each item, [n_items], where there are others than these.
        """
        self.network, self.method, self.generator = network, method, generator
        self.loss = find_loss(method.loss)
        self.users, self.items, self.weights = users, items, weights
        on_cuda = generator.device.type == "cuda"
        self.sampler = NegativeSampler(
            users,
            items,
            n_items,
            power=method.negative_power,
            verified=method.verified_negatives,
            popularity=popularity,
        )
        self.optimizer = make_optimizer(network, method)
        self.is_begun = False
        self.stream = stream_of(generator.device) if on_cuda else None
        capturable = self.stream is not None and getattr(network, "capturable", False)
        record = partial(cuda_graph, generator=generator)
        self.replayed = Replayed(record) if capturable else None
        """What steps on full batches come from; None: each is done as it stands."""

    def run(self) -> Tensor:
        """One epoch in a new order with new negatives: the losses of its steps, float32 [steps]."""
        tf32 = self.method.precision == "tf32" and self.stream is not None
        with on_stream(self.stream), _tf32(tf32):
            return self._run()

    def _run(self) -> Tensor:
        order = torch.randperm(len(self.users), device=self.users.device, generator=self.generator)
        size = self.method.batch_size
        losses = []
        for part in self._renewing(self._drawn(order, size)):
            given = self._given(*part)
            replayed = self.replayed if len(given[0]) == size else None
            step = self.step if replayed is None else partial(replayed, self.step)
            losses.append(step(*given))
        return torch.stack(losses)

    def _renewing(self, steps: Iterable[Step]) -> Iterator[Step]:
        """The steps of an epoch, between which and after which the optimizer renews itself."""
        for done, step in enumerate(steps, 1):
            yield step
            if done % RENEWED_EVERY == 0:
                self.optimizer.renew()
        self.optimizer.renew()

    def _drawn(self, order: Tensor, sizes: int | list[int]) -> Iterator[tuple[Tensor, ...]]:
        """Interactions in this ``order`` by steps of so many: rows, users, negatives drawn now."""
        users = self.users.index_select(0, order)
        negatives = self.sampler.draw(users, self.method.negatives, self.generator)
        parts = order.split(sizes), users.split(sizes), negatives.split(sizes, dim=1)
        return zip(*parts, strict=True)

    def _given(self, rows: Tensor, users: Tensor, negatives: Tensor) -> list[Tensor]:
        """What a step is given."""
        positives = self.items.index_select(0, rows)
        given = [users, torch.cat([positives[None], negatives])]
        if self.weights.dim():
            given.append(self.weights.index_select(0, rows))
        return given

    def step(self, users: Tensor, candidates: Tensor, weights: Tensor | None = None) -> Tensor:
        """Learn from users [B] with candidates [C, B], positives first: the loss before it.

        ``weights`` are [B], or None where there is one for all.
        """
        self.optimizer.begin()
        loss, objective = self._objective(users, candidates, weights)
        self._descend(objective)
        return loss.detach()

    def _objective(
        self, users: Tensor, candidates: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The loss, and with the penalty on embeddings used."""
        logits, used = self.network(users, candidates)
        loss = self.loss(logits, self.weights if weights is None else weights)
        if not self.method.l2:
            return loss, loss
        return loss, loss + self.method.l2 * sum(_mean_square(part, candidates) for part in used)

    def _descend(self, objective: Tensor) -> None:
        self.optimizer.step(self._gradients(objective))

    def _gradients(self, objective: Tensor) -> Sequence[Tensor]:
        if not self.is_begun:
            self.optimizer.require_looked_up(objective)
            self.is_begun = True
        return torch.autograd.grad(objective, self.optimizer.parameters, materialize_grads=True)


def _mean_square(part: Tensor, candidates: Tensor) -> Tensor:
    """The mean squared norm of embeddings used, [width, B] or [width, C, B].

    Raises:
        ValueError: they have another shape.
    """
    if part.shape[1:] not in (candidates.shape, candidates.shape[1:]):
        count, size = candidates.shape
        raise ValueError(
            f"The network answers embeddings of shape {tuple(part.shape)}; expected [width, {size}]"
            f" or [width, {count}, {size}], features first."
        )
    return part.square().sum() / part[0].numel()


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
