"""A split that came with the data: each kind of contamination is told by its name."""

from __future__ import annotations

import pandas as pd
import pytest

from pipeline.data.split_check import check_split
from pipeline.errors import UserError

USERS, ITEMS = 10, 20


def clean() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every user takes all items but begins with another one: 14 before 14,000, 6 after it."""
    rows = [
        (user, (user + place) % ITEMS, 3.0, 1000 * place + user)
        for user in range(USERS)
        for place in range(ITEMS)
    ]
    table = pd.DataFrame(rows, columns=["user", "item", "rating", "timestamp"])
    early = table["timestamp"] < 14_000
    return table[early], table[~early]


def check(train: pd.DataFrame, held_out: pd.DataFrame, repeats: str = "drop") -> dict[str, str]:
    return check_split("given", train, held_out, repeats=repeats, accept=False)


def refused(train: pd.DataFrame, held_out: pd.DataFrame) -> str:
    """Why it is refused; what is said of it where it is accepted says the same."""
    with pytest.raises(UserError) as caught:
        check(train, held_out)
    message = str(caught.value)
    assert "given: the split that was given is contaminated" in message
    assert "--accept_split takes the split as it is" in message
    said = check_split("given", train, held_out, repeats="drop", accept=True)["split_check"]
    for told in message.partition("contaminated: ")[2].partition(". Figures")[0].split("; "):
        assert told in said
    return message


def test_nothing_is_said_of_a_clean_split() -> None:
    assert check(*clean()) == {}


def test_rows_in_both_parts() -> None:
    train, held_out = clean()
    some = check(pd.concat([train, held_out[:10]]), held_out)
    assert "10 of 60 test rows are in training, too" in some["split_check"]
    half = refused(pd.concat([train, held_out[:30]]), held_out)
    assert "30 of 60 test rows are in training, too" in half


def test_a_repeat_at_another_time_is_none_of_both_parts_where_repeats_are_kept() -> None:
    train, held_out = clean()
    again = held_out.assign(timestamp=held_out["user"])
    assert check(pd.concat([train, again]), held_out, "keep") == {}
    with pytest.raises(UserError, match="60 of 60 test rows are in training, too"):
        check(pd.concat([train, again]), held_out)


def test_training_on_the_future_of_the_test() -> None:
    train, held_out = clean()
    table = pd.concat([train, held_out]).sort_index()
    drawn = table.index % 5 == 0  # of each user the first row, the sixth and so on
    message = refused(table[~drawn], table[drawn])
    assert "160 of 160 training rows of test users come after the user's first test row" in message
    late = train.copy()
    late.loc[[0, 20], "timestamp"] = 30_000
    said = check(late, held_out)["split_check"]
    assert "2 of 140 training rows of test users come after the user's first test row" in said
    assert "2 of 140 training rows come after the first test row" in said


def test_exchanged_sides() -> None:
    train, held_out = clean()
    message = refused(held_out, train)
    assert "140 of 140 test rows come before the middle of the training rows" in message
    assert "are they exchanged?" in message
    assert "the test has 140 rows, more than the training part, which has 60" in message


def test_exchanged_sides_without_times_are_seen_by_their_size() -> None:
    train, held_out = (part.assign(timestamp=0) for part in clean())
    assert check(train, held_out) == {}
    assert "the test has 140 rows, more than the training part" in refused(held_out, train)


def test_unknown_users_and_items_are_counted() -> None:
    train, held_out = clean()
    strange = held_out.copy()
    strange.loc[strange["user"] < 7, "user"] += 100
    strange.loc[strange["user"] == 9, "item"] += 100
    said = check(train, strange)["split_check"]
    assert "42 of 60 test rows are of users who do not train" in said
    assert "6 of 60 test rows are of items that do not train" in said


def test_ids_that_are_all_unknown_are_no_test_even_if_accepted() -> None:
    train, held_out = clean()
    strangers = held_out.assign(user=held_out["user"] + 100)
    with pytest.raises(UserError, match="no test row has a user and an item that are in the train"):
        check_split("given", train, strangers, repeats="drop", accept=True)
