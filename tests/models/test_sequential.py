from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from pipeline.data.dataset import Dataset
from pipeline.data.split_settings import SplitSettings
from pipeline.errors import UserError
from pipeline.evaluation.ranking import rank
from pipeline.models import sequential
from pipeline.models.regression import EASE, EASESettings
from pipeline.models.sequential import (
    SequentialRidge,
    SequentialRidgeSettings,
    plain_numbers,
)
from tests.conftest import checkerboard, make_items

LENGTH = 50  # of a history in the parade


def ridge(dataset: Dataset, **settings: object) -> SequentialRidge:
    read = SequentialRidgeSettings.read(settings, where="test")
    return SequentialRidge(read, seed=0).fit(dataset)


def everyone(dataset: Dataset) -> npt.NDArray[np.int32]:
    return np.arange(dataset.n_users, dtype=np.int32)


def parade(n_items: int = 120, first: npt.NDArray[np.int64] | None = None) -> Dataset:
    """Users walk around a circle of items in one direction, ``LENGTH`` steps from ``first``."""
    starts = np.arange(n_items) if first is None else first
    users, steps = np.divmod(np.arange(len(starts) * LENGTH), LENGTH)
    rows = pd.DataFrame(
        {
            "user": users,
            "item": (starts[users] + steps) % n_items,
            "rating": np.float32(4),
            "timestamp": 1_000_000_000 + steps,
        }
    )
    nothing = rows.iloc[:0]
    return Dataset.from_existing_split(
        "parade", rows, nothing, make_items(rows["item"]), SplitSettings()
    )


def first_places(model: SequentialRidge | EASE, dataset: Dataset) -> npt.NDArray[np.int32]:
    return rank(model, everyone(dataset), dataset.seen, 1, dataset.n_items)[:, 0]


def test_what_comes_next_is_first_where_ease_cannot_tell_it_from_what_came_before() -> None:
    walk = parade()
    following = (everyone(walk) + LENGTH) % walk.n_items
    before = (everyone(walk) - 1) % walk.n_items
    found = ridge(walk, ridge=10, ease_share=0)
    np.testing.assert_array_equal(first_places(found, walk), following)

    ease = EASE(EASESettings(values="ratings", regularization=100), seed=0).fit(walk)
    scores = ease.scores(everyone(walk))
    np.testing.assert_allclose(
        scores[everyone(walk), following], scores[everyone(walk), before], rtol=0.01
    )
    assert (first_places(ease, walk) != following).any()


def naive(
    dataset: Dataset,
    axes: npt.NDArray[np.float64],
    penalty: float,
    least: int = 30,
    pause: float = np.inf,
    weight: float = 0.5,
) -> list[object]:
    """The regression of the docstring, user by user and item by item; ``pause`` in seconds."""
    histories = [
        rows.sort_values(["timestamp", "item"]) for _, rows in dataset.train.groupby("user")
    ]
    found = []
    for item in range(dataset.n_items):
        matrix, aim = penalty * np.eye(axes.shape[1]), np.zeros(axes.shape[1])
        for rows in histories:
            if rows["timestamp"].nunique() == 1:
                continue
            places = np.arange(len(rows))
            pauses = np.flatnonzero(np.diff(rows["timestamp"]) >= pause) + 1
            cuts = [(cut * len(rows), 1.0) for cut in (0.2, 0.4, 0.6, 0.8)]
            for cut, w in [*cuts, *((place, weight) for place in pauses)]:
                past, later = rows[places < cut], rows[places >= cut]
                if len(past) < least or item in set(past["item"]):
                    continue
                z = past["rating"].to_numpy(np.float64) @ axes[past["item"]]
                matrix += w * np.outer(z, z)
                aim += w * z * (later["rating"][later["item"] == item] ** 2).sum()
        found.append(np.linalg.solve(matrix, aim))
    return found


def histories(lengths: list[int], n_items: int = 90) -> Dataset:
    """Random histories of these lengths, with equal moments among them."""
    rng = np.random.default_rng(0)
    frames = [
        pd.DataFrame(
            {
                "user": user,
                "item": rng.choice(n_items, length, replace=False),
                "rating": rng.integers(1, 6, length).astype(np.float32),
                "timestamp": rng.integers(1_000_000_000, 1_000_000_000 + length, length),
            }
        )
        for user, length in enumerate(lengths)
    ]
    rows = pd.concat(frames)
    nothing = rows.iloc[:0]
    return Dataset.from_existing_split(
        "random", rows, nothing, make_items(rows["item"]), SplitSettings()
    )


