from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.data.dataset import Dataset
from pipeline.evaluation.ranking import rank
from pipeline.models import exposure as module
from pipeline.models import family
from pipeline.models.base import Recommender
from pipeline.models.exposure import exposure
from pipeline.models.ncf import NCF, NCFSettings
from pipeline.training.trainer import Epoch
from tests.conftest import make_dataset

QUICK: dict[str, dict[str, Any]] = {
    "ncf": {"epochs": 2, "learning_rate": 1e-5, "start": "svd", "device": "cpu"},
    "ease": {"regularization": 100},
    "sequential_ridge": {"components": 8, "ease_regularization": 100},
}
LINEAR = ["svd", "ease", "als", "item_knn", "sequential_ridge"]


def fitted(name: str, dataset: Dataset, **settings: Any) -> Recommender:
    cls = family(name)
    return cls(cls.settings_class(**(QUICK.get(name, {}) | settings)), seed=0).fit(dataset)


def everyone(dataset: Dataset) -> npt.NDArray[np.int32]:
    return np.arange(dataset.n_users, dtype=np.int32)


def warm(dataset: Dataset) -> npt.NDArray[np.int32]:
    return everyone(dataset)[np.diff(dataset.seen.indptr) >= 15]


def reached(model: Recommender, dataset: Dataset) -> npt.NDArray[np.int64]:
    """In how many lists of ten of warm users each item is."""
    lists = rank(model, warm(dataset), dataset.seen, 10, dataset.n_items)
    return np.bincount(lists.ravel(), minlength=dataset.n_items)


@pytest.fixture(scope="module")
def crowd() -> Dataset:
    """200 users with 20 of 60 items each, a few of which nearly everybody has."""
    rng = np.random.default_rng(0)
    appeal = -np.log(np.arange(1, 61))
    best = np.argsort(-(appeal + rng.gumbel(size=(200, 60))), axis=1)[:, :20]
    return make_dataset([(user, item) for user, items in enumerate(best) for item in items])


def few(dataset: Dataset) -> npt.NDArray[np.int64]:
    """Four lists, or all that an item can be in."""
    return np.minimum(4, dataset.n_users - dataset.popularity)


@pytest.mark.parametrize("name", [*LINEAR, "ncf"])
def test_every_item_comes_into_lists(crowd: Dataset, name: str) -> None:
    plain, exposed = fitted(name, crowd), fitted(name, crowd, exposure_users=10)
    assert (reached(plain, crowd) < few(crowd)).any()
    assert (reached(exposed, crowd) >= few(crowd)).all()


def by_hand(
    scores: npt.NDArray[np.float32], dataset: Dataset, wanted: int, k: int
) -> npt.NDArray[np.float64]:
    """One round, user by user and item by item."""
    seen = dataset.seen.toarray() > 0
    gaps: list[list[float]] = [[] for _ in range(dataset.n_items)]
    for user in warm(dataset):
        standard = scores[user].astype(np.float64) / (scores[user].std() or 1)
        unseen = np.flatnonzero(~seen[user])
        last = np.sort(standard[unseen])[-k] if k <= len(unseen) else -np.inf
        for item in unseen:
            gaps[item].append(last - standard[item])
    raised = np.zeros(dataset.n_items)
    for item, of_item in enumerate(gaps):
        lack = sorted(of_item)[:wanted][-1] if of_item else 0
        raised[item] = lack + module.STEP if lack > 0 else 0
    return raised


