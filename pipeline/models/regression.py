"""Item weights by regression of every item on all others: EASE and SLIM."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import sparse
from scipy.linalg.lapack import spotrf, spotri

from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from pipeline.models.linear import VALUES, InteractionSettings, ItemBased, Matrix
from pipeline.space import Range, Space

Dense: TypeAlias = npt.NDArray[np.float32]


class EASESettings(InteractionSettings):
    """EASE."""

    regularization: float = Field(108_727.0, gt=0)
    """Lambda, the L2 penalty."""
    divide: Literal["columns", "rows"] = "columns"
    """columns: Steck's formula; rows: the notebook's."""


class EASE(ItemBased):
    """Ridge regression of each item on the others, in closed form (Steck, 2019).

    P = (X^T X + lambda I)^-1, W_ij = -P_ij / P_jj for i != j, W_ii = 0. With ``divide`` "rows" it
    is -P_ij / P_ii, as the notebook had it.
    """

    settings_class = EASESettings
    space: ClassVar[Space] = {
        "values": VALUES,
        "regularization": Range(low=1e4, high=1e7, log=True),
    }
    settings: EASESettings

    def learn(self, dataset: Dataset) -> tuple[Matrix, Matrix]:
        """Interactions, and dense float32 weights."""
        interactions = dataset.train_matrix(self.settings.values)
        weights = _inverse(dataset.gram(self.settings.values), self.settings.regularization)
        diagonal = np.diag(weights).copy()
        weights /= -diagonal[:, None] if self.settings.divide == "rows" else -diagonal
        np.fill_diagonal(weights, 0.0)
        return interactions, weights


def _inverse(gram: Dense, regularization: float) -> Dense:
    """(gram + regularization I)^-1 by LAPACK's Cholesky, a new matrix [n, n] in C order.

    Raises:
        UserError: in float32 the sum is not positive definite.
    """
    inverse = gram.copy()
    inverse[np.diag_indices_from(inverse)] += regularization
    # LAPACK wants columns, so it is given the transpose, which is the same matrix, and works in it.
    factor, failed = spotrf(inverse.T, lower=True, clean=False, overwrite_a=True)
    if not failed:
        columns, failed = spotri(factor, lower=True, overwrite_c=True)
    if failed:
        raise UserError(
            f"EASE: X^T X + {regularization:g} I cannot be inverted in single precision (not "
            f"positive definite at row {failed} of {len(gram)}). Raise regularization."
        )
    inverse = np.asarray(columns.T, np.float32)  # its upper triangle
    for row in range(len(inverse)):
        inverse[row + 1 :, row] = inverse[row, row + 1 :]
    return inverse


class SLIMSettings(InteractionSettings):
    """SLIM."""

    alpha: float = Field(0.469, gt=0)
    """Strength of the elastic net's penalty."""
    l1_ratio: float = Field(0.140, ge=0, le=1)
    """Share of L1 in it."""
    top_weights: int = Field(434, ge=1)
    """Largest weights kept per item."""


class SLIM(ItemBased):
    """Sparse, non-negative weights by an elastic net (Ning and Karypis, 2011), by irspack."""

    settings_class = SLIMSettings
    space: ClassVar[Space] = {
        "values": VALUES,
        "alpha": Range(low=0.01, high=10, log=True),
        "l1_ratio": Range(low=0.01, high=1, log=True),
        "top_weights": Range(low=20, high=1000, log=True),
    }
    settings: SLIMSettings

    def learn(self, dataset: Dataset) -> tuple[Matrix, Matrix]:
        """Interactions, and sparse float32 weights."""
        from irspack.recommenders import SLIMRecommender

        interactions = dataset.train_matrix(self.settings.values)
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