def regression(
    dataset: Dataset, axes: npt.NDArray[np.float64], penalty: float, **fields: object
) -> npt.NDArray[np.float64]:
    settings = SequentialRidgeSettings.read({"values": "ratings", **fields}, where="test")
    cuts = sequential._cuts(dataset, settings)
    return sequential._later_on_past(dataset, settings, cuts, axes, penalty)


def test_the_regression_is_its_formula() -> None:
    """36 and 37 interactions leave 29 and 30 before the last cut; 50 are cut at whole numbers."""
    made = histories([10, 36, 37, 50, 75, 80])
    axes = np.random.default_rng(0).normal(size=(made.n_items, 5))
    expected = np.array(naive(made, axes, 7.0))
    assert np.abs(expected).max() > 0.01
    found = regression(made, axes, 7.0, least_past=30)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


def test_cuts_at_pauses() -> None:
    made = histories([20, 30, 40], n_items=45)
    hour = 3600
    visit = (made.train["timestamp"] - 1_000_000_000) // 10
    made = replace(made, train=made.train.assign(timestamp=visit**2 * hour))  # pauses of 1, 3, ...
    axes = np.random.default_rng(0).normal(size=(made.n_items, 5))
    without = np.array(naive(made, axes, 7.0, 5))
    for pause, weight in ((hour, 0.5), (hour + 1, 3.0)):
        expected = np.array(naive(made, axes, 7.0, 5, pause, weight))
        assert np.abs(expected - without).max() > 1e-4
        fields = {"pause_hours": pause / hour, "pause_weight": weight, "least_past": 5}
        found = regression(made, axes, 7.0, **fields)
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


def test_the_longest_pauses_count() -> None:
    """Of 49 pauses the last eight are the longest."""
    made = histories([50, 5])
    rows = made.train
    made = replace(made, train=rows.assign(timestamp=rows.groupby("user").cumcount() ** 2 * 3600))
    cuts = sequential._cuts(made, SequentialRidgeSettings(pause_hours=1, least_past=1))
    at_pauses = cuts.weights < 1
    assert cuts.pasts[at_pauses & (cuts.users == 0)].tolist() == list(range(42, 50))
    assert cuts.pasts[at_pauses & (cuts.users == 1)].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("lengths", "least"), [([30, 60, 90], 20), ([3, 4, 4], 1), ([1, 1, 1, 80], 1)]
)
def test_how_much_of_a_past_is_enough_comes_from_the_histories(
    lengths: list[int], least: int
) -> None:
    """A third of the median; those with less are left out, those with as much are not."""
    made = histories(lengths)
    cuts = sequential._cuts(made, SequentialRidgeSettings())
    by_hand = sequential._cuts(made, SequentialRidgeSettings(least_past=least))
    np.testing.assert_array_equal(cuts.pasts, by_hand.pasts)
    assert cuts.pasts.min() >= least
    assert len(sequential._cuts(made, SequentialRidgeSettings(least_past=79)).users) == 0


def test_without_long_histories_it_is_ease(caplog: pytest.LogCaptureFixture) -> None:
    """With all components the factors are those of EASE itself, on what a user has not seen."""
    board = checkerboard()
    found = ridge(board, ease_regularization=500, ease_share=1).scores(everyone(board))
    assert "no history has different times and enough of a past" in caplog.text
    ease = EASE(EASESettings(values="ratings", regularization=500), seed=0).fit(board)
    unseen = board.seen.toarray() == 0
    expected = ease.scores(everyone(board))[unseen]
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found[unseen], expected, atol=1e-4)


@pytest.mark.parametrize("values", ["ratings", "binary", "log"])
def test_the_unit_of_the_ratings_does_not_matter(dataset: Dataset, values: str) -> None:
    """With penalties in units of the data, scores are the same up to a factor."""
    tenfold = replace(dataset, train=dataset.train.assign(rating=10 * dataset.train["rating"]))
    small, large = (
        ridge(data, values=values, pause_hours=24).scores(everyone(dataset))
        for data in (dataset, tenfold)
    )
    factor = 100 if values == "ratings" else 1
    np.testing.assert_allclose(large, factor * small, atol=2e-3 * np.abs(large).max())


