from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.models.two_tower import TwoTowerNetwork, TwoTowerSettings


def network(**settings: str) -> TwoTowerNetwork:
    torch.manual_seed(0)
    features = np.random.default_rng(0).random((9, 5), np.float32)
    return TwoTowerNetwork(7, features, TwoTowerSettings(**settings))


def test_a_tower_in_bf16_is_near_and_learns_in_float32() -> None:
    users, items = torch.arange(7), torch.arange(9)[:, None].expand(9, 7)
    whole, half = network(), network(precision="bf16")
    expected, _ = whole(users, items)
    found, _ = half(users, items)
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)
    found.square().sum().backward()
    assert all(part.grad.dtype == torch.float32 for part in half.parameters())
    for ours, theirs in zip(half.vectors(), whole.vectors(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("size", [2, 6])
def test_the_formula_and_its_gradient(size: int) -> None:
    """Of fewer candidates than there are items, six, and of more."""
    made, generator = network(), torch.Generator().manual_seed(0)
    users = torch.randint(7, (size,), generator=generator)
    items = torch.randint(9, (3, size), generator=generator)
    logits, (user,) = made(users, items)
    assert torch.equal(user, made.users.weight[:, users])
    vectors = torch.nn.functional.normalize(made.tower(made.features), dim=1)[items]
    own = torch.nn.functional.normalize(made.users.weight.T[users], dim=1)
    plain = made.scale * (own * vectors).sum(-1)
    torch.testing.assert_close(logits, plain)
    slope = torch.randn(3, size, generator=generator)
    parameters = list(made.parameters())
    for ours, theirs in zip(
        *(torch.autograd.grad(each, parameters, slope) for each in (logits, plain)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
