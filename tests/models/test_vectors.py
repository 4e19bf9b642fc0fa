"""Vectors whose products are a model's scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.data.dataset import Dataset
from pipeline.models import FAMILIES, family
from pipeline.models.base import Recommender
from pipeline.models.ncf import NCF, NCFSettings

PRODUCTS = {"svd", "als", "sequential_ridge", "two_tower"}
SHORT = {"ncf": {"epochs": 1}, "two_tower": {"epochs": 1}}


def fitted(name: str, dataset: Dataset, **fields: Any) -> Recommender:
    kind = family(name)
    return kind(kind.settings_class.read(SHORT.get(name, {}) | fields, name), seed=0).fit(dataset)


@pytest.mark.parametrize("name", FAMILIES)
def test_products_are_the_scores(name: str, dataset: Dataset) -> None:
    model = fitted(name, dataset)
    vectors = model.vectors()
    assert (vectors is not None) == (name in PRODUCTS)
    if vectors is not None:
        scores = model.scores(np.arange(dataset.n_users, dtype=np.int32))
        np.testing.assert_allclose(vectors.users @ vectors.items.T, scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["als", "ncf"])
@pytest.mark.parametrize("bias", [False, True])
def test_exposure_and_biases_are_numbers_more(name: str, bias: bool, dataset: Dataset) -> None:
    fields = {"layers": "none", "bias": bias, "learning_rate": 0.1} if name == "ncf" else {}
    model = fitted(name, dataset, exposure_users=2, **fields)
    vectors = model.vectors()
    assert vectors is not None
    scores = model.scores(np.arange(dataset.n_users, dtype=np.int32))
    np.testing.assert_allclose(vectors.users @ vectors.items.T, scores, rtol=1e-4, atol=1e-5)
    assert (
        fitted(name, dataset, **fields).scores(np.arange(9, dtype=np.int32)) != scores[:9]
    ).any()


def test_a_network_with_more_than_products_has_none(dataset: Dataset) -> None:
    class Own(NCF):
        def scores(self, users: Any) -> Any:
            return -super().scores(users)

    assert fitted("ncf", dataset, layers="none", wide="svd").vectors() is None
    assert Own(NCFSettings(epochs=1, layers=()), seed=0).fit(dataset).vectors() is None