def test_plain_numbers_alone_mean_what_they_did() -> None:
    """Saved runs and files of before know no penalties in units of the data."""
    saved = {"exposure_users": 0, "components": 48, "ridge": 1e4}
    old = SequentialRidgeSettings.read(
        {**saved, "ease_share": 3.0, "ease_regularization": 1e5}, where="model.json"
    )
    assert (old.values, old.least_past, old.pause_hours) == ("ratings", 30, None)
    assert SequentialRidgeSettings.read(saved, where="model.json") == old
    assert SequentialRidgeSettings.read(old.model_dump(), where="model.json") == old
    new = SequentialRidgeSettings()
    assert (new.values, new.least_past, new.ridge) == ("auto", None, None)
    assert SequentialRidgeSettings.read(new.model_dump(), where="model.json") == new
    assert SequentialRidgeSettings.read({"ridge": "none"}, where="a flag") == new


def test_penalties_are_in_units_of_the_data(dataset: Dataset) -> None:
    interactions = dataset.train_matrix("ratings")
    squares = float((interactions.toarray().astype(np.float64) ** 2).sum())
    settings = SequentialRidgeSettings(ridge_penalty=2, ease_penalty=5, ease_weight=0.5)
    assert plain_numbers(settings, interactions) == pytest.approx(
        (
            2 * squares / dataset.n_items,
            0.5 * squares / interactions.sum(),
            5 * squares / dataset.n_items,
        )
    )
    plain = SequentialRidgeSettings(ridge=3, ease_share=4, ease_regularization=6)
    assert plain_numbers(plain, interactions) == (3, 4, 6)


def test_both_parts_are_added(dataset: Dataset) -> None:
    def items(share: float, penalty: float = 100) -> npt.NDArray[np.float32]:
        settings = SequentialRidgeSettings(components=6, ridge=penalty, ease_share=share)
        return SequentialRidge(settings, seed=0).factors(dataset)[1]

    nothing, half, whole = (items(share) for share in (0, 1, 2))
    np.testing.assert_allclose(half - nothing, whole - half, atol=1e-5)
    assert np.abs(nothing).max() > 0.01
    assert np.abs(half - nothing).max() > 0.001
    assert np.abs(items(0, penalty=1e12)).max() < 1e-4


def test_equal_moments_are_ordered_by_item() -> None:
    """A walk that never passes the last item is in the order of items anyway."""
    walk = parade(first=np.arange(70))
    pairs = walk.train.assign(timestamp=walk.train["timestamp"] // 2)
    np.testing.assert_array_equal(
        ridge(replace(walk, train=pairs)).scores(everyone(walk)), ridge(walk).scores(everyone(walk))
    )


def test_a_history_of_one_moment_has_no_order() -> None:
    walk = parade()
    some = walk.train["user"] < 40
    mixed = walk.train.assign(timestamp=walk.train["timestamp"].where(some, 1_000_000_000))
    cuts = sequential._cuts(replace(walk, train=mixed), SequentialRidgeSettings())
    assert set(cuts.users) == set(range(40))
    at_once = replace(walk, train=walk.train.assign(timestamp=0))
    settings = SequentialRidgeSettings(pause_hours=1)
    assert len(sequential._cuts(at_once, settings).users) == 0
    assert np.isfinite(ridge(at_once).scores(everyone(walk))).all()


def test_the_order_of_the_ratings_matters() -> None:
    walk = parade()
    back = replace(walk, train=walk.train.assign(timestamp=-walk.train["timestamp"]))
    before = (everyone(walk) - 1) % walk.n_items
    np.testing.assert_array_equal(first_places(ridge(back, ridge=10, ease_share=0), back), before)


def test_what_comes_after_the_cut_is_not_looked_at(dataset: Dataset) -> None:
    assert len(dataset.later) > 0
    blind = replace(dataset, later=dataset.later.iloc[:0])
    np.testing.assert_array_equal(
        ridge(blind).scores(everyone(dataset)), ridge(dataset).scores(everyone(dataset))
    )


def test_what_cannot_be_inverted_is_told() -> None:
    with pytest.raises(UserError, match=r"plus 1e-300 I cannot be inverted\. Raise ridge"):
        ridge(parade(first=np.zeros(3, np.int64)), ridge=1e-300)
