from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.data.dataset import Dataset
from pipeline.models.neumf import NCFMethod, NCFNetwork
from pipeline.training.losses import LOSSES, find_loss
from pipeline.training.optimizers.adam import Adam
from pipeline.training.shards import Interactions, ShardedLoop, make_loop
from pipeline.training.trainer import Trainer, TrainingSettings
from tests.training.fits import Recorder

MADE = NCFMethod(batch_size=32, learning_rate=0.01, dropout=0.4)
USERS = torch.tensor([0, 0, 0, 0, 1, 2, 2, 3, 4, 4, 5], dtype=torch.int32)
ITEMS = torch.tensor([0, 1, 2, 3, 0, 0, 4, 1, 0, 2, 4], dtype=torch.int32)


def in_shards(users: Tensor, items: Tensor, weights: Tensor, n: int, shards: int) -> Interactions:
    """Interactions with ``n`` items, read as those of a dataset are."""

    def read(rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        return users[rows], items[rows], weights[rows] if weights.dim() else weights

    activity, popularity = users.bincount(), items.bincount(minlength=n)
    return Interactions.in_shards(read, activity, popularity, shards)


def whole(shards: int) -> Interactions:
    return in_shards(USERS, ITEMS, torch.arange(11.0), 6, shards)


def sharded(made: NCFMethod, shards: int, process: int = 0, processes: int = 1) -> ShardedLoop:
    """Epochs over 80 interactions of 12 users with 9 items, in shards; the same every time."""
    torch.manual_seed(0)
    pairs = torch.randperm(12 * 9)[:80].sort().values.int()
    data = in_shards(pairs // 9, pairs % 9, torch.linspace(0.5, 1.5, 80), 9, shards)
    generator = torch.Generator().manual_seed(0)
    network = NCFNetwork(12, 9, made, generator)
    loop = make_loop(network, data.portion(process, processes), made, generator)
    assert isinstance(loop, ShardedLoop)
    return loop


def test_a_shard_is_of_users_in_a_row() -> None:
    made = whole(3)
    assert made.sizes == (0, 7, 4)  # user 0 has more than a third: the first shard is nobody's
    assert whole(2).sizes == (5, 6)
    assert whole(1).sizes == (11,)
    assert made.popularity.tolist() == [4, 2, 2, 1, 2, 0]


def test_there_may_be_fewer_users_than_shards() -> None:
    made = whole(30)
    assert sum(made.sizes) == 11
    assert [size for size in made.sizes if size] == [4, 1, 2, 1, 2, 1]


@pytest.mark.parametrize(("shards", "processes"), [(2, 2), (3, 2), (5, 2), (4, 3), (4, 1)])
def test_processes_share_the_shards_among_them(shards: int, processes: int) -> None:
    made = whole(shards)
    parts = [made.portion(process, processes) for process in range(processes)]
    assert [shard for part in parts for shard in part.shards] == list(range(shards))
    expected = zip(("users", "items", "weights"), (USERS, ITEMS, torch.arange(11.0)), strict=True)
    for name, column in expected:
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), column)
    for part in parts:
        assert len(part.users) == sum(made.sizes[shard] for shard in part.shards)
        assert torch.equal(part.popularity, made.popularity)
    ends = [part.users for part in parts if len(part.users)]
    assert all(one[-1] < other[0] for one, other in pairwise(ends))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 10, 11, 100])
@pytest.mark.parametrize("shards", [1, 2, 3, 30])
def test_batches_take_from_every_shard_by_its_size(shards: int, batch_size: int) -> None:
    made = whole(shards).portion()
    steps = made.steps(batch_size)
    assert [sum(of_shard) for of_shard in zip(*steps, strict=True)] == list(made.sizes)
    assert all(0 < sum(step) < batch_size + shards for step in steps)
    if shards == 1:  # as a loop without shards has them
        assert [size for (size,) in steps] == [
            len(part) for part in torch.arange(11).split(batch_size)
        ]


