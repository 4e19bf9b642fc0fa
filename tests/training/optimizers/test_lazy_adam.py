"""Embeddings of a batch alone are moved, as Adam without a first moment would move all of them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.training.method import Method
from pipeline.training.optimizers.adam import Adam
from pipeline.training.optimizers.lazy_adam import LazyAdam, make_optimizer
from pipeline.training.optimizers.rows import fetched, put
from pipeline.training.tables import Table
from tests.training.test_loop import epochs, like

LAZY = Method(learning_rate=0.03, optimizer="lazy_adam")


class Network(nn.Module):
    """Users with items, and users with users: one table is looked up twice."""

    def __init__(self, n_users: int = 50, n_items: int = 30) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.users, self.items = (Table(torch.randn(4, count)) for count in (n_users, n_items))
        self.unused, self.output = nn.Linear(2, 2), nn.Linear(4, 1)

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        user, friend, item = self.users(users), self.users(users.flip(0)), self.items(items)
        features = (user[:, None] + friend[:, None] * 0.3) * item  # [4, C, B]
        return self.output(features.movedim(0, -1)).squeeze(-1), (user, item)


def step(optimizer: Adam | LazyAdam, network: Network, number: int) -> None:
    """Along gradients that depend on the step's number and the parameters."""
    generator = torch.Generator().manual_seed(number)
    # Some are in every batch, some in few, and many stand in one twice.
    users, items = ((torch.rand(shape, generator=generator) ** 3) for shape in ((9,), (2, 9)))
    users, items = (users * 50).long(), (items * 30).long()
    logits, _ = network(users, items)
    loss = (logits - logits.detach().sign() * number % 3).square().mean()
    parameters = optimizer.parameters
    optimizer.step(torch.autograd.grad(loss, parameters, materialize_grads=True))


class Reference(Adam):
    """torch.optim.Adam with beta_1 = 0 for tables, on all embeddings in every step."""

    def __init__(self, network: Network) -> None:
        self.parameters = list(network.parameters())
        tables = {"params": [network.users.weight, network.items.weight], "betas": (0.0, 0.999)}
        others = {"params": [*network.unused.parameters(), *network.output.parameters()]}
        self.optimizer = torch.optim.Adam([tables, others], lr=LAZY.learning_rate)

    def step(self, gradients: Any) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()


def test_steps_are_those_of_adam_without_a_first_moment() -> None:
    ours, theirs = Network(), Network()
    lazy, reference = make_optimizer(ours, LAZY), Reference(theirs)
    start = copy.deepcopy(theirs.state_dict())
    for number in range(60):
        step(lazy, ours, number)
        step(reference, theirs, number)
        if number % 25 == 0:  # which is to make no difference
            lazy.renew()
    lazy.release()
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)
        assert torch.equal(mine, start[name]) == name.startswith("unused")


def test_second_moments_are_those_of_adam_once_renewed() -> None:
    ours, theirs = Network(), Network()
    lazy, reference = make_optimizer(ours, LAZY), Reference(theirs)
    for number in range(30):
        step(lazy, ours, number)
        step(reference, theirs, number)
    lazy.renew()
    state = lazy.state_dict()["state"]
    of = reference.optimizer.state
    tables = [of[table.weight]["exp_avg_sq"].t() for table in (theirs.users, theirs.items)]
    of_tables = state[len(state) - 1]
    assert set(of_tables) == {"step", "exp_avg_sq"}
    torch.testing.assert_close(of_tables["exp_avg_sq"], torch.cat(tables), rtol=1e-4, atol=0)


def test_epochs_of_any_length_renew_what_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    renewals = []
    renew = LazyAdam.renew

    def noted(self: LazyAdam) -> None:
        renew(self)
        renewals.append(int(self.renewed))

    monkeypatch.setattr(LazyAdam, "renew", noted)

    def learned() -> list[Tensor]:
        made = epochs(like(optimizer="lazy_adam", batch_size=16, loss="bce"))
        losses = [made.run() for _ in range(2)]
        lazy = made.optimizer
        assert isinstance(lazy, LazyAdam)
        return [*losses, *made.network.parameters(), *(rows.squares for rows in lazy.rows)]

    whole = learned()
    monkeypatch.setattr("pipeline.training.loop.RENEWED_EVERY", 2)
    for often, once in zip(learned(), whole, strict=True):
        torch.testing.assert_close(often, once)
    assert renewals == [5, 10, 2, 4, 5, 7, 9, 10]


