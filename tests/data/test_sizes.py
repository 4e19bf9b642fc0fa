"""Settings that would give more test users: what is said is what they give."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from pipeline.data.dataset import Dataset
from pipeline.data.sizes import Size
from pipeline.data.split_settings import SplitSettings
from pipeline.data.windows import window_of
from pipeline.errors import UserError
from tests.conftest import make_items

FEW = SplitSettings(min_held_out=10, min_warm_training=40)


def of(ratings: pd.DataFrame, rules: SplitSettings) -> Dataset:
    return Dataset.from_ratings("small", ratings, make_items(ratings["item"]), rules)


def given(told: str) -> list[tuple[dict[str, int], int]]:
    """The settings in a sentence, and the users that each would give."""
    found = []
    for part in told.replace(" would give", "").replace(" test users", "").split(", "):
        fields, _, users = part.rpartition(" ")
        assert all(word.startswith("--") for word in fields.split())
        changes = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", fields)}
        found.append((changes, int(users)))
    return found


def test_settings_give_what_is_said(ratings: pd.DataFrame) -> None:
    data = of(ratings, FEW)
    size = Size.of(data)
    assert size.users == len(data.test_users) < 100
    assert size.interactions == len(data.test)
    assert size.larger is not None
    assert size.larger.startswith("--min_")
    numbers = [size.users]
    for changes, users in given(size.larger):
        assert len(of(ratings, FEW.model_copy(update=changes)).test_users) == users
        numbers.append(users)
    assert len(numbers) > 2
    assert numbers == sorted(set(numbers))


def test_an_empty_split_names_settings_that_work(ratings: pd.DataFrame) -> None:
    with pytest.raises(UserError) as caught:
        of(ratings, SplitSettings(min_held_out=400))
    told = str(caught.value).partition("interactions. ")[2].rstrip(".")
    for changes, users in given(told):
        assert (
            len(of(ratings, SplitSettings(**{"min_held_out": 400} | changes)).test_users) == users
        )


def test_an_empty_window_is_told_by_its_name(ratings: pd.DataFrame) -> None:
    data = of(ratings, SplitSettings(min_held_out=30))
    with pytest.raises(UserError, match=r"small/window-0.97: the split time-.* would give \d+"):
        window_of(data, 0.97)


def test_a_given_split_is_as_large_as_it_is(ratings: pd.DataFrame) -> None:
    late = ratings["timestamp"] > ratings["timestamp"].quantile(0.8)
    items = make_items(ratings["item"])
    data = Dataset.from_existing_split("given", ratings[~late], ratings[late], items, FEW)
    assert data.larger_tests is None
