from __future__ import annotations

from typing import get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from pipeline.data.dataset import Dataset
from pipeline.data.raw.numbering import sort
from pipeline.data.sizes import statistics
from pipeline.data.split_settings import SplitSettings
from pipeline.data.values import Values
from pipeline.data.windows import window_of
from pipeline.errors import UserError
from tests.conftest import make_items, make_ratings
from tests.data.tiny import METADATA, frame, tiny


def test_users_and_items_are_numbered_in_the_order_of_their_ids() -> None:
    data = tiny()
    assert list(data.users["user"]) == [5, 7, 3, 4, 9]  # those that train, then the others
    assert list(data.items["item"]) == [10, 20, 30, 50, 60]
    assert (data.n_users, data.n_items) == (2, 5)


def test_rows_are_sorted_and_typed() -> None:
    data = tiny()
    expected = pd.DataFrame(
        {
            "user": np.array([0, 0, 0, 1, 1, 1, 1, 1], np.int32),
            "item": np.array([0, 1, 2, 0, 1, 2, 3, 4], np.int32),
            "rating": np.array([4, 1, 2, 5, 3, 4, 5, 3], np.float32),
            "timestamp": np.array([1016, 1013, 1012, 1010, 1011, 1009, 1015, 1017], np.int64),
        }
    )
    assert_frame_equal(data.train, expected)


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 4)] * 4), min_size=1, max_size=60))
def test_rows_that_share_user_and_item_are_in_the_order_of_time_and_rating(
    rows: list[tuple[int, int, int, int]],
) -> None:
    """Items outside the catalogue share the index -1, so pairs repeat in ``later``."""
    held_out = frame(rows)
    train = frame([(user, item, 3, 0) for user in range(3) for item in range(2)])
    data = Dataset.from_existing_split("given", train, held_out, METADATA, SplitSettings())
    order = ["user", "item", "timestamp", "rating"]
    assert_frame_equal(data.later, data.later.sort_values(order, ignore_index=True))
    latest = held_out.sort_values("timestamp", kind="stable")
    latest = latest.drop_duplicates(["user", "item"], keep="last")
    assert sorted(data.later["timestamp"]) == sorted(latest["timestamp"])


def test_later_rows_keep_what_is_outside_the_catalogue() -> None:
    later = tiny().later
    assert list(zip(later["user"], later["item"], later["segment"], strict=True)) == [
        (0, -1, "unused"),
        (0, 3, "warm"),
        (0, 4, "warm"),
        (1, -1, "unused"),
        (2, 0, "cold"),
        (2, 1, "cold"),
        (3, 0, "unused"),
        (4, 0, "unused"),
    ]


def test_metadata_of_the_catalogue_the_first_row_of_an_item_counts() -> None:
    items = tiny().items
    assert list(items["title"]) == ["Ten", "Twenty", "", "", ""]
    assert list(items["genres"]) == ["Comedy|War", "Drama", "", "", ""]


def test_matrices() -> None:
    data = tiny()
    assert data.train_matrix().toarray().tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert data.train_matrix("ratings").toarray().tolist() == [[4, 1, 2, 0, 0], [5, 3, 4, 5, 3]]
    assert data.train_matrix("ratings").dtype == np.float32
    assert (data.seen != data.train_matrix()).nnz == 0
    assert data.popularity.tolist() == [2, 2, 2, 1, 1]


