"""The network's formula, its gradient, and its start."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.models.ncf import NCFSettings
from pipeline.models.neumf import NCFNetwork
from pipeline.training.layers import keep

SHAPES = [(), (16, 8), (2, 1), (8, 3), (32, 16, 8), (8, 8, 4, 2)]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def network(n_users: int = 7, n_items: int = 11, **settings: Any) -> NCFNetwork:
    """A network with parameters of a size at which each of them matters."""
    torch.manual_seed(0)
    made = NCFNetwork(n_users, n_items, NCFSettings(**settings), seeded())
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made


def by_hand(made: NCFNetwork, user: int, item: int, layers: Sequence[int]) -> float:
    """The formula of the module's docstring for one pair, in NumPy."""
    parts = {name: value.detach().numpy() for name, value in made.named_parameters()}
    u, i = parts["users.weight"][:, user], parts["items.weight"][:, item]
    d, half = made.gmf, layers[0] // 2 if layers else 0
    signal = np.concatenate([u[d : d + half], i[d : d + half]])
    for place in range(len(layers) - 1):
        weight, bias = parts[f"hidden.{place}.weight"], parts[f"hidden.{place}.bias"]
        signal = np.maximum(weight @ signal + bias, 0)
    features = np.concatenate([u[:d] * i[:d], signal if layers else []])
    logit = parts["output.weight"][0] @ features + parts["output.bias"][0]
    return float(logit + u[d + half :].sum() + i[d + half :].sum())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("layers", SHAPES)
