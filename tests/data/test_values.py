from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.data.values import Floats, Values, distinct, explained, taken, worth

RNG = np.random.default_rng(0)


def floats(*numbers: float) -> Floats:
    return np.array(numbers, np.float32)


def stars(scale: list[float], n: int = 5_000) -> Floats:
    """Ratings as people give them: the middle and the upper part of the scale most."""
    places = np.arange(len(scale))
    popularity = np.exp(-(((places - 0.7 * len(scale)) / (0.3 * len(scale))) ** 2))
    return RNG.choice(scale, n, p=popularity / popularity.sum()).astype(np.float32)


SCALES = {
    "1 to 5": stars([1, 2, 3, 4, 5]),
    "halves": stars([half / 2 for half in range(1, 11)]),
    "1 to 10": stars(list(range(1, 11))),
    "1 to 100": stars(list(range(1, 101))),
    "of any precision": RNG.uniform(0.5, 5, 5_000).astype(np.float32),
    "mostly the lowest": RNG.choice([1, 5, 10], 5_000, p=[0.9, 0.06, 0.04]).astype(np.float32),
    "with a slip": np.append(stars([1, 2, 3, 4, 5]), np.float32(5_000)),
}
COUNTS = {
    "plays": np.ceil(RNG.lognormal(5.5, 1.4, 5_000)).astype(np.float32),
    "hours": np.round(RNG.lognormal(1.5, 2.2, 5_000) + 0.1, 1).astype(np.float32),
    "visits": RNG.zipf(1.8, 5_000).astype(np.float32),
}
NO_MEASURE = {
    "liked and disliked": RNG.uniform(-10, 10, 5_000).astype(np.float32),
    "0 for a mere look": np.where(RNG.random(5_000) < 0.6, 0, stars([7, 8, 9])).astype(np.float32),
}


@pytest.mark.parametrize("name", SCALES)
def test_scales_are_ratings(name: str) -> None:
    assert taken(SCALES[name]) == "ratings"


@pytest.mark.parametrize("name", COUNTS)
def test_what_has_a_long_tail_is_counted(name: str) -> None:
    assert taken(COUNTS[name]) == "log"
    assert "counts, not ratings" in explained(COUNTS[name])
    assert distinct(COUNTS[name])[:2] == ("binary", "log")
    assert not {"ratings", "centred"} & set(distinct(COUNTS[name]))


@pytest.mark.parametrize("name", NO_MEASURE)
def test_what_is_often_nothing_or_less_is_no_measure(name: str) -> None:
    assert taken(NO_MEASURE[name]) == "binary"
    assert "are 0 or below" in explained(NO_MEASURE[name])


def test_equal_ratings_are_ones() -> None:
    equal = np.full(7, 4, np.float32)
    assert taken(equal) == "binary"
    assert explained(equal) == "every rating is 4: every interaction counts one"
    assert distinct(equal) == ("binary",)


def test_what_is_worth_comparing_on_ratings() -> None:
    assert distinct(floats(1, 3, 5)) == ("binary", "ratings", "log", "centred", "positive")
    assert "positive" not in distinct(floats(1, 1, 1, 1, 5)), "none is below the median"


def test_it_is_said_in_words() -> None:
    plays = np.concatenate([np.full(90, 260), np.full(9, 7_000), [1, 352_698]]).astype(np.float32)
    assert explained(plays) == (
        "ratings range from 1 to 352,698 with a median of 260: these are counts, not ratings; with "
        "values=auto models take their logarithm"
    )


def test_each_is_its_formula() -> None:
    ratings, users = floats(1, 2, 5, 4), np.array([0, 0, 0, 1], np.int32)
    median = 3.0
    expected = {
        "binary": [1, 1, 1, 1],
        "ratings": [1, 2, 5, 4],
        "auto": [1, 2, 5, 4],
        "log": [np.log2(1 + r / median) for r in (1, 2, 5, 4)],
        "centred": [1 + (1 - 8 / 3) / 4, 1 + (2 - 8 / 3) / 4, 1 + (5 - 8 / 3) / 4, 1],
        "positive": [0, 0, 1, 1],
    }
    assert set(expected) == set(get_args(Values))
    for values, numbers in expected.items():
        found = worth(values, ratings, users)  # type: ignore[arg-type]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, numbers, rtol=1e-6, err_msg=values)
    np.testing.assert_array_equal(worth("positive", ratings, users, 2), [0, 1, 1, 1])


@settings(deadline=None)
@example(ratings=floats(2, 4.294555e-39, 4.294555e-39))
@given(ratings=arrays(np.float32, st.integers(1, 30), elements=st.floats(-1e6, 1e6, width=32)))
def test_any_ratings_have_values(ratings: Floats) -> None:
    users = np.arange(len(ratings), dtype=np.int32) // 3
    for values in get_args(Values):
        found = worth(values, ratings, users)
        assert np.isfinite(found).all()
        if values in ("binary", "log", "positive"):
            assert (found >= 0).all()
        if values == "centred":
            assert ((found >= 0) & (found <= 2)).all()
    assert (worth("binary", ratings, users) == 1).all()


@settings(deadline=None)
@given(
    ratings=arrays(np.float32, st.integers(1, 30), elements=st.integers(1, 100)),
    unit=st.sampled_from([0.25, 8.0]),
)
def test_the_unit_of_the_ratings_does_not_matter(ratings: Floats, unit: float) -> None:
    users = np.arange(len(ratings), dtype=np.int32) % 4
    assert taken(ratings * np.float32(unit)) == taken(ratings)
    for values in ("log", "centred", "positive"):
        scaled = worth(values, ratings * np.float32(unit), users)
        np.testing.assert_allclose(scaled, worth(values, ratings, users), rtol=1e-5)


@given(level=st.floats(-100, 100, width=32))
def test_equal_ratings_have_equal_centred_values(level: float) -> None:
    found = worth("centred", np.full(5, level, np.float32), np.zeros(5, np.int32))
    np.testing.assert_allclose(found, 1, atol=1e-5)
