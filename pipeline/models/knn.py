"""Nearest neighbours among items or users, with implicit's similarities.

item: score(u, i) = sum over j in X_u of x_uj sim(j, i); user: sum over v of sim(u, v) x_vi.
Only the K most similar neighbours of each row have a similarity. Weightings of the rows before
the cosine: none, TF-IDF, or BM25 (Robertson and Zaragoza, 2009; K1 and B as in implicit).
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import sparse

from pipeline.data.dataset import Dataset
from pipeline.models.costs import PRODUCTS, Cost, pairs_of_interactions
from pipeline.models.linear import VALUES, InteractionSettings, ItemBased, LinearRecommender, Matrix
from pipeline.space import Choice, Range, Space

# Of a neighbour, while implicit collects them, and as the matrix that they become.
BYTES_OF_NEIGHBOUR, SECONDS_OF_NEIGHBOUR = 36, 1e-7


class KNNSettings(InteractionSettings):
    """Which neighbours, and how many."""

    similarity: Literal["cosine", "tfidf", "bm25"] = "tfidf"
    """Weighting of the rows that are compared."""
    neighbours: int = Field(312, ge=1)
    """Most similar rows that keep their similarity."""


SPACE: Space = {
    "values": VALUES,
    "similarity": Choice(choices=("cosine", "tfidf", "bm25")),
    "neighbours": Range(low=2, high=2000, log=True),
}


class ItemKNN(ItemBased):
    """Items similar to those that a user has."""

    settings_class = KNNSettings
    space = SPACE
    settings: KNNSettings

    def cost(self, dataset: Dataset) -> Cost:
        """Similarities of items."""
        return _cost(
            f"item_knn of {dataset.n_items:,} items",
            dataset.n_items,
            dataset.activity,
            self.settings,
        )

    def learn(self, dataset: Dataset) -> tuple[Matrix, Matrix]:
        """Interactions, and similarities of items."""
        interactions = self.settings.interactions(dataset)
        return interactions, _similarity(interactions, self.settings)


class UserKNN(LinearRecommender):
    """Items of users similar to a user."""

    settings_class = KNNSettings
    space = SPACE
    settings: KNNSettings

    def cost(self, dataset: Dataset) -> Cost:
        """Similarities of users."""
        return _cost(
            f"user_knn of {dataset.n_users:,} users",
            dataset.n_users,
            dataset.popularity,
            self.settings,
        )

    def learn(self, dataset: Dataset) -> tuple[Matrix, Matrix]:
        """Similarities of users, and interactions."""
        interactions = self.settings.interactions(dataset)
        return _similarity(interactions.T.tocsr(), self.settings), interactions


def _cost(what: str, size: int, lengths: npt.NDArray[np.integer], settings: KNNSettings) -> Cost:
    """Of similarities of ``size`` things, found from rows of so many of them each."""
    neighbours = min(settings.neighbours, size)
    return Cost(
        f"{what} with {neighbours:,} neighbours each",
        pairs_of_interactions(lengths) / PRODUCTS + SECONDS_OF_NEIGHBOUR * size * neighbours,
        BYTES_OF_NEIGHBOUR * size * neighbours + 32 * float(lengths.sum()),
        "Lower neighbours, or take als, svd or two_tower.",
    )


def _similarity(rows: sparse.csr_matrix, settings: KNNSettings) -> sparse.csr_matrix:
    """Similarities of the columns of ``rows``, float32."""
    neighbours = min(settings.neighbours, rows.shape[1])
    from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender

    kinds = {"cosine": CosineRecommender, "tfidf": TFIDFRecommender, "bm25": BM25Recommender}
    if settings.similarity != "cosine":  # these take logarithms and roots of counts
        rows = rows.maximum(0)
    model = kinds[settings.similarity](K=neighbours)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.filterwarnings("ignore", message="Method expects CSR input")  # it makes COO itself
        model.fit(rows, show_progress=False)
    found = sparse.csr_matrix(model.similarity, dtype=np.float32)
    found.data[np.isnan(found.data)] = 0  # what has no weight at all has no direction
    return found
