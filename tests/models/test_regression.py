from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from scipy import sparse

from pipeline.data.dataset import Dataset
from pipeline.data.split_settings import SplitSettings
from pipeline.data.values import Values
from pipeline.errors import UserError
from pipeline.models.linear import mean_diagonal
from pipeline.models.regression import EASE, SLIM, EASESettings, SLIMSettings
from tests.conftest import make_dataset, make_items, make_ratings

Divide = Literal["columns", "rows"]


@pytest.fixture(scope="module", params=[40, 400])
def sides(request: pytest.FixtureRequest) -> Dataset:
    """More users than items, where the solution is by items, and more items than users."""
    ratings = make_ratings(np.random.default_rng(0), n_items=request.param, interactions=18)
    metadata = make_items(ratings["item"])
    return Dataset.from_ratings("sides", ratings, metadata, SplitSettings(min_held_out=2))


def ease(dataset: Dataset, **settings: object) -> EASE:
    return EASE(EASESettings.read(settings, where="test"), seed=0).fit(dataset)


def weights(model: EASE, n_items: int) -> npt.NDArray[np.float32]:
    """W: the scores of people who like one item each."""
    found = model.fold_in(sparse.identity(n_items, np.float32, format="csr"))
    assert found is not None
    return found


@pytest.mark.parametrize("values", ["binary", "ratings", "positive"])
@pytest.mark.parametrize("divide", ["columns", "rows"])
@pytest.mark.parametrize("regularization", [5.0, 5000.0])
def test_ease_is_its_formula(
    sides: Dataset, values: Values, divide: Divide, regularization: float
) -> None:
    """P = (X^T X + lambda I)^-1, W_ij = -P_ij / P_jj (or P_ii), in double precision."""
    model = ease(sides, values=values, divide=divide, regularization=regularization)
    assert (model.folding is None) is (sides.n_items < sides.n_users)
    interactions = sides.train_matrix(values).toarray().astype(np.float64)
    identity = np.eye(sides.n_items)
    inverse = np.linalg.inv(interactions.T @ interactions + regularization * identity)
    diagonal = np.diag(inverse)
    expected = -inverse / (diagonal if divide == "columns" else diagonal[:, None])
    np.fill_diagonal(expected, 0)
    found = weights(model, sides.n_items)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
    scores = model.scores(np.arange(sides.n_users, dtype=np.int32))
    assert scores.dtype == np.float32
    expected = interactions @ expected
    np.testing.assert_allclose(scores, expected, atol=2e-5 * np.abs(expected).max())


def test_a_solution_by_users_is_saved(dataset: Dataset, tmp_path: Path) -> None:
    model = ease(dataset)
    assert model.folding is not None
    model.save(tmp_path)
    loaded = EASE.load(tmp_path)
    np.testing.assert_array_equal(weights(loaded, dataset.n_items), weights(model, dataset.n_items))


def test_fits_of_one_dataset_do_not_change_each_other(sides: Dataset) -> None:
    gram = sides.gram().copy()
    first = weights(ease(sides, regularization=50), sides.n_items)
    ease(sides, regularization=5000)
    np.testing.assert_array_equal(sides.gram(), gram)
    again = weights(ease(sides, regularization=50), sides.n_items)
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize("values", ["binary", "ratings"])
def test_a_penalty_is_in_mean_diagonals(sides: Dataset, values: Values) -> None:
    unit = (sides.train_matrix(values).toarray().astype(np.float64) ** 2).sum() / sides.n_items
    assert mean_diagonal(sides.train_matrix(values)) == pytest.approx(unit)
    relative = ease(sides, values=values, penalty=7)
    absolute = ease(sides, values=values, regularization=7 * unit)
    np.testing.assert_allclose(
        weights(relative, sides.n_items), weights(absolute, sides.n_items), rtol=1e-4, atol=1e-7
    )


def test_the_absolute_number_counts_where_it_is_given(sides: Dataset) -> None:
    with_both = ease(sides, regularization=50, penalty=7)
    alone = ease(sides, regularization=50)
    np.testing.assert_array_equal(weights(with_both, sides.n_items), weights(alone, sides.n_items))


def test_settings_of_before_mean_what_they_did() -> None:
    saved = {"exposure_users": 0, "values": "ratings", "regularization": 108727.0}
    settings = EASESettings.read({**saved, "divide": "rows"}, where="model.json")
    assert (settings.regularization, settings.values) == (108727.0, "ratings")
    saved = {"values": "binary", "alpha": 0.469, "l1_ratio": 0.14, "top_weights": 434}
    assert SLIMSettings.read(saved, where="model.json").alpha == 0.469


def test_the_penalty_of_slim_is_in_mean_diagonals(dataset: Dataset) -> None:
    unit = mean_diagonal(dataset.train_matrix())
    relative, absolute = (
        SLIM(SLIMSettings.read(penalty, where="test"), seed=0).fit(dataset).right
        for penalty in ({"penalty": 0.5}, {"alpha": 0.5 * unit / dataset.n_users})
    )
    assert relative.nnz > 100
    np.testing.assert_allclose(relative.toarray(), absolute.toarray(), rtol=1e-5)


@pytest.mark.parametrize("regularization", [1e-30, 1e-9])
def test_what_cannot_be_inverted_is_told(regularization: float) -> None:
    twins = make_dataset([(user, item) for user in range(4) for item in (0, 1)])  # the same users
    with pytest.raises(UserError, match=f"{regularization:g} I cannot be inverted.*Raise reg"):
        ease(twins, regularization=regularization)


def test_a_fit_that_is_not_small_says_so(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    ease(dataset)
    assert not caplog.messages
    monkeypatch.setattr("pipeline.models.costs.SMALL", 0)
    ease(dataset)
    (said,) = caplog.messages
    users, items = dataset.n_users, dataset.n_items
    assert said.startswith(f"EASE of {items} items and {users} users: a fit takes about 0.0 GiB")


def test_a_fit_beyond_the_memory_is_refused(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.models.costs.available_memory", lambda: 2.0**10)
    with pytest.raises(UserError, match=r"EASE of .* 0\.0 GiB of memory are left here\. Take als"):
        ease(dataset)
    with pytest.raises(UserError, match=r"SLIM of .* are left here\. Take als"):
        SLIM(SLIMSettings(), 0).fit(dataset)
