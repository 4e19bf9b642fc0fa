from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.split import SplitSettings, cut_moment, time_split
from pipeline.errors import UserError

SMALL = SplitSettings(min_training=2, min_warm_training=4, min_held_out=2)


def table(rows: Iterable[tuple[str, int, int]]) -> pd.DataFrame:
    """Ratings from (user, item, timestamp)."""
    frame = pd.DataFrame(list(rows), columns=["user", "item", "timestamp"])
    return frame.assign(rating=np.float32(3))[["user", "item", "rating", "timestamp"]]


def story(early: dict[str, Iterable[int]], late: dict[str, Iterable[int]]) -> pd.DataFrame:
    """Items per user before the cut and after it; the filler ``z`` puts the median between them.

    Early rows are at 1, ..., n, late rows at 1001, ..., n, so quantile 0.5 of the whole is the
    last early moment.
    """
    before = [(user, item) for user, items in early.items() for item in items]
    after = [(user, item) for user, items in late.items() for item in items]
    lacking = len(before) - len(after)
    filler = [("z", 1000 + number) for number in range(abs(lacking))]
    before, after = (before, after + filler) if lacking > 0 else (before + filler, after)
    rows = [(*pair, moment) for moment, pair in enumerate(before, 1)]
    rows += [(*pair, 1000 + moment) for moment, pair in enumerate(after, 1)]
    return table([("z", 2000, 0), *rows])


def segment_of(later: pd.DataFrame, user: str) -> set[str]:
    return set(later.loc[later["user"] == user, "segment"])


@pytest.mark.parametrize(
    ("timestamps", "quantile", "moment"),
    [
        ([10, 20, 30, 40, 50], 0.8, 40),  # position 3.2
        ([10, 20, 30, 40, 50], 0.9, 50),  # position 3.6
        ([10, 20, 30, 40, 50], 0.1, 10),  # position 0.4
        ([50, 10, 40, 20, 30], 0.8, 40),
        ([7], 0.5, 7),
        ([5, 5, 5, 9], 0.5, 5),
    ],
)
def test_the_nearest_quantile(timestamps: list[int], quantile: float, moment: int) -> None:
    assert cut_moment(np.array(timestamps, np.int64), quantile) == moment


@given(
    st.lists(st.integers(0, 2**40), min_size=1, max_size=30),
    st.integers(1, 99).map(lambda percent: percent / 100),
)
def test_the_quantile_is_that_of_pandas(timestamps: list[int], quantile: float) -> None:
    expected = pd.Series(timestamps).quantile(quantile, interpolation="nearest")
    assert cut_moment(np.array(timestamps, np.int64), quantile) == expected


def test_all_rows_at_the_cut_train() -> None:
    early = [("a", item, 10) for item in range(4)]
    at_cut = [("a", item, 20) for item in range(4, 8)]
    late = [("a", 0, 21), ("a", 1, 22)]
    # Position 0.6 x 9 = 5.4 is within the four rows at 20.
    train, later = time_split(table([*late, *at_cut, *early]), 0.6, SMALL)
    assert sorted(train["timestamp"]) == [10] * 4 + [20] * 4
    assert sorted(later["timestamp"]) == [21, 22]
    assert segment_of(later, "a") == {"warm"}


def test_users_with_too_little_training_are_dropped_from_training() -> None:
    ratings = story({"a": range(4), "b": range(2), "c": [0]}, {"a": [1, 2]})
    train, _ = time_split(ratings, 0.5, SMALL)
    assert set(train["user"]) == {"a", "b"}
    assert list(train.columns) == ["user", "item", "rating", "timestamp"]


@pytest.mark.parametrize(
    ("n_early", "n_late", "segment"),
    [
        (4, 2, "warm"),
        (4, 1, "unused"),
        (3, 2, "low_activity"),
        (3, 1, "unused"),
        (2, 2, "low_activity"),
        (1, 2, "low_activity"),  # not in training, but not new either
        (1, 1, "unused"),
        (0, 2, "cold"),
        (0, 1, "unused"),
    ],
)
def test_each_segment_at_its_boundary(n_early: int, n_late: int, segment: str) -> None:
    early = {"a": range(4), "u": range(n_early)}
    ratings = story(early, {"a": [0, 1], "u": range(n_late)})
    _, later = time_split(ratings, 0.5, SMALL)
    assert segment_of(later, "a") == {"warm"}
    assert segment_of(later, "u") == {segment}


