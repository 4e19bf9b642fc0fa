"""Networks as people write them: frozen in parts, tied, not all used, sparse, of several types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from pipeline.models.neumf import NCFMethod, NCFNetwork
from pipeline.training.optimizers.adam import Adam
from pipeline.training.optimizers.lazy_adam import make_optimizer
from pipeline.training.tables import Table
from pipeline.training.trainer import Epoch, Trainer, TrainingSettings
from tests.conftest import checkerboard, make_dataset
from tests.training.fits import QUICK, noting, seeded

Optimizer = Literal["adam", "lazy_adam"]
BOTH = pytest.mark.parametrize("optimizer", ["adam", "lazy_adam"])


class Own(nn.Module):
    """Products of embeddings, which ``change`` has altered."""

    def __init__(self, dataset: Dataset, change: Callable[[Own], object]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.users, self.items = (
            Table(0.1 * torch.randn(4, count)) for count in (dataset.n_users, dataset.n_items)
        )
        self.scale = nn.Parameter(torch.ones(4))
        change(self)

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        user, item = self.users(users), self.items(items)
        logits = (user[:, None] * item * self.scale[:, None, None]).sum(0)
        return logits, (user, item)


class Direct(Own):
    """Items are not looked up."""

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        user, item = self.users(users), self.items.weight[:, items]
        return (user[:, None] * item).sum(0), (user,)


def nothing(network: Own) -> None:
    """Leave it as it is."""


def trained(network: nn.Module, optimizer: str) -> list[Epoch]:
    told = list[Epoch]()
    settings = TrainingSettings(**QUICK, epochs=20, loss="bpr", optimizer=optimizer)
    Trainer(network, checkerboard(), settings, seeded()).run(noting(told))
    assert told[-1].loss < 0.95 * told[0].loss
    return told


@BOTH
@pytest.mark.parametrize("frozen", ["items", "scale"])
def test_what_is_frozen_stays_and_the_rest_is_learned(optimizer: Optimizer, frozen: str) -> None:
    def freeze(network: Own) -> None:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not name.startswith(frozen))

    network = Own(checkerboard(), freeze)
    before = {name: each.detach().clone() for name, each in network.named_parameters()}
    trained(network, optimizer)
    for name, after in network.named_parameters():
        assert torch.equal(after, before[name]) == name.startswith(frozen), name


@BOTH
def test_a_table_that_no_step_looks_up(optimizer: Optimizer) -> None:
    """Of another width than the others, so that there is nothing else to be moved with."""

    def add(network: Own) -> None:
        network.spare = Table(torch.ones(1, 5))

    network = Own(checkerboard(), add)
    trained(network, optimizer)
    assert torch.equal(network.spare.weight, torch.ones(1, 5))


def tie(network: Own) -> None:
    network.other = Table(network.items.weight.detach())
    network.other.weight = network.items.weight


def test_tied_tables_are_moved_by_adam() -> None:
    network = Own(checkerboard(), tie)
    trained(network, "adam")
    large = TrainingSettings(batch_size=1, optimizer="auto")
    tied = Own(make_dataset([(user, user % 7) for user in range(200_000)]), tie)
    assert isinstance(make_optimizer(tied, large), Adam)
    with pytest.raises(UserError, match="two tables of this network have the same weight"):
        trained(Own(checkerboard(), tie), "lazy_adam")


def test_embeddings_that_are_not_looked_up_are_refused_by_lazy_adam() -> None:
    trained(Direct(checkerboard(), nothing), "adam")
    with pytest.raises(UserError, match="call the table with indices, or use optimizer=adam"):
        trained(Direct(checkerboard(), nothing), "lazy_adam")


@BOTH
def test_parameters_of_several_types(optimizer: Optimizer) -> None:
    def widen(network: Own) -> None:
        network.scale.data = network.scale.data.double()

    network = Own(checkerboard(), widen)
    trained(network, optimizer)
    assert network.scale.dtype == torch.float64


def test_sparse_gradients_of_torchs_own_embeddings() -> None:
    class Sparse(nn.Module):
        def __init__(self, sparse: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            board = checkerboard()
            self.users = nn.Embedding(board.n_users, 4, sparse=sparse)
            self.items = nn.Embedding(board.n_items, 4, sparse=sparse)

        def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            return (self.users(users) * self.items(items)).sum(-1), ()

    dense, sparse = (trained(Sparse(is_sparse), "adam") for is_sparse in (False, True))
    assert sparse[-1].loss == pytest.approx(dense[-1].loss, rel=1e-4)


@pytest.mark.parametrize(("rating", "power"), [(0.0, 1.0), (1e6, 8.0)])
def test_confidence_that_is_nothing_or_infinite(rating: float, power: float) -> None:
    board = checkerboard()
    board.train["rating"] = rating
    settings = TrainingSettings(**QUICK, rating_confidence=power, values="ratings")
    with pytest.raises(UserError, match=r"rating_confidence=\d: .* its mean here is (0|inf)\."):
        Trainer(Own(board, nothing), board, settings, seeded())


def test_people_are_folded_into_a_model_of_one_user() -> None:
    columns = NCFNetwork(1, 5, NCFMethod()).fit_users(torch.eye(5)[:2])
    assert torch.isfinite(columns).all()
