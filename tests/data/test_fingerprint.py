"""A fingerprint is of rows and settings: the same for the same, another for any other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from pipeline.data.dataset import Dataset
from pipeline.data.protocols import Times, cut_moment
from pipeline.data.split_settings import SplitSettings
from pipeline.data.windows import window_of
from tests.conftest import make_items, make_ratings
from tests.data.tiny import METADATA, ROWS, RULES, frame, tiny


def shuffled(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    order: npt.NDArray[np.int64] = np.random.default_rng(seed).permutation(len(table))
    return table.iloc[order]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_the_order_of_the_file_changes_nothing(one: int, other: int) -> None:
    ratings = make_ratings(np.random.default_rng(0))
    items = make_items(ratings["item"])
    first = Dataset.from_ratings("a", ratings, items, SplitSettings())
    second = Dataset.from_ratings(
        "b", shuffled(ratings, one), shuffled(items, other), SplitSettings()
    )
    assert second.fingerprint == first.fingerprint
    assert_frame_equal(second.train, first.train)
    assert_frame_equal(second.later, first.later)


def test_the_fingerprint_is_sixteen_hex_digits(dataset: Dataset) -> None:
    assert len(dataset.fingerprint) == 16
    int(dataset.fingerprint, 16)


def test_fingerprints_stay_what_they_were() -> None:
    """They name prepared datasets and tag runs: a new one would orphan what is on record."""
    assert tiny().fingerprint == "df78be70f1742c09"
    text = frame(ROWS).astype({"user": "str", "item": "str"})
    text["item"] = 'é"' + text["item"]
    items = METADATA.assign(item='é"' + METADATA["item"].astype("str"))
    found = Dataset.from_ratings("text", text.assign(user="u" + text["user"]), items, RULES)
    assert found.fingerprint == "bd1a0fb8c9caf04a"


@pytest.mark.parametrize("row", [0, -1], ids=["training", "later"])
@pytest.mark.parametrize(
    ("column", "change"), [("rating", 0.5), ("timestamp", 1), ("item", 700), ("user", 3000)]
)
def test_any_changed_row_changes_the_fingerprint(
    column: str, change: float, row: int, ratings: pd.DataFrame, dataset: Dataset
) -> None:
    changed = ratings.copy()
    place = changed.columns.get_loc(column)
    changed.iloc[row, place] = changed.iloc[row, place] + change
    found = Dataset.from_ratings("small", changed, make_items(ratings["item"]), SplitSettings())
    assert found.fingerprint != dataset.fingerprint


@pytest.mark.parametrize(
    "change",
    [{"test_cut": 0.7999}, {"min_training": 4}, {"min_warm_training": 14}, {"min_held_out": 9}],
)
def test_any_changed_setting_changes_the_fingerprint(
    change: dict[str, Any], ratings: pd.DataFrame, dataset: Dataset
) -> None:
    found = Dataset.from_ratings(
        "small", ratings, make_items(ratings["item"]), SplitSettings(**change)
    )
    assert found.fingerprint != dataset.fingerprint


def test_changed_metadata_change_the_fingerprint(ratings: pd.DataFrame, dataset: Dataset) -> None:
    items = make_items(ratings["item"])
    items.loc[0, "title"] = "Another"
    found = Dataset.from_ratings("small", ratings, items, SplitSettings())
    assert found.fingerprint != dataset.fingerprint


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_what_comes_after_the_cut_changes_nothing_before_it(data: st.DataObject) -> None:
    ratings = make_ratings(np.random.default_rng(0))
    items = make_items(ratings["item"])
    first = Dataset.from_ratings("a", ratings, items, SplitSettings())
    late = ratings["timestamp"] > cut_moment(Times(ratings["timestamp"].to_numpy()), 0.8)
    n_late = int(late.sum())
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    changed = ratings.copy()
    changed.loc[late, "rating"] = rng.integers(1, 6, n_late).astype(np.float32)
    # Half of the late rows get another item; the warm users stay, so that the split exists.
    swapped = late & (rng.random(len(ratings)) < 0.5)
    changed.loc[swapped, "item"] = rng.permutation(changed.loc[swapped, "item"].to_numpy())
    changed.loc[late, "timestamp"] += data.draw(st.integers(1, 10**6))
    second = Dataset.from_ratings("b", changed, items, SplitSettings())
    assert second.fingerprint != first.fingerprint
    assert_frame_equal(second.train, first.train)
    assert_frame_equal(second.items, first.items)
    for quantile in (0.55, 0.85):
        assert window_of(second, quantile).fingerprint == window_of(first, quantile).fingerprint


def test_the_same_rows_split_by_time_and_as_given_are_not_the_same_dataset(
    ratings: pd.DataFrame, dataset: Dataset
) -> None:
    late = ratings["timestamp"] > dataset.train["timestamp"].max()
    metadata = make_items(ratings["item"])
    given_split = Dataset.from_existing_split(
        "small", ratings[~late], ratings[late], metadata, SplitSettings()
    )
    assert given_split.fingerprint != dataset.fingerprint


def test_the_name_is_not_in_the_fingerprint(dataset: Dataset) -> None:
    assert replace(dataset, name="another").fingerprint == dataset.fingerprint