def test_rows_of_items_outside_the_catalogue_do_not_count() -> None:
    early = {"a": [1, 2, 3, 4], "b": [1, 2, 3, 4], "c": [99]}  # c is dropped, and 99 with it
    late = {"a": [1, 2, 77, 99], "b": [1, 77, 99], "d": [1, 2, 77]}
    train, later = time_split(story(early, late), 0.5, SMALL)
    assert not train["item"].isin([77, 99]).any()
    segments = later.set_index(["user", "item"])["segment"].to_dict()
    assert {key: value for key, value in segments.items() if key[0] != "z"} == {
        ("a", 1): "warm",
        ("a", 2): "warm",
        ("a", 77): "unused",
        ("a", 99): "unused",
        ("b", 1): "unused",
        ("b", 77): "unused",
        ("b", 99): "unused",
        ("d", 1): "cold",
        ("d", 2): "cold",
        ("d", 77): "unused",
    }


def test_the_rating_is_no_matter() -> None:
    ratings = story({"a": range(4)}, {"a": [0, 1]})
    _, later = time_split(ratings.assign(rating=np.float32(0.5)), 0.5, SMALL)
    assert segment_of(later, "a") == {"warm"}


def test_nobody_left_to_evaluate() -> None:
    ratings = story({"a": range(3)}, {"a": [0, 1]})
    with pytest.raises(UserError) as caught:
        time_split(ratings, 0.5, SMALL)
    message = str(caught.value)
    assert "quantile 0.5 leaves 3 training rows" in message
    assert "at least 4 training and 2 held-out interactions" in message
    assert "lower min_warm_training and min_held_out" in message


def test_nobody_left_to_train() -> None:
    with pytest.raises(UserError, match="leaves 0 training rows"):
        time_split(table([("a", 1, 1), ("b", 1, 2), ("b", 2, 3)]), 0.5, SMALL)


def test_warm_users_train_whatever_the_settings() -> None:
    crossed = SplitSettings(min_training=3, min_warm_training=2, min_held_out=2)
    ratings = story({"a": range(4), "b": range(2)}, {"a": [0, 1], "b": [2, 3]})
    train, later = time_split(ratings, 0.5, crossed)
    assert set(later.loc[later["segment"] == "warm", "user"]) <= set(train["user"])


ROWS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 7), st.integers(0, 20)),
    min_size=5,
    max_size=60,
)


@settings(max_examples=200)
@given(ROWS, st.sampled_from([0.3, 0.5, 0.8]), st.integers(1, 3), st.integers(0, 2))
def test_time_runs_one_way(
    rows: list[tuple[str, int, int]], quantile: float, min_training: int, more: int
) -> None:
    somebody_warm = [("w", item, 0) for item in range(5)] + [("w", item, 21) for item in (0, 1)]
    ratings = table([*somebody_warm[:5], *rows, *somebody_warm[5:]])
    rules = SplitSettings(
        min_training=min_training, min_warm_training=min_training + more, min_held_out=2
    )
    train, later = time_split(ratings, quantile, rules)
    moment = cut_moment(ratings["timestamp"].to_numpy(), quantile)
    assert train["timestamp"].max() <= moment < later["timestamp"].min()
    # Nothing is lost but the early rows of users with too few of them, and rows keep their order.
    is_early = ratings["timestamp"] <= moment
    early = ratings[is_early]
    active = early.groupby("user").filter(lambda mine: len(mine) >= min_training)
    for found, expected in ((train, active), (later.drop(columns="segment"), ratings[~is_early])):
        pd.testing.assert_frame_equal(found, expected.reset_index(drop=True))
    # And the segments are what their docstring says, user by user.
    for user, mine in later.groupby("user"):
        before = int((early["user"] == user).sum())
        known = mine["item"].isin(train["item"])
        enough = known.sum() >= 2
        name = "cold" if before == 0 else "low_activity"
        name = "warm" if before >= rules.min_warm_training else name
        expected = np.where(known & enough, name, "unused")
        assert list(mine["segment"]) == list(expected)
