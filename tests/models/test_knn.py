from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from pipeline.models.knn import ItemKNN, KNNSettings, UserKNN
from tests.conftest import make_dataset

SIMILARITIES = ["cosine", "tfidf", "bm25"]
MODELS: list[type[ItemKNN | UserKNN]] = [ItemKNN, UserKNN]


def fitted(
    model: type[ItemKNN | UserKNN], dataset: Dataset, **settings: object
) -> npt.NDArray[np.float32]:
    read = KNNSettings.read(settings, where="test")
    return model(read, 0).fit(dataset).scores(np.arange(dataset.n_users, dtype=np.int32))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_no_row_has_more_neighbours_than_there_are_rows(
    dataset: Dataset, model: type[ItemKNN | UserKNN], similarity: str
) -> None:
    rows = dataset.n_items if model is ItemKNN else dataset.n_users
    np.testing.assert_array_equal(
        fitted(model, dataset, similarity=similarity, neighbours=10**9),
        fitted(model, dataset, similarity=similarity, neighbours=rows),
    )


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_ratings_below_zero(
    dataset: Dataset, model: type[ItemKNN | UserKNN], similarity: str
) -> None:
    disliked = replace(dataset, train=dataset.train.assign(rating=dataset.train["rating"] - 3))
    for values in ("ratings", "log", "centred", "positive", "auto"):
        assert np.isfinite(fitted(model, disliked, similarity=similarity, values=values)).all()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_weights_of_zero_are_similar_to_nothing(
    model: type[ItemKNN | UserKNN], similarity: str
) -> None:
    """Who has all rows but one has no weight in implicit's TF-IDF."""
    triangle = make_dataset([(0, 0), (0, 1), (1, 1), (2, 0)])
    assert np.isfinite(fitted(model, triangle, similarity=similarity)).all()


@pytest.mark.parametrize("model", MODELS)
def test_more_neighbours_than_memory_are_refused(
    dataset: Dataset, model: type[ItemKNN | UserKNN], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.models.costs.available_memory", lambda: 2.0**10)
    with pytest.raises(UserError, match=r"_knn of .* are left here\. Lower neighbours,"):
        fitted(model, dataset, similarity="cosine", neighbours=100)
