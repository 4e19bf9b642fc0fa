"""Validation windows: where they lie, whom they evaluate, and those that cannot be had."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.data.dataset import Dataset
from pipeline.data.protocols import Times, cut_moment
from pipeline.data.split_settings import SplitSettings
from pipeline.data.windows import possible_windows, window_of, windows_of
from pipeline.errors import UserError
from tests.conftest import make_items


def test_windows_lie_inside_training_and_are_named(dataset: Dataset) -> None:
    end = dataset.train["timestamp"].max()
    cuts = []
    for quantile in (0.4, 0.55, 0.7, 0.85):
        window = window_of(dataset, quantile)
        assert window.name == f"small/window-{quantile:g}"
        assert window.later["timestamp"].max() <= end
        moment = cut_moment(Times(dataset.train["timestamp"].to_numpy()), quantile)
        assert window.train["timestamp"].max() <= moment < window.later["timestamp"].min()
        assert len(window.later) == (dataset.train["timestamp"] > moment).sum()
        assert set(window.users["user"]) <= set(dataset.users["user"])
        assert set(window.items["item"]) <= set(dataset.items["item"])
        cuts.append(window.train["timestamp"].max())
    assert cuts == sorted(set(cuts))
    assert window_of(dataset, 0.4).fingerprint != window_of(dataset, 0.55).fingerprint


def test_windows_that_cannot_be_had_are_left_out_with_the_reason(ratings: pd.DataFrame) -> None:
    fifth = ratings["timestamp"].rank(pct=True).mul(5).astype(int)  # six moments in all
    coarse = ratings.assign(timestamp=fifth)
    items = make_items(ratings["item"])
    dataset = Dataset.from_ratings("coarse", coarse, items, SplitSettings())
    made, why = possible_windows(dataset, (0.4, 0.42, 0.7))
    assert list(made) == [0.4, 0.7]
    assert why.endswith("the window 0.42 is the same as another and is left out.")
    fine = Dataset.from_ratings("fine", ratings, items, SplitSettings(min_held_out=9))
    made, why = possible_windows(fine, (0.7, 0.9999))
    assert list(made) == [0.7]
    assert why.startswith("fine/window-0.9999: the split")
    with pytest.raises(UserError, match=r"fine/window-0\.9999"):
        possible_windows(fine, (0.9999,))


def test_windows_beside_a_given_split_evaluate_users_like_those_of_its_test(
    ratings: pd.DataFrame,
) -> None:
    late = ratings["timestamp"] > ratings["timestamp"].quantile(0.8)
    few = ratings[late].groupby("user").head(3)  # nobody has the 10 that a split in time asks for
    given_split = Dataset.from_existing_split(
        "few", ratings[~late], few, make_items(ratings["item"]), SplitSettings()
    )
    window = window_of(given_split, 0.7)
    held_out = np.diff(given_split.held_out.indptr)
    assert np.diff(window.held_out.indptr).min() == held_out.min() < SplitSettings().min_held_out
    least = given_split.activity[given_split.test_users].min()
    assert window.activity[window.test_users].min() >= min(least, SplitSettings().min_warm_training)
    assert window.split.min_training == SplitSettings().min_training


def test_windows_that_are_the_same_are_refused(ratings: pd.DataFrame) -> None:
    coarse = ratings.assign(timestamp=ratings["timestamp"].rank(pct=True).mul(5).astype("int64"))
    items = make_items(ratings["item"])
    data = Dataset.from_ratings("small", coarse, items, SplitSettings(min_held_out=1))
    with pytest.raises(UserError, match=r"of the windows 0.2,0.3,0.7 some are the same") as caught:
        windows_of(data, (0.2, 0.3, 0.7))
    assert "too many rows share a moment. Give --protocol random, or --windows=" in str(
        caught.value
    )
    assert list(windows_of(data, (0.2, 0.7))) == [0.2, 0.7]
