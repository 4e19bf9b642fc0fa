"""What a model gains over popular lists and over those of strangers, and how sure that is."""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats

from pipeline.data.dataset import Dataset
from pipeline.evaluation.validation import (
    OVER_POPULAR,
    OVER_STRANGERS,
    Validation,
    rolling_windows,
    validate,
    window_name,
)
from pipeline.models.base import Arrays, Recommender
from pipeline.models.factors import SVD
from pipeline.settings import Settings
from pipeline.training.checkpoint import Journal
from tests.evaluation.scripted import EARLY, LATE, NDCG, SUMS, run


class Noisy(Recommender):
    """What is popular, with noise that is each user's own: not alike, and yet not personal."""

    def fit(self, dataset: Dataset) -> Self:
        self.popularity = dataset.popularity
        return self

    def scores(self, users: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        shape = self.popularity.shape
        noise = [np.random.default_rng(user).normal(size=shape) for user in users.tolist()]
        return np.asarray(np.log1p(self.popularity) + 0.1 * np.stack(noise), np.float32)

    def arrays(self) -> Arrays:
        return {}

    def load_arrays(self, arrays: Arrays) -> None:
        pass


class Everybodys(Noisy):
    """The same order of the catalogue for everybody, nearly that of popularity."""

    def scores(self, users: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        return super().scores(np.zeros_like(users))


class OneList(Noisy):
    """One order of the catalogue for everybody, drawn without regard to popularity."""

    def scores(self, users: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        drawn = np.random.default_rng(1).random(self.popularity.shape, np.float32)
        return np.tile(drawn, (len(users), 1))


def validated(model: Recommender, dataset: Dataset) -> Validation:
    windows = rolling_windows(dataset, [EARLY, LATE], [5, 10])
    return validate(lambda: model, windows, metric=NDCG, journal=Journal())


def test_strangers_lists_of_a_model_that_scores_alike_are_the_own(dataset: Dataset) -> None:
    found = validated(Everybodys(Settings(), seed=0), dataset)
    gain = found.gain(OVER_STRANGERS)
    assert gain is not None
    assert gain.squares == gain.mean == 0
    assert gain.p(found.repeats) == 1
    assert gain.one > 0


def test_what_is_popular_under_noise_is_worth_the_same_to_strangers(dataset: Dataset) -> None:
    found = validated(Noisy(Settings(), seed=0), dataset)
    gain = found.gain(OVER_STRANGERS)
    assert gain is not None
    assert gain.squares > 0
    assert gain.p(found.repeats) > 0.05
    assert gain.most(found.repeats) * gain.users < 0.05 * gain.one


def test_a_personal_model_is_worth_less_to_strangers(dataset: Dataset) -> None:
    window = rolling_windows(dataset, [LATE], [5])[0]
    model = SVD(SVD.settings_class(components=4), seed=0).fit(window.dataset)
    own = window.deep.evaluate(model).evaluation.summary["recall_at_50"]
    strangers = window.deep.evaluate_for_strangers(model)
    assert own > 1.1 * strangers.evaluation.summary["recall_at_50"]
    seen = window.dataset.seen[strangers.users]
    for user, items in enumerate(strangers.lists):
        assert not np.isin(items, seen[user].indices).any()


def test_strangers_are_asked_only_where_most_is_popular_or_everybodys(dataset: Dataset) -> None:
    found = validated(SVD(SVD.settings_class(components=4), seed=0), dataset)
    assert found.mean["popularity_overlap_at_5"] < 0.5 < found.mean["personalization_at_5"]
    assert found.gain(OVER_STRANGERS) is None
    found = validated(OneList(Settings(), seed=0), dataset)
    assert found.mean["popularity_overlap_at_5"] < 0.5 > found.mean["personalization_at_5"]
    gain = found.gain(OVER_STRANGERS)
    assert gain is not None
    assert gain.squares == 0 < gain.one


def test_gains_are_those_of_all_windows_users(dataset: Dataset) -> None:
    windows = rolling_windows(dataset, [EARLY, LATE], [5, 10])
    found = validated(SVD(SVD.settings_class(components=4), seed=0), dataset)
    gain = found.gain(OVER_POPULAR)
    assert gain is not None
    assert gain.users == sum(len(window.users) for window in windows)
    own = [
        window.ranking.evaluate(SVD(SVD.settings_class(components=4), seed=0).fit(window.dataset))
        for window in windows
    ]
    one = np.concatenate([each.evaluation.per_user[NDCG] for each in own])
    other = np.concatenate([window.popular.per_user[NDCG] for window in windows])
    assert gain.one == pytest.approx(one.sum())
    assert gain.p() == pytest.approx(stats.ttest_rel(one, other).pvalue)
    times = pd.Series(np.concatenate([window.users for window in windows])).value_counts()
    assert found.repeats == pytest.approx((times**2).sum() / times.sum())
    assert found.repeats > 1
    assert gain.p(found.repeats) > gain.p()


def test_records_of_before_have_no_gains(dataset: Dataset) -> None:
    """As a checkpoint holds them that was written by an earlier version."""
    journal = Journal()
    found, _ = run({EARLY: [0.5], LATE: [0.4]}, dataset, journal=journal)
    assert found.gain(OVER_POPULAR) is not None
    for name in SUMS:
        journal.records[window_name(EARLY)][0].pop(name, None)
    again, done = run({EARLY: [0.5], LATE: [0.4]}, dataset, journal=journal)
    assert done == []
    assert again.gain(OVER_POPULAR) is None
    assert again.mean == found.mean
