"""Small fits for tests, and who watches them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.data.dataset import Dataset
from pipeline.models.ncf import NCF, NCFSettings
from pipeline.training.trainer import Epoch, OnEpoch

QUICK: dict[str, Any] = {"batch_size": 32, "learning_rate": 0.02, "device": "cpu"}


def seeded(seed: int = 0) -> torch.Generator:
    """What a fit draws from."""
    return torch.Generator().manual_seed(seed)


def noting(told: list[Epoch], stop_after: int | None = None) -> OnEpoch:
    """Note every epoch, and stop after one of them."""

    def note(epoch: Epoch) -> bool:
        told.append(epoch)
        return epoch.number == stop_after

    return note


def fitted(
    dataset: Dataset, stop_after: int | None = None, **settings: Any
) -> tuple[NCF, list[Epoch]]:
    """NCF and the epochs it told of."""
    told: list[Epoch] = []
    model = NCF(NCFSettings(**(QUICK | settings)), seed=0)
    return model.fit(dataset, noting(told, stop_after)), told


class Recorder(nn.Module):
    """A network of one number, which notes what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(()))
        self.asked: list[tuple[Tensor, Tensor]] = []

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        self.asked.append((users, items))
        return self.logit.expand(items.shape), ()
