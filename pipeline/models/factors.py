"""Latent factors: truncated SVD and alternating least squares."""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy import sparse

from pipeline.data.dataset import Values
from pipeline.models.linear import InteractionSettings, LinearRecommender, Matrix


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
    settings: SVDSettings

    def learn(self, interactions: sparse.csr_matrix) -> tuple[Matrix, Matrix]:
        """U S and V^T."""
        from sklearn.utils.extmath import randomized_svd

        users, values, items = randomized_svd(
            interactions,
            min(self.settings.components, *interactions.shape),
            n_iter=self.settings.iterations,
            random_state=self.seed,
        )
        return np.asarray(users * values, np.float32), np.asarray(items, np.float32)


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
    settings: ALSSettings

    def learn(self, interactions: sparse.csr_matrix) -> tuple[Matrix, Matrix]:
        """Vectors of users and, transposed, of items."""
        from implicit.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits

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
