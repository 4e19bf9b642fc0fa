"""What every model keeps, one suite for all; a family joins by being in FAMILIES."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.data.dataset import Dataset
from pipeline.data.values import Values
from pipeline.evaluation.ranking import rank
from pipeline.models import FAMILIES, family
from pipeline.models.base import Recommender
from pipeline.space import Choice
from tests.conftest import checkerboard, make_dataset

# What learns a checkerboard of 20 users and 20 items in a moment, where the defaults do not.
SETTINGS: dict[str, dict[str, Any]] = {
    "ncf": {"epochs": 30, "batch_size": 32, "learning_rate": 0.02, "device": "cpu"},
    "two_tower": {"epochs": 30, "batch_size": 32, "learning_rate": 0.01, "device": "cpu"},
}

IMPERSONAL = {"most_popular", "most_popular_unmasked", "random"}


def make(name: str, seed: int = 0, **settings: Any) -> Recommender:
    cls = family(name)
    return cls(cls.settings_class(**{**SETTINGS.get(name, {}), **settings}), seed)


def everyone(dataset: Dataset) -> npt.NDArray[np.int32]:
    return np.arange(dataset.n_users, dtype=np.int32)


def lists(model: Recommender, dataset: Dataset, k: int) -> npt.NDArray[np.int32]:
    seen = dataset.seen if model.masks_seen else None
    return rank(model, everyone(dataset), seen, k, dataset.n_items)


def assert_scores_everything(model: Recommender, dataset: Dataset) -> None:
    scores = model.scores(everyone(dataset))
    assert scores.shape == (dataset.n_users, dataset.n_items)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_search_space_is_one_of_its_settings(name: str) -> None:
    cls = family(name)
    assert bool(cls.space) is (name not in IMPERSONAL)
    assert "epochs" not in cls.space, "patience chooses them"
    for field, entry in cls.space.items():
        choices = entry.choices if isinstance(entry, Choice) else (entry.low, entry.high)
        for value in choices:
            cls.settings_class.read({field: value}, where=f"{name}: {field}")


@pytest.fixture(scope="module")
def board() -> Dataset:
    return checkerboard()


@pytest.fixture(scope="module")
def model(name: str, board: Dataset) -> Recommender:
    return make(name).fit(board)


@pytest.mark.parametrize("name", FAMILIES, scope="module")
class TestRecommender:
    def test_scores_are_finite_numbers_for_everything(
        self, model: Recommender, board: Dataset
    ) -> None:
        assert_scores_everything(model, board)

    def test_fit_returns_the_model(self, name: str, board: Dataset) -> None:
        model = make(name)
        assert model.fit(board) is model

    def test_what_a_user_misses_of_the_own_group_comes_first(
        self, model: Recommender, board: Dataset
    ) -> None:
        held_out = [set(row.indices) for row in board.held_out]
        right = [
            set(found) == missing
            for found, missing in zip(lists(model, board, 2).tolist(), held_out, strict=True)
        ]
        assert all(right) is model.personal

    def test_what_is_personal(self, name: str) -> None:
        assert family(name).personal is (name not in IMPERSONAL)

    def test_lists_hold_distinct_unseen_items(self, model: Recommender, board: Dataset) -> None:
        for user, found in enumerate(lists(model, board, 12).tolist()):
            assert len(set(found)) == 12
            seen = set(board.seen[[user]].indices)
            assert seen.isdisjoint(found) is model.masks_seen

    def test_a_list_ends_where_no_item_is_left(self, model: Recommender, board: Dataset) -> None:
        found = lists(model, board, 25)
        left = 20 - 8 if model.masks_seen else 20
        assert (found[:, :left] >= 0).all()
        assert (found[:, left:] == -1).all()

    def test_a_user_has_the_same_scores_alone_and_among_others(
        self, model: Recommender, board: Dataset
    ) -> None:
        users = everyone(board)
        together = model.scores(users)
        alone = [model.scores(users[user : user + 1])[0] for user in users]
        np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-6)
        some = np.array([7, 3, 3, 19], np.int32)
        np.testing.assert_allclose(model.scores(some), together[some], rtol=1e-5, atol=1e-6)

    def test_no_users_have_no_scores(self, model: Recommender, board: Dataset) -> None:
        assert model.scores(np.array([], np.int32)).shape == (0, board.n_items)

    def test_the_same_seed_gives_the_same_bits(
        self, name: str, model: Recommender, board: Dataset
    ) -> None:
        again = make(name).fit(board).scores(everyone(board))
        np.testing.assert_array_equal(again, model.scores(everyone(board)))

    def test_fitting_leaves_the_dataset_as_it_is(self, name: str) -> None:
        dataset = checkerboard()
        before = dataset.fingerprint
        make(name).fit(dataset)
        assert replace(dataset).fingerprint == before
        assert (dataset.seen != dataset.train_matrix()).nnz == 0

    def test_fitting_again_starts_anew(self, name: str, model: Recommender, board: Dataset) -> None:
        once = make(name).fit(make_dataset([(0, 0), (0, 1), (1, 1), (2, 0)]))
        np.testing.assert_array_equal(
            once.fit(board).scores(everyone(board)), model.scores(everyone(board))
        )

    def test_what_was_saved_is_loaded(
        self, name: str, model: Recommender, board: Dataset, tmp_path: Path
    ) -> None:
        model.save(tmp_path)
        loaded = family(name).load(tmp_path)
        assert loaded.settings == model.settings
        assert loaded.seed == model.seed
        np.testing.assert_array_equal(loaded.scores(everyone(board)), model.scores(everyone(board)))

    def test_one_user(self, name: str) -> None:
        dataset = make_dataset([(5, item) for item in range(4)])
        assert_scores_everything(make(name).fit(dataset), dataset)

    def test_one_item(self, name: str) -> None:
        dataset = make_dataset([(user, 9) for user in range(4)])
        assert_scores_everything(make(name).fit(dataset), dataset)

    def test_one_user_with_one_item(self, name: str) -> None:
        dataset = make_dataset([(5, 9)])
        assert_scores_everything(make(name).fit(dataset), dataset)

    def test_a_user_without_interactions_is_scored(self, name: str, board: Dataset) -> None:
        """A Dataset has no such users, but one whose ratings are all 0 looks like one."""
        rows = board.train
        dataset = replace(board, train=rows[rows["user"] != 4].reset_index(drop=True))
        assert dataset.seen[[4]].nnz == 0
        assert_scores_everything(make(name).fit(dataset), dataset)
        zeros = replace(board, train=rows.assign(rating=rows["rating"].where(rows["user"] != 4, 0)))
        assert_scores_everything(make(name).fit(zeros), zeros)

    def test_ratings_of_any_kind(self, name: str, board: Dataset) -> None:
        """Nothing, dislikes, counts: whatever an interaction is said to be worth."""
        takes_values = "values" in family(name).settings_class.model_fields
        choices = [{"values": each} for each in get_args(Values)] if takes_values else [{}]
        rating = board.train["rating"]
        hours = np.random.default_rng(0).lognormal(2, 3, len(rating)).astype(np.float32)
        for ratings in (0 * rating, rating - 4, -rating, hours):
            dataset = replace(board, train=board.train.assign(rating=ratings))
            for choice in choices:
                assert_scores_everything(make(name, **choice).fit(dataset), dataset)

    def test_users_and_items_of_unequal_numbers(self, name: str, dataset: Dataset) -> None:
        assert dataset.n_users != dataset.n_items
        assert_scores_everything(make(name).fit(dataset), dataset)