def test_embeddings_that_no_batch_used_are_not_touched() -> None:
    network = Network(n_users=60)  # of which ten are in no batch
    before = network.users.weight.detach().clone()
    lazy = make_optimizer(network, LAZY)
    for number in range(5):
        step(lazy, network, number)
    assert torch.equal(network.users.weight[:, 50:], before[:, 50:])
    assert not torch.equal(network.users.weight[:, :50], before[:, :50])


def test_a_state_is_gone_on_from_bit_for_bit() -> None:
    whole = Network()
    lazy = make_optimizer(whole, LAZY)
    for number in range(8):
        step(lazy, whole, number)
    lazy.renew()
    parts = copy.deepcopy((whole.state_dict(), lazy.state_dict()))
    again = Network()
    resumed = make_optimizer(again, LAZY)
    again.load_state_dict(parts[0])
    resumed.load_state_dict(parts[1])
    for number in range(8, 12):
        step(lazy, whole, number)
        step(resumed, again, number)
    for mine, other in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_a_state_with_other_moments_is_refused() -> None:
    """As of before, when it was noted when each row was last used."""
    lazy = make_optimizer(Network(), LAZY)
    state = copy.deepcopy(lazy.state_dict())
    (of_tables,) = (each for each in state["state"].values() if "exp_avg" not in each)
    of_tables["last_step"] = torch.zeros(80)
    with pytest.raises(ValueError, match="last_step"):
        lazy.load_state_dict(state)


@pytest.mark.parametrize("width", [1, 2, 3, 16])
def test_rows_are_fetched_and_put_at_any_width(width: int) -> None:
    rows = torch.randn(7, 2 * width)
    places = torch.tensor([5, 0, 5, 6])
    assert torch.equal(fetched(rows, places), rows[places])
    assert fetched(rows, places[:0]).shape == (0, 2 * width)
    values = torch.randn(7, 2 * width)[places]
    expected = rows.clone()
    expected[places] = values
    put(rows, places, values)
    put(rows, places[:0], values[:0])
    put(rows[:0], places[:0], values[:0])  # as of a process that has none of a table
    assert torch.equal(rows, expected)


def test_whoever_only_looks_at_the_network_leaves_nothing_to_learn_from() -> None:
    network = Network()
    lazy = make_optimizer(network, LAZY)
    users, items = torch.arange(5), torch.arange(10).view(2, 5)
    with torch.no_grad():
        seen, _ = network(users, items)
    assert len(lazy.parameters) == 4  # of the two linear layers
    torch.testing.assert_close(seen, network(users, items)[0].detach())
    assert len(lazy.parameters) == 7


def test_tables_are_given_back_features_first() -> None:
    network = Network()
    before = network.users.weight.detach().clone()
    lazy = make_optimizer(network, LAZY)
    assert not network.users.weight.is_contiguous()
    lazy.release()
    assert network.users.weight.is_contiguous()
    assert torch.equal(network.users.weight, before)
    assert network.users.look_up is None


def test_auto_goes_by_what_the_tables_hold_and_a_step_looks_up() -> None:
    width = len(Network().users.weight)
    users = 400_000 // width + 6 * 4 * 100 + 1  # beside one item, just above what a batch allows
    just, more = (Method(batch_size=size, negatives=2) for size in (101, 100))
    for method, kind in {
        just: Adam,
        more: LazyAdam,
        replace(more, optimizer="adam"): Adam,
        replace(more, weight_decay=0.1): Adam,
    }.items():
        assert isinstance(make_optimizer(Network(users, 1), method), kind)
    assert isinstance(make_optimizer(Network(2370, 30), Method(batch_size=1)), Adam)
    assert isinstance(make_optimizer(nn.Linear(3, 3), more), Adam)


def test_what_is_not_lazy_is_told() -> None:
    with pytest.raises(UserError, match=r"weight_decay \(now 0\.1\).*use l2"):
        make_optimizer(Network(), replace(LAZY, weight_decay=0.1))
    with pytest.raises(UserError, match=r"no pipeline\.training\.tables\.Table"):
        make_optimizer(nn.Linear(3, 3), LAZY)
