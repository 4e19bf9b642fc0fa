"""Processes, forked, that train one model together; those of torchrun are in tests/steps."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.data.dataset import Dataset
from pipeline.models.base import EpochRecommender
from pipeline.models.ncf import NCF, NCFSettings
from pipeline.models.network import NetworkRecommender
from pipeline.models.two_tower import TwoTower, TwoTowerSettings
from pipeline.training.follow import follow
from pipeline.training.optimizers.lazy_adam import LazyAdam
from pipeline.training.processes import gathered, joined, receive, summed
from pipeline.training.tables import Table, tables_of
from pipeline.training.trainer import DivergedError, Epoch, OnEpoch, Trainer, TrainingSettings
from tests.conftest import checkerboard
from tests.forks import at_once
from tests.steps.workplace import free_port

COMMON: dict[str, Any] = {
    "epochs": 3, "batch_size": 50, "learning_rate": 0.01, "shards": 3, "device": "cpu",
    "negatives": 2, "rating_confidence": 0.5,
}  # fmt: skip


def together(do: Callable[[int], None], lead: bool = True, processes: int = 2) -> list[int | None]:
    """Call ``do`` with its place in processes of a group, or in the first alone, which leads.

    The exit statuses.
    """
    port = free_port("127.0.0.1")

    def begin(place: int) -> None:
        names = ("RANK", "LOCAL_RANK"), ("WORLD_SIZE", "LOCAL_WORLD_SIZE")
        for value, each in zip((place, processes), names, strict=True):
            os.environ.update(dict.fromkeys(each, str(value)))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        if place and lead:
            follow()
            return
        with joined():
            do(place)
            if place:
                assert receive() is None

    return at_once(processes, begin)


class Mixed(nn.Module):
    """A table, a layer, and a dropout that draws from PyTorch's global generator."""

    def __init__(self, n_users: int, n_items: int) -> None:
        super().__init__()
        self.users, self.items = (Table(torch.randn(6, n) * 0.1) for n in (n_users, n_items))
        self.drop, self.layer = nn.Dropout(0.3), nn.Linear(6, 1)

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        user, item = self.users(users), self.items(items)
        signal = self.drop((user[:, None] * item).movedim(0, -1))
        return self.layer(signal).squeeze(-1), (user, item)


class MixedRecommender(NetworkRecommender):
    def make(self, n_users: int, n_items: int) -> nn.Module:
        return Mixed(n_users, n_items)


class Widths(nn.Module):
    """Tables of two widths, one of which is looked up twice."""

    def __init__(self, n_users: int, n_items: int) -> None:
        super().__init__()
        self.users, self.items = (Table(torch.randn(4, n) * 0.1) for n in (n_users, n_items))
        self.biases = Table(torch.zeros(1, n_items))

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        user, friend, item = self.users(users), self.users(users.flip(0)), self.items(items)
        logits = ((user + 0.1 * friend)[:, None] * item).sum(0) + self.biases(items)[0]
        return logits, (user, item)


class WidthsRecommender(NetworkRecommender):
    def make(self, n_users: int, n_items: int) -> nn.Module:
        return Widths(n_users, n_items)


class FrozenRecommender(WidthsRecommender):
    """A table is no part of what is learned, nor of what is sharded."""

    def make(self, n_users: int, n_items: int) -> nn.Module:
        network = Widths(n_users, n_items)
        nn.init.normal_(network.biases.weight)
        network.biases.requires_grad_(False)
        return network


def lazily(embeddings: str, **settings: Any) -> EpochRecommender:
    lazy = {"optimizer": "lazy_adam", "dropout": 0.2, "l2": 0.01, "embeddings": embeddings}
    return NCF(NCFSettings(**COMMON | lazy | settings), seed=3)


MODELS: dict[str, EpochRecommender] = {
    "adam": NCF(NCFSettings(**COMMON, optimizer="adam", dropout=0.2, l2=0.01), seed=3),
    "lazy_adam": lazily("replicated", verified_negatives=True),
    "sharded": lazily("sharded", verified_negatives=True),
    # Where a batch has nothing for one of the processes, too.
    "small batches": NCF(NCFSettings(**COMMON | {"batch_size": 2}), seed=3),
    "small lazy batches": lazily("auto", batch_size=2),
    "small sharded batches": lazily("sharded", batch_size=2),
    "sharded widths": WidthsRecommender(
        TrainingSettings(**COMMON, optimizer="lazy_adam", embeddings="sharded"), seed=3
    ),
    "sharded beside frozen": FrozenRecommender(
        TrainingSettings(**COMMON, optimizer="lazy_adam", embeddings="sharded"), seed=3
    ),
    "two_tower": TwoTower(TwoTowerSettings(**COMMON), seed=3),
    "one's own": MixedRecommender(TrainingSettings(**COMMON), seed=3),
}


def noting(losses: list[float], states: list[dict[str, Any]]) -> OnEpoch:
    def note(epoch: Epoch) -> bool:
        losses.append(epoch.loss)
        states.append(deepcopy(epoch.state()))
        return False

    return note


