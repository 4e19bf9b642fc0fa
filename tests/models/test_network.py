"""A module of one's own as a recommender: the same after a break, after loading, in any blocks."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from pipeline.data.dataset import Dataset
from pipeline.models import network
from pipeline.models.network import NetworkRecommender
from pipeline.training.trainer import Epoch, TrainingSettings
from tests.conftest import checkerboard

SETTINGS = TrainingSettings(epochs=4, batch_size=128, learning_rate=0.01, device="cpu")


class Dot(nn.Module):
    """A dot product whose users are dropped out."""

    def __init__(self, n_users: int, n_items: int) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(n_users, 4), nn.Embedding(n_items, 4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        user, item = self.users(users), self.items(items)
        logits = (self.dropout(user) * item).sum(-1)
        return logits, (user.t(), item.permute(2, 0, 1))


class Own(NetworkRecommender):
    """All that one has to write."""

    def make(self, n_users: int, n_items: int) -> nn.Module:
        """The module."""
        return Dot(n_users, n_items)


def scores(model: Own, dataset: Dataset) -> np.ndarray[Any, Any]:
    return model.scores(np.arange(dataset.n_users, dtype=np.int32))


def test_a_fit_that_was_broken_off_goes_on_to_the_same_bits(dataset: Dataset) -> None:
    states = []

    def keep(epoch: Epoch) -> bool:
        states.append(copy.deepcopy(epoch.state()))
        return epoch.number == 2

    whole = Own(SETTINGS, seed=1).fit(dataset)
    Own(SETTINGS, seed=1).fit(dataset, keep)
    resumed = Own(SETTINGS, seed=1).fit(dataset, state=states[-1])
    np.testing.assert_array_equal(scores(resumed, dataset), scores(whole, dataset))
    other = Own(SETTINGS, seed=2).fit(dataset)
    assert not np.array_equal(scores(other, dataset), scores(whole, dataset))


def test_scores_drop_nothing_out_whatever_the_blocks_and_survive_saving(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Own(SETTINGS, seed=1).fit(dataset)
    found = scores(model, dataset)
    assert found.shape == (dataset.n_users, dataset.n_items)
    learned = model.network.state_dict()
    users, items = (learned[f"{side}.weight"].numpy() for side in ("users", "items"))
    np.testing.assert_allclose(found, users @ items.T, atol=1e-5)
    monkeypatch.setattr(network, "PAIRS", 1)  # a user a block
    np.testing.assert_allclose(scores(model, dataset), found, atol=1e-6)
    model.save(tmp_path)
    np.testing.assert_allclose(scores(Own.load(tmp_path), dataset), found, atol=1e-6)


def test_two_tastes_are_learned() -> None:
    checkered = checkerboard()
    settings = SETTINGS.model_copy(update={"epochs": 60, "batch_size": 32, "loss": "bpr"})
    found = scores(Own(settings, seed=1).fit(checkered), checkered)
    half_users, half_items = checkered.n_users // 2, checkered.n_items // 2
    own = found[:half_users, :half_items].mean() + found[half_users:, half_items:].mean()
    others = found[:half_users, half_items:].mean() + found[half_users:, :half_items].mean()
    assert own > others
