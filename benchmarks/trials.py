"""Many trials of one shape at once: T networks, each with its own start, rates and draws.

A step of a small network leaves most of a GPU idle, and 16 of them take 16 times as long. Here the
parameters of trial t are row t of one matrix, and every operation is done for all trials: look-ups
gather along the last dimension, layers are batched products, Adam has a learning rate per row.

The loss is BPR, and the gradient is written out: fewer kernels than autograd's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from benchmarks.device import Size, interactions
from pipeline.models.neumf import NCFMethod, NCFNetwork
from pipeline.training.graphs import Replayed, cuda_graph, on_stream
from pipeline.training.sampling import NegativeSampler

BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam, as PyTorch has them


@dataclass(frozen=True)
class Views:
    """Parameters, or their gradients, of T networks as parts of one matrix [T, parameters]."""

    users: Tensor
    """[T, width, n_users]."""
    items: Tensor
    """[T, width, n_items]."""
    output: Tensor
    """[T, inputs]."""
    output_bias: Tensor
    """[T, 1]."""
    hidden: list[tuple[Tensor, Tensor]]
    """Weights [T, out, in] and biases [T, out] of each layer."""


class Trials:
    """Networks of one shape that train together, each by its plan.

    The plans differ in learning rate, l2 and dropout alone.
    """

    def __init__(self, networks: Sequence[NCFNetwork], plans: Sequence[NCFMethod]) -> None:
        """Begin where ``networks`` are, which have layers and no biases per user and item."""
        shapes = [part.shape for part in _parameters(networks[0])]
        rows = [torch.cat([part.flatten() for part in _parameters(made)]) for made in networks]
        self.flat = torch.stack(rows)
        self.gradient, self.mean, self.square = (torch.zeros_like(self.flat) for _ in range(3))
        self.values, self.slopes = _views(self.flat, shapes), _views(self.gradient, shapes)
        self.steps = self.flat.new_zeros(())
        self.gmf, self.inputs = networks[0].gmf, plans[0].layers[:-1]
        self.rates = self._column([plan.learning_rate for plan in plans])
        self.l2 = self._column([plan.l2 for plan in plans])[:, :, None]
        self.dropout = self._column([plan.dropout for plan in plans])[:, :, None]
        self.rescale = 1 / (1 - self.dropout)

    def _column(self, numbers: list[float]) -> Tensor:
        return torch.tensor(numbers, dtype=self.flat.dtype, device=self.flat.device)[:, None]

    def masks(self, signals: int, generator: torch.Generator) -> list[Tensor]:
        """What dropout keeps of each layer's inputs, float32 [T, width, signals]; see ``keep``."""
        dropped = (self.dropout * 2**16).round().clamp_(max=2**16 - 1) - 2**15
        drawn = []
        for width in self.inputs:
            shape = (len(self.flat), width, signals)
            words = dropped.new_empty((prod(shape) + 3) // 4, dtype=torch.int64)
            bits = words.random_(-(2**63), None, generator=generator).view(torch.int16)
            drawn.append(bits[: prod(shape)].view(shape).float().ge_(dropped))
        return drawn

    def step(self, users: Tensor, items: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """Learn from users [T, B] with items [T, C, B], positives first: the losses before it, [T].

        ``masks`` are as ``masks`` draws them for C * B signals.
        """
        own, to = self.values, self.slopes
        count, size = items.shape[1:]
        # Forward.
        user_places = users[:, None].expand(-1, own.users.shape[1], -1)
        item_places = items.flatten(1)[:, None].expand(-1, own.items.shape[1], -1)
        user = own.users.gather(2, user_places)
        item = own.items.gather(2, item_places).unflatten(2, (count, size))
        gmf_user, mlp_user = user[:, : self.gmf, None], user[:, self.gmf :, None]
        gmf_item, mlp_item = item[:, : self.gmf], item[:, self.gmf :]
        signals = [torch.cat([mlp_user.expand_as(mlp_item), mlp_item], dim=1).flatten(2)]
        weights = [weight * self.rescale for weight, _ in own.hidden]
        for weight, (_, bias), mask in zip(weights, own.hidden, masks, strict=True):
            signals[-1].mul_(mask)
            signals.append(torch.baddbmm(bias[:, :, None], weight, signals[-1]).relu_())
        features = torch.cat([(gmf_user * gmf_item).flatten(2), signals[-1]], dim=1)
        logits = torch.baddbmm(own.output_bias[:, :, None], own.output[:, None], features)
        logits = logits.view(-1, count, size)
        margins = logits[:, 1:] - logits[:, :1]  # of the negatives over the positive
        # Backward.
        to_margins = margins.sigmoid() / margins[0].numel()
        to_logits = torch.cat([-to_margins.sum(1, keepdim=True), to_margins], dim=1)
        flat = to_logits.flatten(1)
        to.output.copy_((features @ flat[:, :, None]).squeeze(2))
        to.output_bias.copy_(flat.sum(1, keepdim=True))
        to_user = user * (2 * self.l2 / size)
        to_item = item * (2 * self.l2 / (count * size))[..., None]
        to_product = own.output[:, : self.gmf, None, None] * to_logits[:, None]
        to_user[:, : self.gmf] += (to_product * gmf_item).sum(2)
        to_item[:, : self.gmf] += to_product * gmf_user
        flow = own.output[:, self.gmf :, None] * flat[:, None]
        for place in reversed(range(len(weights))):
            flow = torch.ops.aten.threshold_backward(flow, signals[place + 1], 0)
            to_weight, to_bias = to.hidden[place]
            to_weight.copy_((flow @ signals[place].mT).mul_(self.rescale))
            to_bias.copy_(flow.sum(2))
            flow = weights[place].mT @ flow
        left, right = flow.mul_(masks[0]).unflatten(2, (count, size)).chunk(2, dim=1)
        to_user[:, self.gmf :] += left.sum(2)
        to_item[:, self.gmf :] += right
        to.users.zero_().scatter_add_(2, user_places, to_user)
        to.items.zero_().scatter_add_(2, item_places, to_item.flatten(2))
        self._adam()
        return softplus(margins).mean((1, 2))

    def _adam(self) -> None:
        self.steps += 1
        self.mean.lerp_(self.gradient, 1 - BETAS[0])
        self.square.mul_(BETAS[1]).addcmul_(self.gradient, self.gradient, value=1 - BETAS[1])
        first, second = (1 - beta**self.steps for beta in BETAS)
        update = self.mean / (self.square / second).sqrt_().add_(EPSILON)
        self.flat -= update.mul_(self.rates / first)


def _parameters(network: NCFNetwork) -> list[Tensor]:
    """Of a network, in the order of Views."""
    hidden = cast("list[nn.Linear]", list(network.hidden))
    layers = [part for layer in hidden for part in (layer.weight, layer.bias)]
    parts = (network.users, network.items, network.output.weight[0], network.output.bias, *layers)
    return [part.detach() for part in parts]


def _views(flat: Tensor, shapes: Sequence[torch.Size]) -> Views:
    """The parts of these shapes, one after another in each row."""
    columns = flat.split([shape.numel() for shape in shapes], dim=1)
    parts = [part.unflatten(1, shape) for part, shape in zip(columns, shapes, strict=True)]
    users, items, output, output_bias, *layers = parts
    hidden = list(zip(layers[::2], layers[1::2], strict=True))
    return Views(users, items, output, output_bias, hidden)


def together(size: Size, plans: Sequence[NCFMethod], device: str) -> Callable[[], Tensor]:
    """Trials over generated interactions, with seeds 0, 1, ...: what runs an epoch of all of them.

    It answers the losses of the steps, float32 [steps, T].
    """
    networks = []
    for seed, plan in enumerate(plans):
        torch.manual_seed(seed)
        networks.append(NCFNetwork(size.users, size.items, plan).to(device))
    trials, plan = Trials(networks, plans), plans[0]
    users, items = (part.to(device) for part in interactions(size))
    sampler = NegativeSampler(users, items, size.items, power=0, verified=False)
    generator = torch.Generator(device).manual_seed(0)
    stream = None if device == "cpu" else torch.cuda.Stream(device)

    def step(users: Tensor, candidates: Tensor) -> Tensor:
        return trials.step(users, candidates, trials.masks(candidates[0].numel(), generator))

    full_step: Callable[..., Tensor] = step
    if stream is not None:
        full_step = partial(Replayed(partial(cuda_graph, generator=generator)), step)

    def shuffled() -> tuple[Tensor, Tensor]:
        """Users [T, n] and candidates [T, C, n], each trial in an order of its own."""
        orders = [torch.randperm(len(users), device=device, generator=generator) for _ in plans]
        order = torch.stack(orders)
        drawn = sampler.draw(users[order].flatten(), plan.negatives, generator)
        negatives = drawn.unflatten(1, order.shape).transpose(0, 1)
        return users[order], torch.cat([items[order][:, None], negatives], dim=1)

    def epoch() -> Tensor:
        with on_stream(stream):
            batches = zip(*(part.split(plan.batch_size, -1) for part in shuffled()), strict=True)
            losses = [
                (full_step if user.shape[1] == plan.batch_size else step)(user, candidates)
                for user, candidates in batches
            ]
            return torch.stack(losses)

    return epoch