class Steps(Adam):
    """An optimizer that moves nothing, and keeps the gradients that it is given."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        super().__init__(parameters, 0.0)
        self.given: list[Sequence[Tensor]] = []

    def step(self, gradients: Sequence[Tensor]) -> None:
        self.given.append(gradients)


def watched(loop: ShardedLoop) -> tuple[list[tuple[Tensor, ...]], Steps]:
    """What the network of ``loop`` is asked and answers from now on; it stays as it is."""
    network, asked = loop.network, list[tuple[Tensor, ...]]()

    def noting(users: Tensor, items: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        logits, used = network(users, items)
        asked.append((users, items, logits.detach()))
        return logits, used

    steps = Steps(list(network.parameters()))
    loop.network, loop.optimizer = noting, steps  # type: ignore[assignment]
    return asked, steps


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_the_gradient_is_that_of_the_mean_over_the_batch(loss: str, l2: float) -> None:
    """What one step over all of a batch has: shards and their sizes do not show."""
    made = replace(MADE, loss=loss, l2=l2, dropout=0.0, negatives=2, batch_size=33)
    loop = sharded(made, 3)
    assert any(len(set(step)) > 1 for step in loop.steps)  # not all shares are the same
    network = loop.network
    asked, steps = watched(loop)
    losses = loop.run()
    rows = zip(loop.users.tolist(), loop.items.tolist(), loop.weights, strict=True)
    weight = {(user, item): weight for user, item, weight in rows}
    for step, told in enumerate(losses):
        users, items, _ = (
            torch.cat(part, dim=-1) for part in zip(*asked[3 * step : 3 * step + 3], strict=True)
        )
        pairs = zip(users.tolist(), items[0].tolist(), strict=True)
        logits, used = network(users, items)
        value = find_loss(loss)(logits, torch.stack([weight[pair] for pair in pairs]))
        torch.testing.assert_close(told, value.detach(), atol=1e-6, rtol=0)
        penalty = sum(part.square().sum() / part[0].numel() for part in used)
        expected = torch.autograd.grad(value + l2 * penalty, steps.parameters)
        for ours, theirs in zip(steps.given[step], expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def recorded(dataset: Dataset, **settings: Any) -> Recorder:
    network, generator = Recorder(), torch.Generator().manual_seed(0)
    Trainer(network, dataset, TrainingSettings(**settings), generator).run()
    return network


def test_an_epoch_takes_every_interaction_once_with_new_negatives(dataset: Dataset) -> None:
    network = recorded(dataset, epochs=2, batch_size=500, shards=3, negatives=2)
    assert len(network.asked) == 2 * 3 * -(-len(dataset.train) // 500)
    halves = network.asked[: len(network.asked) // 2], network.asked[len(network.asked) // 2 :]
    expected = Counter(map(tuple, dataset.train[["user", "item"]].to_numpy().tolist()))
    for asked in halves:
        pairs = [torch.stack([users, items[0]], dim=1) for users, items in asked]
        assert Counter(map(tuple, torch.cat(pairs).tolist())) == expected
    order, negatives = (
        [torch.cat([part(*each) for each in asked]) for asked in halves]
        for part in (lambda users, _: users, lambda _, items: items[1])
    )
    assert not torch.equal(*order)
    assert not torch.equal(*negatives)


def test_negatives_go_by_what_is_popular_in_all_shards() -> None:
    # Item 5 is only user 1's; who is in the other shard gets it nevertheless, and item 0 never.
    users, items = torch.tensor([0, 0, 1, 1], dtype=torch.int32), torch.tensor([1, 2, 5, 5])
    data = in_shards(users, items.int(), torch.ones(()), 6, 2)
    made = replace(MADE, negative_power=1.0, negatives=200, batch_size=4)
    loop = make_loop(Recorder(), data.portion(0, 2), made, torch.Generator().manual_seed(0))
    drawn = loop.sampler.draw(loop.users, 200, loop.generator)
    assert set(drawn.unique().tolist()) == {1, 2, 5}


def test_every_shard_draws_by_itself() -> None:
    """Its batches and its dropout are the same, whichever others are here with it."""
    answers = []
    for place, of in ((3, 4), (1, 2)):  # the last of four alone, then after the third
        loop = sharded(MADE, 4, place, of)
        asked, _ = watched(loop)
        torch.manual_seed(5)
        loop.run()
        answers.append(asked[len(loop.shards) - 1 :: len(loop.shards)])
    alone, beside = answers
    assert len(alone) == len(beside) == 3
    for one, other in zip(alone, beside, strict=True):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(one, other, strict=True))
