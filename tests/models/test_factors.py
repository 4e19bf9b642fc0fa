from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.dataset import Dataset
from pipeline.data.values import Values
from pipeline.models.factors import (
    ALS,
    SVD,
    ALSSettings,
    SVDSettings,
    plain_numbers,
    typical_singular_value,
)


def test_a_typical_singular_value(dataset: Dataset) -> None:
    """The root of their mean square."""
    interactions = dataset.train_matrix("ratings")
    singular = np.linalg.svd(interactions.toarray().astype(np.float64), compute_uv=False)
    expected = np.sqrt((singular**2).mean())
    assert typical_singular_value(interactions) == pytest.approx(expected)
    assert typical_singular_value(interactions.T.tocsr()) == pytest.approx(expected)
    assert typical_singular_value(0 * interactions) == 1


@pytest.mark.parametrize("values", ["binary", "ratings"])
def test_penalty_and_confidence_are_in_units_of_the_data(dataset: Dataset, values: Values) -> None:
    interactions = dataset.train_matrix(values)
    settings = ALSSettings(balance=0.5, penalty=2, values=values)
    alpha, regularization = plain_numbers(settings, interactions)
    others = dataset.n_users * dataset.n_items - interactions.nnz
    assert alpha * interactions.sum() == pytest.approx(0.5 * others)
    assert regularization == pytest.approx(2 * typical_singular_value(alpha * interactions))
    plain = ALSSettings(alpha=3, regularization=0)
    assert plain_numbers(plain, interactions) == (3, 0)


def test_als_minds_both(dataset: Dataset) -> None:
    def scores(**settings: float) -> np.floating:
        model = ALS(ALSSettings.read(settings, where="test"), seed=0).fit(dataset)
        return np.abs(model.scores(np.arange(dataset.n_users, dtype=np.int32))).max()

    assert scores(penalty=100) < 1e-3 < 0.1 < scores(penalty=1)
    assert scores(balance=1e-3) < scores(balance=1)


def test_settings_of_before_mean_what_they_did() -> None:
    saved = {"values": "binary", "factors": 5, "regularization": 0.0172, "iterations": 21}
    settings = ALSSettings.read({**saved, "alpha": 0.585}, where="model.json")
    assert (settings.regularization, settings.alpha) == (0.0172, 0.585)
    saved = {"values": "ratings", "components": 5, "iterations": 42, "exposure_users": 0}
    assert SVDSettings.read(saved, where="model.json").values == "ratings"


@pytest.mark.parametrize("model", [SVD(SVDSettings(components=10**6), 0), ALS(ALSSettings(), 0)])
def test_no_more_components_than_the_data_holds(dataset: Dataset, model: SVD | ALS) -> None:
    most = min(dataset.n_users, dataset.n_items)
    if isinstance(model, ALS):
        model = ALS(ALSSettings(factors=most + 50, iterations=1), 0)
    assert model.fit(dataset).right.shape == (most, dataset.n_items)
