from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from pipeline.data.dataset import Dataset, Values
from pipeline.errors import UserError
from pipeline.models.regression import EASE, EASESettings
from tests.conftest import make_dataset


def ease(dataset: Dataset, **settings: object) -> EASE:
    return EASE(EASESettings.read(settings, where="test"), seed=0).fit(dataset)


@pytest.mark.parametrize("values", ["binary", "ratings"])
@pytest.mark.parametrize("divide", ["columns", "rows"])
@pytest.mark.parametrize("regularization", [50.0, 5000.0])
def test_ease_is_its_formula(
    dataset: Dataset, values: Values, divide: Literal["columns", "rows"], regularization: float
) -> None:
    """P = (X^T X + lambda I)^-1, W_ij = -P_ij / P_jj (or P_ii), in double precision."""
    model = ease(dataset, values=values, divide=divide, regularization=regularization)
    interactions = dataset.train_matrix(values).toarray().astype(np.float64)
    identity = np.eye(dataset.n_items)
    inverse = np.linalg.inv(interactions.T @ interactions + regularization * identity)
    diagonal = np.diag(inverse)
    expected = -inverse / (diagonal if divide == "columns" else diagonal[:, None])
    np.fill_diagonal(expected, 0)
    assert model.right.dtype == np.float32
    np.testing.assert_allclose(model.right, expected, atol=2e-5 * np.abs(expected).max())


def test_fits_of_one_dataset_do_not_change_each_other(dataset: Dataset) -> None:
    gram = dataset.gram().copy()
    first = ease(dataset, regularization=50).right
    ease(dataset, regularization=5000)
    np.testing.assert_array_equal(dataset.gram(), gram)
    np.testing.assert_array_equal(ease(dataset, regularization=50).right, first)


@pytest.mark.parametrize("regularization", [1e-30, 1e-9])
def test_what_cannot_be_inverted_is_told(regularization: float) -> None:
    twins = make_dataset([(user, item) for user in range(4) for item in (0, 1)])  # the same users
    with pytest.raises(UserError, match=f"{regularization:g} I cannot be inverted.*Raise reg"):
        ease(twins, regularization=regularization)
