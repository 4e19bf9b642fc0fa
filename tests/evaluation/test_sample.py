"""A test on a sample of users: the same users for everybody, and an error that is one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.data.dataset import Dataset
from pipeline.data.split_settings import WARM
from pipeline.evaluation.evaluate import FullRanking, evaluate
from pipeline.evaluation.sample import drawn, sample_words, standard_errors
from pipeline.evaluation.validation import rolling_windows
from pipeline.models.popularity import MostPopular
from pipeline.settings import Settings

N = 6


def fitted(dataset: Dataset) -> MostPopular:
    return MostPopular(Settings(), seed=0).fit(dataset)


def test_a_sample_has_what_its_users_have_in_the_whole(dataset: Dataset) -> None:
    model = fitted(dataset)
    whole, sample = evaluate(model, dataset, [5]), evaluate(model, dataset, [5], sample=N)
    places = np.searchsorted(whole.users, sample.users)
    assert (whole.users[places] == sample.users).all()
    assert len(sample.users) == N < len(whole.users)
    assert (np.diff(sample.users) > 0).all()
    assert (sample.lists == whole.lists[places]).all()
    of_whole = whole.evaluation.per_user.iloc[places].reset_index(drop=True)
    pd.testing.assert_frame_equal(sample.evaluation.per_user, of_whole)
    assert (whole.sample, sample.sample) == (None, f"{N} of {len(whole.users)} users")


def test_larger_samples_hold_smaller_ones_and_seeds_differ(dataset: Dataset) -> None:
    segment = dataset.segments[WARM]
    few, many = (set(drawn(segment, users, seed=0).users) for users in (N, 2 * N))
    assert few < many
    assert set(drawn(segment, N, seed=1).users) != few
    for enough in (None, len(segment.users), 10**6):
        assert drawn(segment, enough, seed=0) is segment


def test_every_model_gets_the_same_users(dataset: Dataset) -> None:
    one, other = (FullRanking(dataset, [5], sample=N) for _ in range(2))
    assert (one.users == other.users).all()


def test_windows_are_sampled_too(dataset: Dataset) -> None:
    (window,) = rolling_windows(dataset, [0.7], [5], sample=N)
    assert len(window.users) == N
    assert len(window.popular.per_user) == N
    assert len(window.deep.users) == N


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_error_is_that_of_means_of_samples(share: float) -> None:
    """Of many samples of one population, as far as they are from the mean of all of it."""
    rng = np.random.default_rng(0)
    population = rng.beta(0.3, 1, 400)
    size = int(share * len(population))
    means, errors = [], []
    for _ in range(3000):
        values = pd.DataFrame({"ndcg_at_10": rng.choice(population, size, replace=False)})
        means.append(values["ndcg_at_10"].mean())
        errors.append(standard_errors(values, len(population))["ndcg_at_10_standard_error"])
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.05)


def test_all_users_have_no_error_and_are_no_sample() -> None:
    values = pd.DataFrame({"ndcg_at_10": [0.0, 1.0], "novelty_at_10": [np.nan, 3.0]})
    assert standard_errors(values, 2) == {}
    assert set(standard_errors(values, 3)) == {"ndcg_at_10_standard_error"}
    assert sample_words(2, 2) is None
    assert sample_words(1000, 24858) == "1,000 of 24,858 users"
