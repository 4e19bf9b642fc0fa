"""What the protocols without a cut hold out, whatever the order of the rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.dataset import Dataset
from pipeline.data.protocols import share_of_each
from pipeline.data.split_settings import SplitSettings
from pipeline.data.windows import window_of, windows_of
from pipeline.errors import UserError
from tests.conftest import make_items, make_ratings
from tests.data.ids import split_of

RANDOM = SplitSettings(protocol="random", min_held_out=2)
ONE_OUT = SplitSettings(protocol="leave_one_out")


def without_times(ratings: pd.DataFrame) -> pd.DataFrame:
    return ratings.assign(timestamp=np.int64(0))


def of(ratings: pd.DataFrame, rules: SplitSettings) -> Dataset:
    return Dataset.from_ratings("small", ratings, make_items(ratings["item"]), rules)


def held_out_pairs(data: Dataset) -> set[tuple[int, int]]:
    users = data.users["user"].to_numpy()[data.test["user"]]
    items = data.items["item"].to_numpy()[data.test["item"]]
    return set(zip(users.tolist(), items.tolist(), strict=True))


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=60),
    st.sampled_from([0.1, 0.2, 0.5, 0.9]),
    st.integers(0, 99),
)
def test_a_share_of_each_user_and_never_all(users: list[int], share: float, seed: int) -> None:
    user = np.sort(np.array(users))
    drawn = share_of_each(user, np.arange(len(user)), share, np.random.default_rng(seed))
    for one in set(users):
        n = users.count(one)
        assert drawn[user == one].sum() == min(int(n * share + 0.5), n - 1)


def test_every_row_is_drawn_as_often_as_any_other() -> None:
    user = np.repeat(np.arange(2000), 5)
    drawn = share_of_each(user, np.arange(len(user)), 0.2, np.random.default_rng(0))
    assert drawn.reshape(-1, 5).mean(0) == pytest.approx([0.2] * 5, abs=0.03)


@pytest.mark.parametrize("rules", [RANDOM, ONE_OUT])
def test_the_order_of_the_file_draws_nothing_else(
    rules: SplitSettings, ratings: pd.DataFrame
) -> None:
    rows = without_times(ratings)
    first = of(rows, rules)
    assert of(rows.sample(frac=1, random_state=1), rules).fingerprint == first.fingerprint
    other = of(rows, rules.model_copy(update={"split_seed": 1}))
    assert held_out_pairs(other) != held_out_pairs(first)
    assert other.fingerprint != first.fingerprint


def test_random_holds_out_of_each_user_what_was_asked(ratings: pd.DataFrame) -> None:
    data = of(ratings, RANDOM)
    assert len(data.later) / len(ratings) == pytest.approx(0.2, abs=0.01)
    assert set(data.later["segment"]) <= {"warm", "low_activity", "unused"}  # nobody is cold
    assert data.protocol == "random-0.8-5-15-2"
    assert "knows the future" in data.notes["protocol_note"]
    assert "Meng" in data.notes["protocol_note"]


def test_leave_one_out_holds_out_the_latest(ratings: pd.DataFrame) -> None:
    data = of(ratings, ONE_OUT)
    rows = pd.concat([data.train, data.later])
    latest = rows.groupby("user")["timestamp"].max()
    assert (data.later.groupby("user").size() == 1).all()
    assert (data.later.set_index("user")["timestamp"] == latest[data.later["user"]]).all()
    assert data.protocol == "leave-one-out-5-15"
    assert data.held_out.nnz == len(data.test_users)  # though min_held_out is 10


def test_who_has_one_interaction_keeps_it() -> None:
    rows = [(user, item, 1.0, 0) for user in "acde" for item in range(6)] + [("b", 1, 1.0, 0)]
    table = pd.DataFrame(rows, columns=["user", "item", "rating", "timestamp"])
    rules = SplitSettings(protocol="leave_one_out", min_training=1, min_warm_training=1)
    parts = split_of(table, rules)
    assert sorted(parts.later["user"]) == list("acde")
    assert "b" in set(parts.train["user"])


@pytest.mark.parametrize("rules", [RANDOM, ONE_OUT])
def test_windows_are_the_same_split_drawn_again_inside_training(
    rules: SplitSettings, ratings: pd.DataFrame
) -> None:
    data = of(ratings, rules)
    windows = [window_of(data, quantile) for quantile in (0.7, 0.85)]
    assert held_out_pairs(windows[0]) != held_out_pairs(windows[1])
    for window in windows:
        inside = pd.concat([window.train, window.later])
        assert len(inside) <= len(data.train)
        assert not held_out_pairs(window) & held_out_pairs(data)
    share = 0.2 if rules is RANDOM else 0.5 * data.n_users / len(data.train)
    assert len(windows[0].later) / len(data.train) == pytest.approx(share, rel=0.15)


def test_who_is_evaluated_in_the_test_is_in_drawn_windows() -> None:
    """Of 50 interactions each, 10 are held out, and of the other 40 a window holds out 8."""
    rows = [(user, (7 * user + place) % 60, 1.0, 0) for user in range(40) for place in range(50)]
    table = pd.DataFrame(rows, columns=["user", "item", "rating", "timestamp"])
    data = of(table, SplitSettings(protocol="random"))
    assert len(data.test_users) == 40
    assert len(window_of(data, 0.85).test_users) == 40


def test_a_window_does_not_know_the_test() -> None:
    """Whatever the held-out rows are, the windows of the same training part are the same."""
    ratings = without_times(make_ratings(np.random.default_rng(0)))
    data = of(ratings, RANDOM)
    others = data.later.assign(rating=np.float32(1))
    again = Dataset(
        data.name, data.split, data.protocol, data.users, data.items, data.train, others
    )
    assert again.fingerprint != data.fingerprint
    assert window_of(again, 0.85).fingerprint == window_of(data, 0.85).fingerprint


def test_what_comes_again_is_drawn_as_one_unless_it_is_kept(ratings: pd.DataFrame) -> None:
    twice = pd.concat([ratings, ratings.assign(timestamp=ratings["timestamp"] + 1)])
    dropped = split_of(twice, RANDOM)
    assert dropped.counts == {"duplicates_dropped": len(ratings), "repeats_left_out": 0}
    kept = split_of(twice, RANDOM.model_copy(update={"repeats": "keep"}))
    both = kept.later.merge(kept.train, on=["user", "item"])
    assert len(both) > len(kept.later) / 2


def test_without_times_there_is_no_split_in_time(ratings: pd.DataFrame) -> None:
    with pytest.raises(UserError) as caught:
        of(without_times(ratings), SplitSettings(protocol="time"))
    message = str(caught.value)
    assert "small has no times, or one for all rows: a split in time cannot be made" in message
    assert "--protocol random (per user, a share held out)" in message
    assert "--protocol leave_one_out" in message
    assert "know the future" in message


def test_what_is_not_said_follows_the_data(ratings: pd.DataFrame) -> None:
    """Times are heeded where there are some; all of it is then as if it had been said."""
    timed = of(ratings, SplitSettings())
    assert timed.protocol == "time-0.8-5-15-10"
    assert timed.notes == {}
    assert timed.fingerprint == of(ratings, SplitSettings(protocol="time")).fingerprint
    untimed = of(without_times(ratings), SplitSettings(min_held_out=2))
    assert untimed.protocol == "random-0.8-5-15-2"
    assert untimed.notes["cut_note"] == (
        "small has no times, or one for all rows: what is held out is drawn at random, per user "
        "(protocol random)."
    )
    assert "knows the future" in untimed.notes["protocol_note"]
    said = of(without_times(ratings), RANDOM)
    assert "cut_note" not in said.notes
    assert untimed.fingerprint == said.fingerprint
    assert window_of(untimed, 0.7).fingerprint == window_of(said, 0.7).fingerprint


def test_windows_of_a_given_split_without_times_are_drawn(ratings: pd.DataFrame) -> None:
    """Whether the split itself knows the future nobody can say, so nothing is said of it."""
    late = ratings["timestamp"] > ratings["timestamp"].quantile(0.8)
    parts = (without_times(ratings[~late]), without_times(ratings[late]))
    items = make_items(ratings["item"])
    data = Dataset.from_existing_split("given", *parts, items, SplitSettings(min_held_out=2))
    assert data.protocol == "as-given"
    assert data.notes == {
        "cut_note": "given has no times, or one for all rows: validation windows are drawn at "
        "random, per user (protocol random)."
    }
    assert all(len(window.test_users) for window in windows_of(data, (0.7, 0.85)).values())


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"protocol": "time"}, "time-0.8-5-15-10"),
        ({"protocol": "time", "split_seed": 3}, "time-0.8-5-15-10"),
        ({"protocol": "time", "repeats": "keep"}, "time-0.8-5-15-10-repeats"),
        ({"protocol": "random"}, "random-0.8-5-15-10"),
        ({"protocol": "random", "split_seed": 3}, "random-0.8-5-15-10-seed-3"),
        ({"protocol": "leave_one_out"}, "leave-one-out-5-15"),
    ],
)
def test_the_split_in_a_word(changes: dict[str, object], word: str) -> None:
    assert SplitSettings.model_validate(changes).word == word


def test_what_was_added_later_is_in_no_fingerprint_of_before() -> None:
    assert list(SplitSettings(protocol="time").identity) == [
        "test_cut", "min_training", "min_warm_training", "min_held_out",
    ]  # fmt: skip
    assert RANDOM.identity["protocol"] == "random"
    assert SplitSettings(protocol="time", repeats="keep").identity["repeats"] == "keep"
