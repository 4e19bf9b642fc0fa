from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from pipeline.models.ncf import NCF, NCFSettings
from pipeline.models.neumf import NCFNetwork
from pipeline.training.trainer import DivergedError, Epoch, Trainer, TrainingSettings, choose_device
from tests.conftest import checkerboard, make_dataset
from tests.training.fits import QUICK, Recorder, fitted, noting, seeded


def recorded(dataset: Dataset, **settings: Any) -> tuple[Recorder, list[Epoch]]:
    network, told = Recorder(), list[Epoch]()
    trainer = Trainer(network, dataset, TrainingSettings(**settings), seeded())
    trainer.run(noting(told))
    return network, told


@pytest.mark.parametrize("loss", ["bpr", "bpr_sigmoid", "bce", "softmax"])
def test_the_loss_falls(loss: str) -> None:
    _, told = fitted(checkerboard(), loss=loss, epochs=20)
    assert [epoch.number for epoch in told] == list(range(1, 21))
    first, last = told[0].loss, told[-1].loss
    floor = math.log1p(math.exp(-1)) if loss == "bpr_sigmoid" else 0
    assert last - floor < 0.7 * (first - floor)


def test_an_epoch_takes_every_interaction_once_with_new_negatives() -> None:
    board = checkerboard()  # 160 interactions: four batches of 48, 48, 48 and 16
    network, _ = recorded(board, epochs=2, batch_size=48, negatives=3)
    assert [len(users) for users, _ in network.asked] == [48, 48, 48, 16] * 2
    assert all(items.shape == (4, len(users)) for users, items in network.asked)
    epochs = [network.asked[:4], network.asked[4:]]
    pairs = [
        torch.cat([torch.stack([users, items[0]], dim=1) for users, items in asked]).tolist()
        for asked in epochs
    ]
    expected = board.train[["user", "item"]].to_numpy().tolist()
    assert sorted(pairs[0]) == sorted(pairs[1]) == expected
    assert pairs[0] != pairs[1] != expected
    negatives = [torch.cat([items[1:].flatten() for _, items in asked]) for asked in epochs]
    assert not torch.equal(*negatives)
    assert len(negatives[0].unique()) == board.n_items


def test_verified_negatives_are_not_in_training() -> None:
    board = checkerboard()
    network, _ = recorded(board, epochs=1, negatives=5, verified_negatives=True)
    seen = torch.from_numpy(board.seen.toarray())
    for users, items in network.asked:
        assert not seen[users, items[1:]].any()


def test_the_numbers_of_an_epoch() -> None:
    # A logit of 0 for all: ln 2 per step until the first update, and Adam's first update of a
    # parameter without gradient is none: a pair's BPR loss does not depend on a common logit.
    _, told = recorded(checkerboard(), epochs=2, batch_size=48, loss="bpr")
    assert len(told) == 2
    for epoch in told:
        assert epoch.loss == pytest.approx(math.log(2))
        assert epoch.loss_sum == pytest.approx(4 * math.log(2))
        assert epoch.seconds > 0
        assert epoch.examples_per_second == pytest.approx(160 / epoch.seconds)
        assert epoch.record() == {
            "loss": epoch.loss,
            "loss_sum": epoch.loss_sum,
            "epoch_seconds": epoch.seconds,
            "examples_per_second": epoch.examples_per_second,
        }


def test_adam_takes_steps_of_the_learning_rate() -> None:
    # Three negatives to a positive pull the common logit of BCE down, at first by just the rate.
    settings = {"epochs": 1, "batch_size": 1000, "negatives": 3, "learning_rate": 0.25}
    network, _ = recorded(checkerboard(), **settings)
    assert float(network.logit.detach()) == pytest.approx(-0.25, rel=1e-5)


def test_confidence_is_the_rating_to_the_power_with_mean_one() -> None:
    rows = make_dataset([(0, 0), (0, 1), (1, 0)])
    ratings = np.array([1, 4, -2], np.float32)
    dataset = replace(rows, train=rows.train.assign(rating=ratings))

    def weights(power: float) -> float | list[float]:
        settings = TrainingSettings(rating_confidence=power, values="ratings")
        return Trainer(Recorder(), dataset, settings, seeded()).loop.weights.tolist()

    assert weights(0) == 1  # one for all
    assert weights(1) == pytest.approx([0.6, 2.4, 0])  # a negative rating counts as 0
    assert weights(0.5) == pytest.approx([1, 2, 0])


