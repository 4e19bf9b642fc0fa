"""Nearest neighbours among items or users, with implicit's similarities.

item: score(u, i) = sum over j in X_u of x_uj sim(j, i); user: sum over v of sim(u, v) x_vi.
Only the K most similar neighbours of each row have a similarity. Weightings of the rows before
the cosine: none, TF-IDF, or BM25 (Robertson and Zaragoza, 2009; K1 and B as in implicit).
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
from pydantic import Field
from scipy import sparse

from pipeline.data.dataset import Dataset
from pipeline.models.costs import PRODUCTS, announce, pairs_of_interactions
from pipeline.models.linear import VALUES, InteractionSettings, ItemBased, LinearRecommender, Matrix
from pipeline.space import Choice, Range, Space

BYTES_OF_NEIGHBOUR = 32  # while implicit collects them, and as the matrix that they become


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

    def learn(self, dataset: Dataset) -> tuple[Matrix, Matrix]:
        """Interactions, and similarities of items."""
        interactions = self.settings.interactions(dataset)
        return interactions, _similarity(interactions, self.settings)


class UserKNN(LinearRecommender):
    """Items of users similar to a user."""

    settings_class = KNNSettings
    space = SPACE
    settings: KNNSettings

    def learn(self, dataset: Dataset) -> tuple[Matrix, Matrix]:
        """Similarities of users, and interactions."""
        interactions = self.settings.interactions(dataset)
        return _similarity(interactions.T.tocsr(), self.settings), interactions


def _similarity(rows: sparse.csr_matrix, settings: KNNSettings) -> sparse.csr_matrix:
    """Similarities of the columns of ``rows``, float32."""
    size, neighbours = rows.shape[1], min(settings.neighbours, rows.shape[1])
    announce(
        f"Similarities of {size:,} rows with {neighbours:,} neighbours each",
        pairs_of_interactions(rows) / PRODUCTS,
        BYTES_OF_NEIGHBOUR * size * neighbours,
        "Lower neighbours.",
    )
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