def test_values_of_the_matrix() -> None:
    data = tiny()
    assert data.values_taken == "ratings"
    assert data.values_explained.startswith("ratings range from 1 to 5")
    assert (data.train_matrix("auto") != data.train_matrix("ratings")).nnz == 0
    assert data.train_matrix("positive").toarray().tolist() == [[1, 0, 0, 0, 0], [1, 0, 1, 1, 0]]
    assert data.train_matrix("positive").nnz == 4
    assert data.train_matrix("positive", 3).toarray().tolist() == [[1, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
    assert data.distinct_values() == ("binary", "ratings", "log", "centred", "positive")


@pytest.mark.parametrize("values", get_args(Values))
def test_gram(values: Values) -> None:
    data = tiny()
    matrix = data.train_matrix(values).toarray()
    np.testing.assert_allclose(data.gram(values), matrix.T @ matrix, rtol=1e-6)
    assert data.gram(values).dtype == np.float32


def test_a_gram_is_made_once_and_not_written_to() -> None:
    data = tiny()
    gram = data.gram("ratings")
    assert data.gram("ratings") is gram
    assert data.gram("auto") is gram
    assert data.gram() is not gram
    with pytest.raises(ValueError, match="read-only"):
        gram[0, 0] = 1


def test_what_is_evaluated() -> None:
    data = tiny()
    assert data.test_users.tolist() == [0]
    assert data.test_users.dtype == np.int32
    assert data.held_out.toarray().tolist() == [[0, 0, 0, 1, 1]]
    assert set(data.test["segment"]) == {"warm"}


def test_the_rows_of_held_out_are_those_of_test_users(dataset: Dataset) -> None:
    assert dataset.held_out.shape == (len(dataset.test_users), dataset.n_items)
    assert dataset.held_out.nnz == len(dataset.test)
    assert dataset.test_users.max() < dataset.n_users
    for place, user in enumerate(dataset.test_users):
        mine = dataset.test.loc[dataset.test["user"] == user, "item"]
        assert dataset.held_out[[place]].indices.tolist() == sorted(mine)


def test_statistics() -> None:
    assert statistics(tiny()) == {
        "train_interactions": 8,
        "train_users": 2,
        "catalogue_items": 5,
        "density": 8 / 10,
        "test_interactions": 2,
        "test_users": 1,
        "train_from": "1970-01-01T00:16:49+00:00",
        "train_until": "1970-01-01T00:16:57+00:00",
        "later_until": "1970-01-01T00:17:07+00:00",
        "warm_interactions": 2,
        "warm_users": 1,
        "cold_interactions": 2,
        "cold_users": 1,
        "unused_interactions": 4,
        "unused_users": 4,
    }


def test_ids_may_be_text(ratings: pd.DataFrame, dataset: Dataset) -> None:
    text = ratings.assign(
        user=ratings["user"].map("u{:05d}".format).astype("str"),
        item=ratings["item"].map("i{:05d}".format).astype("str"),
    )
    items = make_items(ratings["item"])
    items = items.assign(item=items["item"].map("i{:05d}".format).astype("str"))
    found = Dataset.from_ratings("text", text, items, SplitSettings())
    assert_frame_equal(found.train, dataset.train)
    assert_frame_equal(found.later, dataset.later)
    assert_frame_equal(found.items.drop(columns="item"), dataset.items.drop(columns="item"))
    assert found.users["user"].iloc[0] == f"u{dataset.users['user'].iloc[0]:05d}"


def test_a_window_by_hand() -> None:
    """Now 9 trains, and the fifth of the nine training moments is 1013."""
    data = tiny(min_training=1, min_warm_training=2, min_held_out=1)
    window = window_of(data, 0.5)
    assert list(window.users["user"]) == [5, 7, 9]
    assert list(window.items["item"]) == [10, 20, 30]
    assert list(window.items["title"]) == ["Ten", "Twenty", ""]
    assert window.train_matrix("ratings").toarray().tolist() == [[0, 1, 2], [5, 3, 4]]
    later = window.later
    assert list(zip(later["user"], later["item"], later["segment"], strict=True)) == [
        (0, 0, "warm"),
        (1, -1, "unused"),
        (1, -1, "unused"),
        (2, -1, "unused"),
    ]
    assert list(later["timestamp"]) == [1016, 1015, 1017, 1014]
    assert window.held_out.toarray().tolist() == [[1, 0, 0]]
    assert window.split == data.split


def test_an_existing_split_is_taken_as_it_is() -> None:
    train = frame([(1, 10, 5, 9), (2, 20, 4, 8), (2, 10, 3, 7)])
    held_out = frame([(2, 30, 5, 1), (1, 20, 2, 2), (3, 10, 1, 3)])  # however early, or few
    data = Dataset.from_existing_split("given", train, held_out, METADATA, SplitSettings())
    assert data.train_matrix("ratings").toarray().tolist() == [[5, 0], [3, 4]]
    later = data.later
    assert list(zip(later["user"], later["item"], later["segment"], strict=True)) == [
        (0, 1, "warm"),
        (1, -1, "unused"),
        (2, 0, "cold"),
    ]
    assert data.test_users.tolist() == [0]
    assert data.held_out.toarray().tolist() == [[0, 1]]


def test_where_nobody_has_what_is_asked_for_by_default_fewer_are_enough() -> None:
    rows = make_ratings(np.random.default_rng(4), 300, 60, interactions=9)
    items = make_items(rows["item"])
    dataset = Dataset.from_ratings("sparse", rows, items, SplitSettings())
    rules = dataset.split
    assert (rules.min_training, rules.test_cut) == (5, 0.8)
    assert rules.least_training <= 7
    assert rules.least_held_out <= 5
    assert dataset.protocol == rules.word != SplitSettings(protocol="time").word
    (note,) = [each for each in dataset.notes.values() if "nobody has 15 training" in each]
    assert f"the {len(dataset.test_users):,} users with {rules.least_training} and" in note
    assert len(window_of(dataset, 0.7).test_users) > 0
    asked = SplitSettings(min_held_out=9)  # who asks for something gets that, or an error
    with pytest.raises(UserError, match="--min_held_out"):
        Dataset.from_ratings("sparse", rows, items, asked)


@pytest.mark.parity
def test_the_notebooks_split_of_movielens(ml_1m: Dataset) -> None:
    assert ml_1m.fingerprint == "2a815320d2d896f6"
    found = statistics(ml_1m)
    assert found["train_interactions"] == 800_142
    assert found["train_users"] == 5_392
    assert found["catalogue_items"] == 3_662
    assert found["train_until"] == "2000-12-02T14:52:18+00:00"
    assert found["test_interactions"] == found["warm_interactions"] == 94_842
    assert found["test_users"] == found["warm_users"] == 836
    assert (found["cold_users"], found["cold_interactions"]) == (640, 95_478)
    assert (found["low_activity_users"], found["low_activity_interactions"]) == (77, 8_609)


@pytest.mark.parity
def test_the_notebooks_validation_window_of_movielens(ml_1m: Dataset) -> None:
    found = statistics(window_of(ml_1m, 0.85))
    assert found["train_interactions"] == pytest.approx(680_108, abs=5)
    assert found["train_users"] == 4_748
    assert found["test_interactions"] == pytest.approx(26_076, abs=5)
    assert found["test_users"] == 211


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**62), max_size=50), st.integers(0, 60))
def test_numbers_are_sorted_stably_whether_or_not_they_share_bits(
    numbers: list[int], shift: int
) -> None:
    values = np.array(numbers, np.int64) >> shift
    ordered, order = sort(values)
    np.testing.assert_array_equal(order, np.argsort(values, kind="stable"))
    np.testing.assert_array_equal(ordered, values[order])