def test_confidence_is_of_what_interactions_are_worth() -> None:
    """Of counts it is the logarithm, unless it is said otherwise."""
    board = checkerboard()
    hours = np.where(board.train["item"] % 5, 1, 1e4).astype(np.float32)
    dataset = replace(board, train=board.train.assign(rating=hours))

    def spread(**given: Any) -> float:
        settings = TrainingSettings(rating_confidence=1, **given)
        weights = Trainer(Recorder(), dataset, settings, seeded()).loop.weights
        return float(weights.max() / weights.min())

    assert spread(values="ratings") == pytest.approx(1e4)
    assert spread(values="log") < 100
    assert spread(values="auto") == spread(values=dataset.values_taken)


def test_confidence_weighs_the_loss() -> None:
    """Ratings are 3, 4 and 5; who is rated higher is learned more firmly."""
    board = checkerboard()
    model, _ = fitted(board, rating_confidence=8, epochs=10, loss="bpr")
    rows = board.train
    scores = model.scores(np.arange(20, dtype=np.int32))[rows["user"], rows["item"]]
    means = [float(scores[rows["rating"] == rating].mean()) for rating in (3, 5)]
    plain, _ = fitted(board, epochs=10, loss="bpr")
    scores = plain.scores(np.arange(20, dtype=np.int32))[rows["user"], rows["item"]]
    plain_means = [float(scores[rows["rating"] == rating].mean()) for rating in (3, 5)]
    assert means[1] - means[0] > plain_means[1] - plain_means[0] + 0.1


