"""Networks that train together are those that train one by one, on the same draws."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from benchmarks.device import PLAN, Size
from benchmarks.gpu import configurations
from benchmarks.trials import Trials, together
from pipeline.models import neumf
from pipeline.models.neumf import NCFMethod, NCFNetwork
from pipeline.training.loop import TrainingLoop

USERS, ITEMS, BATCH = 9, 13, 20


def plans(negatives: int = 1, layers: tuple[int, ...] = (16, 8)) -> list[NCFMethod]:
    plan = replace(PLAN, batch_size=BATCH, negatives=negatives, layers=layers)
    rates = [0.05, 0.003, 0.01, 0.02]
    return [
        replace(plan, learning_rate=rate, l2=penalty, dropout=dropout)
        for rate, penalty, dropout in zip(
            rates, [0.0, 0.1, 0.01, 0.0], [0.4, 0.0, 0.2, 0.5], strict=True
        )
    ]


def start(plan: NCFMethod, seed: int) -> NCFNetwork:
    torch.manual_seed(seed)
    made = NCFNetwork(USERS, ITEMS, plan)
    for part in made.parameters():
        nn.init.normal_(part, std=0.3)
    return made.double()  # Adam makes much of what rounding leaves of a gradient that is zero


def draws(
    trials: Trials, plan: NCFMethod, steps: int
) -> Iterator[tuple[Tensor, Tensor, list[Tensor]]]:
    generator = torch.Generator().manual_seed(0)
    count = 1 + plan.negatives
    for _ in range(steps):
        users = torch.randint(USERS, (len(trials.flat), BATCH), generator=generator)
        items = torch.randint(ITEMS, (len(trials.flat), count, BATCH), generator=generator)
        yield users, items, trials.masks(count * BATCH, generator)


@pytest.mark.parametrize("negatives", [1, 3])
@pytest.mark.parametrize("layers", [(16, 8), (8, 8, 4, 2)])
def test_together_is_one_by_one(
    negatives: int, layers: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = plans(negatives, layers)
    networks = [start(plan, seed) for seed, plan in enumerate(given)]
    trials = Trials(networks, given)
    nobody = torch.zeros(0, dtype=torch.int64)
    alone = [
        TrainingLoop(
            network, nobody, nobody, torch.ones(()).double(), ITEMS, plan, torch.Generator()
        )
        for network, plan in zip(networks, given, strict=True)
    ]
    for users, items, masks in draws(trials, given[0], steps=5):
        losses = trials.step(users, items, masks)
        for trial, made in enumerate(alone):
            kept = iter([mask[trial] for mask in masks])
            monkeypatch.setattr(neumf, "keep", lambda *_, kept=kept: next(kept))
            loss = made.step(users[trial], items[trial])
            torch.testing.assert_close(losses[trial], loss)
    for trial, network in enumerate(networks):
        ours = (trials.values.users[trial], trials.values.items[trial])
        for mine, theirs in zip(ours, (network.users, network.items), strict=True):
            torch.testing.assert_close(mine, theirs.detach())
        for (weight, bias), layer in zip(trials.values.hidden, network.hidden, strict=True):
            torch.testing.assert_close(weight[trial], layer.weight.detach())
            torch.testing.assert_close(bias[trial], layer.bias.detach())


def test_each_trial_drops_its_own_share() -> None:
    given = plans()
    trials = Trials([start(plan, 0) for plan in given], given)
    (masks,) = trials.masks(30_000, torch.Generator().manual_seed(0))
    shares = masks.mean((1, 2)).tolist()
    assert shares == pytest.approx([1 - plan.dropout for plan in given], abs=0.005)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_an_epoch_of_all(device: str) -> None:
    epoch = together(Size(30, 20, 500), configurations(replace(PLAN, batch_size=48), 3), device)
    first, second = epoch(), epoch()
    assert first.shape == (11, 3)
    torch.testing.assert_close(first, torch.full_like(first, math.log(2)), rtol=0, atol=0.05)
    assert not torch.equal(first, second)
