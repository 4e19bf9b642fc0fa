"""Item weights by regression of every item on all others: EASE and SLIM."""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.linalg
from pydantic import Field
from scipy import sparse

from pipeline.models.linear import InteractionSettings, LinearRecommender, Matrix


class EASESettings(InteractionSettings):
    """EASE."""

    regularization: float = Field(108_727.0, gt=0)
    """Lambda, the L2 penalty."""
    divide: Literal["columns", "rows"] = "columns"
    """columns: Steck's formula; rows: the notebook's."""


class EASE(LinearRecommender):
    """Ridge regression of each item on the others, in closed form (Steck, 2019).

    P = (X^T X + lambda I)^-1, W_ij = -P_ij / P_jj for i != j, W_ii = 0. With ``divide`` "rows" it
    is -P_ij / P_ii, as the notebook had it.
    """

    settings_class = EASESettings
    settings: EASESettings

    def learn(self, interactions: sparse.csr_matrix) -> tuple[Matrix, Matrix]:
        """Interactions, and dense float32 weights."""
        gram = (interactions.T @ interactions).toarray()
        gram[np.diag_indices_from(gram)] += self.settings.regularization
        factor = scipy.linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
        identity = np.eye(len(gram), dtype=gram.dtype)
        inverse = scipy.linalg.cho_solve(factor, identity, overwrite_b=True, check_finite=False)
        diagonal = np.diag(inverse).copy()
        divisor = diagonal[:, None] if self.settings.divide == "rows" else diagonal
        weights = inverse / -divisor
        np.fill_diagonal(weights, 0.0)
        return interactions, np.asarray(weights, dtype=np.float32)


class SLIMSettings(InteractionSettings):
    """SLIM."""

    alpha: float = Field(0.469, gt=0)
    """Strength of the elastic net's penalty."""
    l1_ratio: float = Field(0.140, ge=0, le=1)
    """Share of L1 in it."""
    top_weights: int = Field(434, ge=1)
    """Largest weights kept per item."""


class SLIM(LinearRecommender):
    """Sparse, non-negative weights by an elastic net (Ning and Karypis, 2011), by irspack."""

    settings_class = SLIMSettings
    settings: SLIMSettings

    def learn(self, interactions: sparse.csr_matrix) -> tuple[Matrix, Matrix]:
        """Interactions, and sparse float32 weights."""
        from irspack.recommenders import SLIMRecommender

        model = SLIMRecommender(
            interactions.astype(np.float64),
            alpha=self.settings.alpha,
            l1_ratio=self.settings.l1_ratio,
            positive_only=True,
            top_k=self.settings.top_weights,
            n_threads=1,  # several threads give other last digits every time
        )
        model.learn()
        return interactions, sparse.csr_matrix(model.W, dtype=np.float32)