class Ordinary(nn.Module):
    """A network as anybody would write it: rows, dropout, nothing else."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.users = nn.Embedding(dataset.n_users, 4)
        self.items = nn.Embedding(dataset.n_items, 4)
        self.unused = nn.Linear(2, 2)
        self.dropout = nn.Dropout(0.3)

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        user, item = self.users(users), self.items(items)
        logits = (self.dropout(user) * item).sum(-1)
        return logits, (user.movedim(-1, 0), item.movedim(-1, 0))


def test_an_ordinary_module_is_trained() -> None:
    board, told = checkerboard(), list[Epoch]()
    settings = TrainingSettings(**QUICK, epochs=30, loss="bpr", l2=1e-3, verified_negatives=True)
    network = Ordinary(board)
    before = network.unused.weight.detach().clone()
    Trainer(network, board, settings, seeded()).run(noting(told))
    assert told[-1].loss < 0.5 * told[0].loss
    assert torch.equal(network.unused.weight, before)


def test_what_an_ordinary_module_draws_goes_by_the_seed_of_the_fit() -> None:
    """Its dropout knows the global generator alone; a fit goes on all the same bit for bit."""
    board, settings = checkerboard(), TrainingSettings(**(QUICK | {"epochs": 4}))
    whole, told, states = Ordinary(board), list[Epoch](), list[Any]()

    def note(epoch: Epoch) -> bool:
        told.append(epoch)
        states.append(copy.deepcopy(epoch.state()))
        return False

    Trainer(whole, board, settings, seeded()).run(note)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    resumed, rest = Trainer(Ordinary(board), board, settings, seeded()), list[Epoch]()
    torch.set_rng_state(before)
    resumed.load_state(states[1])
    resumed.run(noting(rest))
    assert torch.equal(torch.get_rng_state(), before)
    assert [epoch.loss_sum for epoch in rest] == [epoch.loss_sum for epoch in told[2:]]
    other = list[Epoch]()
    Trainer(Ordinary(board), board, settings, seeded(1)).run(noting(other))
    assert other[0].loss_sum != told[0].loss_sum


def test_embeddings_that_are_not_features_first_are_refused() -> None:
    class RowsFirst(Ordinary):
        def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            logits, used = super().forward(users, items)
            return logits, tuple(part.movedim(0, -1) for part in used)

    board, settings = checkerboard(), TrainingSettings(**QUICK, l2=1e-3)
    with pytest.raises(ValueError, match=r"\(32, 4\); expected \[width, 32\] or \[width, 2, 32\]"):
        Trainer(RowsFirst(board), board, settings, seeded()).run()


class Spare:
    """A network with one user and one item more than the dataset has."""

    def __init__(self, dataset: Dataset, **settings: Any) -> None:
        self.settings = NCFSettings(**(QUICK | {"epochs": 3} | settings))
        torch.manual_seed(0)
        self.network = NCFNetwork(dataset.n_users + 1, dataset.n_items, self.settings)
        self.before = self.network.users.weight.detach().T.clone()
        Trainer(self.network, dataset, self.settings, seeded()).run()
        self.after = self.network.users.weight.detach().T

    def unused(self) -> tuple[Tensor, Tensor]:
        return self.before[-1], self.after[-1]

    def used_norm(self) -> float:
        return float(self.after[:-1].norm())


def test_weight_decay_shrinks_rows_that_no_batch_used() -> None:
    before, after = Spare(checkerboard(), weight_decay=1e-4).unused()
    assert float(after.norm()) < 0.5 * float(before.norm())


def test_l2_does_not_touch_rows_that_no_batch_used_and_shrinks_the_others() -> None:
    board = checkerboard()
    plain, held = Spare(board), Spare(board, l2=1.0)
    for spare in (plain, held):
        assert torch.equal(*spare.unused())
    assert held.used_norm() < 0.5 * plain.used_norm()


def test_the_loss_that_is_told_is_without_the_penalty() -> None:
    board = checkerboard()
    losses = [fitted(board, epochs=1, batch_size=1000, l2=l2)[1][0].loss for l2 in (0.0, 100.0)]
    assert losses[0] == losses[1]


def test_a_diverging_fit_ends_with_a_message() -> None:
    told: list[Epoch] = []
    model = NCF(NCFSettings(**(QUICK | {"learning_rate": 1e30, "epochs": 5})), seed=0)
    with pytest.raises(DivergedError) as caught:
        model.fit(checkerboard(), noting(told))
    assert not told
    assert isinstance(caught.value, UserError)
    message = str(caught.value)
    assert message.startswith(("The loss became nan in epoch 1.", "The loss became inf in epoch 1"))
    assert "Lower learning_rate (now 1e+30) or raise l2" in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none() -> None:
    with pytest.raises(UserError) as caught:
        NCF(NCFSettings(device="cuda"), seed=0).fit(checkerboard())
    assert "device=cuda" in str(caught.value)
    assert "use device=cpu or auto" in str(caught.value)
    assert choose_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_precision_that_a_cpu_has_not(precision: str) -> None:
    with pytest.raises(UserError) as caught:
        fitted(checkerboard(), precision=precision)
    assert str(caught.value).startswith(f"precision={precision} needs a CUDA device")
    assert "use precision=float32" in str(caught.value)


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")


def test_whoever_watches_may_stop() -> None:
    board = checkerboard()
    stopped, told = fitted(board, epochs=9, stop_after=3)
    short, _ = fitted(board, epochs=3)
    assert [epoch.number for epoch in told] == [1, 2, 3]
    for name, array in short.arrays().items():
        np.testing.assert_array_equal(stopped.arrays()[name], array)


@pytest.fixture
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("two_threads")
def test_threads_are_few_in_training_and_as_before_after_it() -> None:
    board, within = checkerboard(), list[int]()

    def look(epoch: Epoch) -> bool:
        within.append(torch.get_num_threads())
        return False

    NCF(NCFSettings(**QUICK, epochs=1), seed=0).fit(board, look)
    assert within == [1]
    assert torch.get_num_threads() == 2
    with pytest.raises(DivergedError):
        fitted(board, learning_rate=1e30)
    assert torch.get_num_threads() == 2


def test_denormals_are_as_before_after_training() -> None:
    torch.set_flush_denormal(False)
    fitted(checkerboard(), epochs=1)
    assert np.float32(1e-38) / np.float32(100) > 0


def test_a_batch_follows_the_number_of_interactions(dataset: Dataset) -> None:
    """So many steps, whatever the data; the last batch is what is left."""
    generator = seeded()
    settings = TrainingSettings(steps_per_epoch=7, batch_size=100_000, device="cpu")
    trainer = Trainer(Recorder(), dataset, settings, generator)
    assert trainer.settings.batch_size == math.ceil(len(dataset.train) / 7)
    assert len(trainer.loop.run()) == 7
    assert settings.batch_size == 100_000, "the settings that are kept are those that were given"
