"""Latent factors: truncated SVD and alternating least squares."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field
from scipy import sparse

from pipeline.data.dataset import Dataset, Values
from pipeline.models.linear import VALUES, InteractionSettings, LinearRecommender, Matrix
from pipeline.space import Range, Space


class SVDSettings(InteractionSettings):
    """Truncated SVD of the interactions."""

    values: Values = "ratings"
    """binary: every interaction counts one; ratings: as much as its rating."""
    components: int = Field(5, ge=1)
    """Singular values kept."""
    iterations: int = Field(42, ge=1)
    """Power iterations of the randomized solver (Halko et al., 2011)."""


class SVD(LinearRecommender):
    """X ~ U S V^T with few components; scores are the reconstruction (Cremonesi et al., 2010)."""

    settings_class = SVDSettings
    space: ClassVar[Space] = {"values": VALUES, "components": Range(low=2, high=64, log=True)}
    settings: SVDSettings

    def learn(self, dataset: Dataset) -> tuple[Matrix, Matrix]:
        """U S and V^T."""
        from sklearn.utils.extmath import randomized_svd

        interactions = dataset.train_matrix(self.settings.values)
        users, values, items = randomized_svd(
            interactions,
            min(self.settings.components, *interactions.shape),
            n_iter=self.settings.iterations,
            random_state=self.seed,
        )
        return np.asarray(users * values, np.float32), np.asarray(items, np.float32)

    def left_of(self, liked: sparse.csr_matrix) -> Matrix:
        """x V, as U S = X V of those who trained."""
        axes = self.right[: min(self.settings.components, len(self.left), self.right.shape[1])]
        return liked @ axes.T


class ALSSettings(InteractionSettings):
    """Alternating least squares on implicit feedback."""

    factors: int = Field(5, ge=1)
    """Length of the vectors of users and items."""
    regularization: float = Field(0.0172, ge=0)
    """L2 penalty."""
    iterations: int = Field(21, ge=1)
    """Alternations."""
    alpha: float = Field(0.585, gt=0)
    """Interactions are multiplied by it; the product is the confidence."""


class ALS(LinearRecommender):
    """Weighted matrix factorisation over all cells (Hu, Koren and Volinsky, 2008), by implicit."""

    settings_class = ALSSettings
    space: ClassVar[Space] = {
        "values": VALUES,
        "factors": Range(low=2, high=64, log=True),
        "regularization": Range(low=1e-3, high=1e2, log=True),
        "iterations": Range(low=5, high=30),
        "alpha": Range(low=0.01, high=40, log=True),
    }
    settings: ALSSettings

    def learn(self, dataset: Dataset) -> tuple[Matrix, Matrix]:
        """Vectors of users and, transposed, of items."""
        from implicit.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits

        interactions = dataset.train_matrix(self.settings.values)
        confidence = (interactions * self.settings.alpha).astype(np.float64)
        # implicit has threads of its own; BLAS threads inside each would fight them.
        with threadpool_limits(1, user_api="blas"):
            model = AlternatingLeastSquares(
                factors=self.settings.factors,
                regularization=self.settings.regularization,
                iterations=self.settings.iterations,
                random_state=self.seed,
                dtype=np.float64,
                use_gpu=False,
            )
            model.fit(confidence, show_progress=False)
        return model.user_factors.astype(np.float32), model.item_factors.T.astype(np.float32)