def learned(
    model: EpochRecommender, dataset: Dataset, state: dict[str, Any] | None = None
) -> tuple[list[float], list[dict[str, Any]]]:
    """A fit: the losses of its epochs, and the states after each."""
    losses, states = list[float](), list[dict[str, Any]]()
    model.fit(dataset, noting(losses, states), state)
    return losses, states


def close(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Every tensor is the same to 1e-6."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, Mapping):
            close(value, other[name])
        elif isinstance(value, Tensor) and value.is_floating_point():
            torch.testing.assert_close(value, other[name], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_processes_learn_what_one_does(tmp_path: Path, name: str) -> None:
    """Of three shards one process has one and the other two; and a fit goes on on either."""
    model, dataset = MODELS[name], checkerboard()
    losses, states = learned(model, dataset)

    def lead(_: int) -> None:
        told, reached = learned(model, dataset)
        went_on, ends = learned(model, dataset, reached[-2])
        torch.save((told, reached, went_on, ends), tmp_path / "found")

    assert together(lead) == [0, 0]
    told, reached, went_on, ends = torch.load(tmp_path / "found")
    assert told == pytest.approx(losses, abs=1e-6)
    for ours, theirs in zip(reached, states, strict=True):
        close(ours["network"], theirs["network"])
        close(ours["optimizer"], theirs["optimizer"])
    assert went_on == told[-1:]
    close(ends[-1]["network"], states[-1]["network"])
    went_on, ends = learned(model, dataset, reached[-2])  # begun on two, gone on with on one
    assert went_on == pytest.approx(losses[-1:], abs=1e-6)
    close(ends[-1]["network"], states[-1]["network"])


@pytest.mark.parametrize("processes", [2, 3])
def test_embeddings_are_learned_alike_wherever_they_are(processes: int) -> None:
    dataset = checkerboard()

    def lead(_: int) -> None:
        everywhere, sharded = (learned(lazily(how), dataset) for how in ("replicated", "sharded"))
        assert sharded[0] == everywhere[0]
        for ours, theirs in zip(sharded[1], everywhere[1], strict=True):
            same(ours["network"], theirs["network"])
            same(ours["optimizer"], theirs["optimizer"])
        unwatched = lazily("sharded").fit(dataset)
        assert isinstance(unwatched, NCF)
        same(unwatched.network.state_dict(), everywhere[1][-1]["network"])

    assert together(lead, processes=processes) == [0] * processes


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Every tensor is the same to the bit."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, Mapping):
            same(value, other[name])
        else:
            assert torch.equal(value, other[name]), name


def test_a_process_holds_its_own_rows() -> None:
    dataset = checkerboard()

    def lead(_: int) -> None:
        generator = torch.Generator().manual_seed(0)
        network = Widths(dataset.n_users, dataset.n_items)
        settings = TrainingSettings(**COMMON, optimizer="lazy_adam", embeddings="sharded")
        trainer = Trainer(network, dataset, settings, generator)
        optimizer = trainer.loop.optimizer
        assert isinstance(optimizer, LazyAdam)
        held = [rows.rows.shape for rows in optimizer.rows]
        halves = -(-(dataset.n_users + dataset.n_items) // 2), -(-dataset.n_items // 2)
        assert held == [(halves[0], 8), (halves[1], 2)]
        sizes = []
        asked = optimizer.step

        def step(gradients: Any) -> None:
            sizes.append([table.weight.numel() for table in tables_of(network)])
            asked(gradients)

        optimizer.step = step  # type: ignore[method-assign]
        trainer.run(lambda epoch: False)
        assert sizes
        assert not any(map(any, sizes))
        assert [table.weight.shape[1] for table in tables_of(network)] == [
            dataset.n_users, dataset.n_items, dataset.n_items,
        ]  # fmt: skip

    assert together(lead) == [0, 0]


def test_the_first_one_decides_when_a_fit_ends(tmp_path: Path) -> None:
    dataset = checkerboard()

    def lead(_: int) -> None:
        epochs = []

        def stop(epoch: Epoch) -> bool:
            epochs.append(epoch.number)
            return epoch.number == 2

        MODELS["adam"].fit(dataset, stop)
        diverging = COMMON | {"learning_rate": 1e30}
        with pytest.raises(DivergedError):
            NCF(NCFSettings(**diverging, optimizer="adam"), seed=3).fit(dataset)
        with pytest.raises(DivergedError):
            lazily("sharded", learning_rate=1e30).fit(dataset)
        MODELS["lazy_adam"].fit(dataset, stop)  # the other one is still there
        torch.save(epochs, tmp_path / "epochs")

    assert together(lead) == [0, 0]
    assert torch.load(tmp_path / "epochs") == [1, 2, 1, 2]


def test_what_goes_between_processes() -> None:
    def exchange(place: int) -> None:
        one, other = summed([torch.full((2, 3), 1.0 + place), torch.tensor(5.0)])
        assert torch.equal(one, torch.full((2, 3), 3.0))
        assert other == 10
        own = torch.arange(3 * place)  # none, and three
        columns, places = gathered(torch.stack([own, own + 10]), own)
        assert places.tolist() == [0, 1, 2]
        assert columns.tolist() == [[0, 1, 2], [10, 11, 12]]

    assert together(exchange, lead=False) == [0, 0]