def noise(dataset: Dataset) -> npt.NDArray[np.float32]:
    """Scores of users of very different spread, with some items ahead of others."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(dataset.n_users, dataset.n_items)) + rng.normal(size=dataset.n_items)
    return (scores * rng.uniform(0.1, 10, size=(dataset.n_users, 1))).astype(np.float32)


@pytest.mark.parametrize(("wanted", "k"), [(1, 10), (4, 10), (3, 1)])
def test_a_round_raises_by_what_the_nth_closest_user_lacks(
    dataset: Dataset, wanted: int, k: int
) -> None:
    scores = noise(dataset)
    found = exposure(lambda users: scores[users], dataset, wanted, k, rounds=1)
    np.testing.assert_allclose(found.users, scores.std(1), rtol=1e-5)
    np.testing.assert_allclose(found.items, by_hand(scores, dataset, wanted, k), atol=1e-4)
    assert (found.items > 0.1).mean() > 0.3
    assert (found.items == 0).any()


def test_blocks_of_users_change_nothing(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = noise(dataset)
    whole = exposure(lambda users: scores[users], dataset, 3)
    asked = []

    def scores_of(users: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        asked.append(len(users))
        return scores[users]

    monkeypatch.setattr(module, "BLOCK_BYTES", 4 * dataset.n_items * 7)
    monkeypatch.setattr(module, "KEPT_BYTES", 0)
    parts = exposure(scores_of, dataset, 3)
    np.testing.assert_array_equal(parts.items, whole.items)
    np.testing.assert_allclose(parts.users, whole.users)
    assert max(asked) == 7
    assert sum(asked) == dataset.n_users + 5 * len(warm(dataset))


@pytest.mark.parametrize("name", [*LINEAR, "ncf"])
def test_a_score_is_only_raised_by_its_users_spread_times_its_items_bias(
    dataset: Dataset, name: str
) -> None:
    users = everyone(dataset)
    plain = fitted(name, dataset).scores(users)
    added = fitted(name, dataset, exposure_users=2).scores(users) - plain
    spread = plain.std(1)
    bias = added.sum(0) / spread.sum()
    assert bias.max() > 0.5
    assert bias.min() > -1e-5
    np.testing.assert_allclose(added, np.outer(spread, bias), atol=1e-4 * np.abs(plain).max())


def test_nobody_warm_nothing_raised() -> None:
    board = make_dataset([(user, (user + place) % 20) for user in range(20) for place in range(9)])
    assert len(warm(board)) == 0
    plain = fitted("svd", board).scores(everyone(board))
    with_it = fitted("svd", board, exposure_users=3).scores(everyone(board))
    np.testing.assert_array_equal(with_it, plain)


def test_lists_that_are_not_full_and_scores_all_alike() -> None:
    """Whoever has fewer than k unseen items has all of them in the list."""
    seen = [range(28), range(16), range(5, 22), range(3, 20), range(14, 30)]
    board = make_dataset([(user, item) for user, items in enumerate(seen) for item in items])
    scores = noise(board)
    scores[1] = 0
    for k in (1, 4, 12):
        found = exposure(lambda users: scores[users], board, 2, k, rounds=1)
        np.testing.assert_allclose(found.items, by_hand(scores, board, 2, k), atol=1e-4)
        assert found.items.any()
    assert not exposure(lambda users: scores[users], board, 2, k=99).items.any()


@pytest.mark.parametrize("name", ["svd", "item_knn", "ease", "ncf"])
def test_what_was_saved_is_loaded(dataset: Dataset, tmp_path: Path, name: str) -> None:
    model = fitted(name, dataset, exposure_users=2)
    model.save(tmp_path)
    loaded = family(name).load(tmp_path)
    users = everyone(dataset)
    np.testing.assert_array_equal(loaded.scores(users), model.scores(users))
    some = users[[5, 2, 5]]
    np.testing.assert_allclose(model.scores(some), model.scores(users)[some], rtol=1e-5, atol=1e-5)


def test_a_network_shows_it_after_every_epoch(crowd: Dataset) -> None:
    settings = NCFSettings(**QUICK["ncf"] | {"exposure_users": 10, "learning_rate": 0.01})
    model = NCF(settings, seed=0)
    seen: list[npt.NDArray[np.float32]] = []
    states: list[dict[str, Any]] = []

    def look(epoch: Epoch) -> bool:
        seen.append(model.scores(everyone(crowd)))
        states.append(copy.deepcopy(epoch.state()))
        assert (reached(model, crowd) >= few(crowd)).all()
        return False

    model.fit(crowd, look)
    np.testing.assert_array_equal(model.scores(everyone(crowd)), seen[1])
    assert np.abs(seen[1] - seen[0]).max() > 0.01
    unwatched = NCF(settings, seed=0).fit(crowd)
    resumed = NCF(settings, seed=0).fit(crowd, state=states[0])
    ended = NCF(settings, seed=0).fit(crowd, state=states[1])
    for other in (unwatched, resumed, ended):
        np.testing.assert_array_equal(other.scores(everyone(crowd)), seen[1])
