from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.protocols import Times, cut_moment
from pipeline.data.split_settings import SplitSettings
from pipeline.errors import UserError
from tests.data.ids import split_of

SMALL = SplitSettings(min_training=2, min_warm_training=4, min_held_out=2)


def table(rows: Iterable[tuple[str, int, int]]) -> pd.DataFrame:
    """Ratings from (user, item, timestamp)."""
    frame = pd.DataFrame(list(rows), columns=["user", "item", "timestamp"])
    return frame.assign(rating=np.float32(3))[["user", "item", "rating", "timestamp"]]


def time_split(
    ratings: pd.DataFrame, quantile: float, rules: SplitSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What trains, and what is later, of a cut at ``quantile``."""
    parts = split_of(ratings, rules.model_copy(update={"test_cut": quantile}))
    return parts.train, parts.later


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
    assert cut_moment(Times(np.array(timestamps, np.int64)), quantile) == moment


@given(
    st.lists(st.integers(0, 2**40), min_size=1, max_size=30, unique=True),
    st.integers(1, 99).map(lambda percent: percent / 100),
)
def test_the_quantile_is_that_of_pandas(timestamps: list[int], quantile: float) -> None:
    expected = pd.Series(timestamps).quantile(quantile, interpolation="nearest")
    assert cut_moment(Times(np.array(timestamps, np.int64)), quantile) == expected


@pytest.mark.parametrize(
    ("counts", "quantile", "moment"),
    [
        ([1, 3, 4, 2], 0.8, 3),  # as asked
        ([1, 3, 4, 2], 0.5, 2),  # 0.4 train, at or before the third it would be 0.8
        ([1, 3, 4, 2], 0.6, 3),  # both are as far: at or before the cut trains
        ([0, 3, 7], 0.8, 2),  # something has to come later
        ([0, 7, 3], 0.2, 2),  # and something earlier
        ([0, 0, 5], 0.5, 3),  # there is no other
    ],
)
def test_a_moment_that_many_rows_share(counts: list[int], quantile: float, moment: int) -> None:
    """``counts`` rows at the moments 1, 2, ..."""
    timestamps = np.repeat(np.arange(1, len(counts) + 1), counts)
    assert cut_moment(Times(timestamps), quantile) == moment


def test_a_few_rows_more_at_the_moment_of_the_cut_change_nothing() -> None:
    timestamps = np.concatenate([np.arange(79), np.full(3, 79), np.arange(80, 98)])
    assert cut_moment(Times(timestamps), 0.8) == 79  # 82 of 100, though 79 would be nearer


def test_all_rows_at_the_cut_train() -> None:
    early = [("a", item, 10) for item in range(4)]
    at_cut = [("a", item, 20) for item in range(4, 8)]
    others = [("b", 8, 5), ("b", 9, 5)]
    late = [("a", 8, 21), ("a", 9, 22)]
    # Position 0.7 x 11 = 7.7 is within the four rows at 20.
    train, later = time_split(table([*late, *at_cut, *early, *others]), 0.7, SMALL)
    assert sorted(train["timestamp"]) == [5] * 2 + [10] * 4 + [20] * 4
    assert sorted(later["timestamp"]) == [21, 22]
    assert segment_of(later, "a") == {"warm"}


def test_users_with_too_little_training_are_dropped_from_training() -> None:
    ratings = story({"a": range(4), "b": [4, 5], "c": [0]}, {"a": [4, 5]})
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
    early = {"a": range(4), "u": range(n_early), "b": [4, 5]}
    ratings = story(early, {"a": [4, 5], "u": range(4, 4 + n_late)})
    _, later = time_split(ratings, 0.5, SMALL)
    assert segment_of(later, "a") == {"warm"}
    assert segment_of(later, "u") == {segment}


def test_rows_of_items_outside_the_catalogue_do_not_count() -> None:
    # c is dropped, and 99 with it; e lets 1 and 2 train.
    early = {"a": [3, 4, 5, 6], "b": [3, 4, 5, 6], "c": [99], "e": [1, 2]}
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
    ratings = story({"a": range(4), "b": [4, 5]}, {"a": [4, 5]})
    _, later = time_split(ratings.assign(rating=np.float32(0.5)), 0.5, SMALL)
    assert segment_of(later, "a") == {"warm"}


def test_nobody_left_to_evaluate() -> None:
    ratings = story({"a": range(3), "b": [3, 4]}, {"a": [3, 4]})
    with pytest.raises(UserError) as caught:
        time_split(ratings, 0.5, SMALL)
    message = str(caught.value)
    assert "made: the split time-0.5-2-4-2 leaves 5 training rows" in message
    assert "at least 4 training and 2 held-out interactions" in message
    assert message.endswith("min_warm_training=2 would give 1 test users.")


def test_nobody_left_to_train() -> None:
    with pytest.raises(UserError, match="leaves 0 training rows"):
        time_split(table([("a", 1, 1), ("b", 1, 2), ("b", 2, 3)]), 0.5, SMALL)


def test_warm_users_train_whatever_the_settings() -> None:
    crossed = SplitSettings(min_training=3, min_warm_training=2, min_held_out=2)
    ratings = story({"a": range(4), "b": [6, 7], "c": [4, 5, 8]}, {"a": [4, 5], "b": [2, 3]})
    train, later = time_split(ratings, 0.5, crossed)
    assert set(later.loc[later["segment"] == "warm", "user"]) <= set(train["user"])


ROWS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 7), st.integers(0, 20)),
    min_size=5,
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(ROWS, st.sampled_from([0.3, 0.5, 0.8]), st.integers(1, 3), st.integers(0, 2))
def test_time_runs_one_way(
    rows: list[tuple[str, int, int]], quantile: float, min_training: int, more: int
) -> None:
    others = [("v", item, 0) for item in (8, 9, 10)]
    early_w = [("w", item, 0) for item in range(5)]
    ratings = table([*others, *early_w, *rows, ("w", 8, 21), ("w", 9, 21)])
    rules = SplitSettings(
        min_training=min_training, min_warm_training=min_training + more, min_held_out=2
    )
    train, later = time_split(ratings, quantile, rules)
    moment = cut_moment(Times(ratings["timestamp"].to_numpy()), quantile)
    assert train["timestamp"].max() <= moment < later["timestamp"].min()
    # Nothing is lost but what a later row of the same part repeats, and the early rows of users
    # with too few of them; rows keep their order.
    is_early = ratings["timestamp"] <= moment
    early, late = latest(ratings[is_early]), latest(ratings[~is_early])
    active = early.groupby("user").filter(lambda mine: len(mine) >= min_training)
    for found, expected in ((train, active), (later.drop(columns="segment"), late)):
        pd.testing.assert_frame_equal(found, expected.reset_index(drop=True))
    # And the segments are what their docstring says, user by user.
    for user, mine in later.groupby("user"):
        before = early.loc[early["user"] == user, "item"]
        again = mine["item"].isin(before)
        known = mine["item"].isin(train["item"]) & ~again
        name = "cold" if before.empty else "low_activity"
        name = "warm" if len(before) >= rules.min_warm_training else name
        left_out = np.where(again, "repeat", "unused")
        expected = np.where(known & (known.sum() >= 2), name, left_out)
        assert list(mine["segment"]) == list(expected)


def latest(ratings: pd.DataFrame) -> pd.DataFrame:
    """One row per user and item, the last of the latest, in the order of the rows."""
    ordered = ratings.sort_values("timestamp", kind="stable")
    return ordered.drop_duplicates(["user", "item"], keep="last").sort_index()


def test_each_part_is_deduplicated_for_itself() -> None:
    early = [("a", item, 10 + item) for item in range(4)] + [("b", 8, 5), ("b", 9, 5)]
    again = [("a", 0, 1), ("a", 1, 11)]  # earlier, and a tie: the last row of the file stays
    late = [("a", 8, 21), ("a", 9, 22), ("a", 8, 23), ("a", 3, 24)]
    ratings = table([*early, *again, *late]).assign(rating=np.arange(12, dtype=np.float32))
    parts = split_of(ratings, SMALL.model_copy(update={"test_cut": 0.65}))
    mine = parts.train[parts.train["user"] == "a"]
    assert dict(zip(mine["item"], mine["rating"], strict=True)) == {0: 0, 1: 7, 2: 2, 3: 3}
    assert sorted(parts.superseded["rating"]) == [1, 6]
    assert list(zip(parts.later["rating"], parts.later["segment"], strict=True)) == [
        (9, "warm"), (10, "warm"), (11, "repeat"),
    ]  # fmt: skip
    assert parts.counts == {"duplicates_dropped": 3, "repeats_left_out": 1}


def test_repeats_may_be_kept() -> None:
    early = [("a", item, 10 + item) for item in range(4)]
    late = [("a", 0, 21), ("a", 1, 22)]
    keep = SMALL.model_copy(update={"test_cut": 0.6, "repeats": "keep"})
    parts = split_of(table([*early, *late]), keep)
    assert list(parts.later["segment"]) == ["warm", "warm"]
    assert parts.counts["repeats_left_out"] == 0
    drop = keep.model_copy(update={"repeats": "drop"})
    with pytest.raises(UserError, match=r"2 held-out rows repeat .* --repeats keep"):
        split_of(table([*early, *late]), drop)