def test_the_formula(layers: tuple[int, ...], bias: bool) -> None:
    made = network(layers=layers, bias=bias, embedding_dim=3)
    expected = [[by_hand(made, user, item, layers) for item in range(11)] for user in range(7)]
    np.testing.assert_allclose(made.score(torch.arange(7)).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("layers", SHAPES)
def test_scoring_is_the_forward_pass(layers: tuple[int, ...], bias: bool) -> None:
    made = network(layers=layers, bias=bias)
    users = torch.tensor([3, 0, 3, 6])
    logits, *_ = made(users, torch.arange(11)[:, None].expand(11, 4))
    torch.testing.assert_close(made.score(users), logits.detach().T, rtol=1e-5, atol=1e-5)


def test_the_embeddings_used_are_told() -> None:
    made = network(embedding_dim=3, layers=(4, 2), bias=True)
    users, items = torch.tensor([0, 2, 2]), torch.tensor([[0, 1, 1], [3, 0, 2], [1, 1, 1]])
    _, (user, item) = made(users, items)
    assert torch.equal(user, made.users.weight[:, users])
    assert torch.equal(item, made.items.weight[:, items])


def test_dropout_is_before_each_layer_of_the_mlp_in_training_only() -> None:
    made = network(layers=(16, 8, 4), dropout=0.9)
    users, items = torch.arange(7), torch.arange(11)[:, None].expand(11, 7)
    first, second = (made(users, items)[0] for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(network(layers=(16, 8, 4), dropout=0.9)(users, items)[0], first)
    assert torch.equal(made.score(users), made.score(users))
    gmf = network(layers=(), dropout=0.9)
    assert torch.equal(gmf(users, items)[0], gmf(users, items)[0])


def start(**settings: Any) -> NCFNetwork:
    torch.manual_seed(5)
    return NCFNetwork(2000, 3000, NCFSettings(layers=(64, 32, 16), embedding_dim=16, **settings))


def test_the_start_has_the_statistics_of_the_notebook() -> None:
    made = start()
    assert made.users.weight.shape == (16 + 32, 2000)
    assert made.items.weight.shape == (16 + 32, 3000)
    for table in (made.users.weight.detach(), made.items.weight.detach()):
        assert float(table.mean()) == pytest.approx(0, abs=2e-4)
        assert float(table.std()) == pytest.approx(0.01, rel=0.02)
    for layer in (*made.hidden, made.output):
        outputs, inputs = layer.weight.shape
        expected = math.sqrt(2 / (inputs + outputs))
        # Four standard deviations of an estimated standard deviation.
        tolerance = 4 / math.sqrt(2 * inputs * outputs)
        assert float(layer.weight.detach().square().mean().sqrt()) == pytest.approx(
            expected, rel=tolerance
        )
        assert not layer.bias.any()


def test_biases_per_user_and_item_start_at_zero_and_change_nothing_else() -> None:
    plain, biased = start(), start(bias=True)
    for name in ("users", "items"):
        table = getattr(biased, name).weight
        assert not table[-1].any()
        assert torch.equal(table[:-1], getattr(plain, name).weight)


def test_the_start_is_that_of_the_notebooks_modules() -> None:
    """Made one after another, then initialised one after another, from one seed."""
    torch.manual_seed(5)
    tables = [nn.Embedding(n, d) for d in (16, 32) for n in (2000, 3000)]
    linear = [nn.Linear(64, 32), nn.Linear(32, 16), nn.Linear(16 + 16, 1)]
    for table in tables:
        nn.init.normal_(table.weight, std=0.01)
    for layer in linear:
        nn.init.xavier_normal_(layer.weight)
    made = start()
    assert torch.equal(made.users.weight.T, torch.cat([tables[0].weight, tables[2].weight], dim=1))
    assert torch.equal(made.items.weight.T, torch.cat([tables[1].weight, tables[3].weight], dim=1))
    for ours, theirs in zip((*made.hidden, made.output), linear, strict=True):
        assert torch.equal(ours.weight, theirs.weight)


def plainly(
    made: NCFNetwork, users: Tensor, items: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The forward pass as one would write it, without a thought for its cost."""
    user, item = made.users.weight[:, users], made.items.weight[:, items]
    d, half, _ = made.widths
    parts = [user[:d, None] * item[:d]]
    if half:
        left, right = user[d : d + half, None], item[d : d + half]
        signal = torch.cat([left.expand_as(right), right])
        for layer in made.hidden:
            if made.dropout:
                kept = keep(signal.flatten(1), made.dropout, generator).view_as(signal)
                signal = signal * kept / (1 - made.dropout)
            signal = torch.relu(layer(signal.movedim(0, -1))).movedim(-1, 0)
        parts.append(signal)
    logits = made.output(torch.cat(parts).movedim(0, -1)).squeeze(-1)
    return logits + user[d + half :].sum(0) + item[d + half :].sum(0), user, item


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("layers", SHAPES)
def test_the_gradient_is_that_of_the_plain_formula(
    layers: tuple[int, ...], bias: bool, dropout: float
) -> None:
    made = network(layers=layers, bias=bias, dropout=dropout, embedding_dim=3).double()
    generator = torch.Generator().manual_seed(1)
    users = torch.randint(7, (20,), generator=generator)
    items = torch.randint(11, (3, 20), generator=generator)

    expected = plainly(made, users, items, seeded())
    # Of the logits, and of the embeddings as an L2 penalty asks for them.
    slopes = [torch.rand(part.shape, dtype=part.dtype) for part in expected]
    logits, used = made(users, items)
    torch.testing.assert_close((logits, *used), expected)
    theirs, ours = (
        torch.autograd.grad(found, list(made.parameters()), slopes)
        for found in (expected, (logits, *used))
    )
    for (name, _), mine, their in zip(made.named_parameters(), ours, theirs, strict=True):
        torch.testing.assert_close(mine, their, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("layers", [(16, 8), (64, 64, 32, 8)])
def test_bf16_is_near(layers: tuple[int, ...]) -> None:
    """Logits are off by less than a percent of their length, gradients by a few (rounding turns
    some ReLUs on or off), and scores by nothing."""

    def off(ours: Tensor, theirs: Tensor) -> float:
        return float(((ours - theirs).norm() / theirs.norm()).detach())

    whole, half = (
        network(layers=layers, dropout=0.4, bias=True, precision=precision)
        for precision in ("float32", "bf16")
    )
    generator = torch.Generator().manual_seed(1)
    users = torch.randint(7, (400,), generator=generator)
    items = torch.randint(11, (3, 400), generator=generator)
    (expected, _), (found, _) = (made(users, items) for made in (whole, half))
    assert 0 < off(found, expected) < 0.01
    for logits in (expected, found):
        logits.sigmoid().square().sum().backward()
    for (name, theirs), ours in zip(whole.named_parameters(), half.parameters(), strict=True):
        assert ours.grad.dtype == torch.float32
        assert off(ours.grad, theirs.grad) < 0.1, name
    assert torch.equal(whole.score(users), half.score(users))
