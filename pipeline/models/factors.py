"""Latent factors: truncated SVD and alternating least squares."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
from pydantic import Field
from scipy import sparse

from pipeline.data.dataset import Dataset
from pipeline.data.values import Values
from pipeline.models.costs import THIN_FLOPS, Cost
from pipeline.models.linear import VALUES, InteractionSettings, LinearRecommender, Matrix
from pipeline.space import Range, Space

OVERSAMPLES = 10  # components more than are asked for, in the randomized solver


class SVDSettings(InteractionSettings):
    """Truncated SVD of the interactions."""

    values: Values = "auto"
    components: int = Field(5, ge=1)
    """Singular values kept."""
    iterations: int = Field(42, ge=1)
    """Power iterations of the randomized solver (Halko et al., 2011)."""


class SVD(LinearRecommender):
    """X ~ U S V^T with few components; scores are the reconstruction (Cremonesi et al., 2010)."""

    settings_class = SVDSettings
    space: ClassVar[Space] = {"values": VALUES, "components": Range(low=2, high=160, log=True)}
    settings: SVDSettings

    def cost(self, dataset: Dataset) -> Cost:
        """X and its transpose; two blocks of vectors per side, and the factors of each."""
        return _cost("SVD", dataset, self.settings.components + OVERSAMPLES, SVD_WORK,
                     self.settings.iterations)  # fmt: skip

    def learn(self, dataset: Dataset) -> tuple[Matrix, Matrix]:
        """U S and V^T."""
        from sklearn.utils.extmath import randomized_svd

        interactions = self.settings.interactions(dataset)
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
    regularization: float | None = Field(None, ge=0)
    """L2 penalty as a plain number; none: ``penalty`` counts."""
    penalty: float = Field(1.0, ge=0)
    """L2 penalty in multiples of the typical singular value of the confidences."""
    iterations: int = Field(21, ge=1)
    """Alternations."""
    alpha: float | None = Field(None, gt=0)
    """Interactions are multiplied by it, and the product is the confidence; none: ``balance``
    counts."""
    balance: float = Field(0.05, gt=0)
    """The confidence of all interactions together, as a share of that of all other cells."""

    absolute: ClassVar[dict[str, str]] = {"penalty": "regularization", "balance": "alpha"}


class ALS(LinearRecommender):
    """Weighted matrix factorisation over all cells (Hu, Koren and Volinsky, 2008), by implicit.

    With equal weights, an L2 penalty on both sides of a factorisation is one on the sum of singular
    values (Srebro, Rennie and Jaakkola, 2005), and takes from each singular value of the matrix as
    much as the penalty is (Mazumder, Hastie and Tibshirani, 2010). So ``penalty`` is in units of
    a typical one. Confidences are weighed against the other cells, which have 1 each: a ``balance``
    of 1 gives both sides the same weight in all (Johnson, 2014).
    """

    settings_class = ALSSettings
    space: ClassVar[Space] = {
        "values": VALUES,
        "factors": Range(low=2, high=160, log=True),
        "penalty": Range(low=1e-3, high=1e1, log=True),
        "iterations": Range(low=5, high=100, log=True),
        "balance": Range(low=1e-3, high=1, log=True),
    }
    settings: ALSSettings

    def cost(self, dataset: Dataset) -> Cost:
        """Confidences in double precision, both ways, and the vectors."""
        return _cost("ALS", dataset, self.settings.factors, ALS_WORK, self.settings.iterations)

    def learn(self, dataset: Dataset) -> tuple[Matrix, Matrix]:
        """Vectors of users and, transposed, of items."""
        from implicit.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits

        interactions = self.settings.interactions(dataset)
        alpha, regularization = plain_numbers(self.settings, interactions)
        confidence = (interactions * alpha).astype(np.float64)
        # implicit has threads of its own; BLAS threads inside each would fight them.
        with threadpool_limits(1, user_api="blas"):
            model = AlternatingLeastSquares(
                factors=min(self.settings.factors, *interactions.shape),
                regularization=regularization,
                iterations=self.settings.iterations,
                random_state=self.seed,
                dtype=np.float64,
                use_gpu=False,
            )
            model.fit(confidence, show_progress=False)
        return model.user_factors.astype(np.float32), model.item_factors.T.astype(np.float32)


class _Work(NamedTuple):
    """Of one iteration, for each number of a vector; and the bytes that it takes."""

    of_interaction: int
    """Operations."""
    of_row: int
    """Operations for each pair of numbers of a user's or an item's vector."""
    bytes_of_interaction: int


SVD_WORK, ALS_WORK = _Work(4, 6, 8), _Work(16, 8, 36)
BYTES_OF_NUMBER = 12  # of a vector: in double precision and as it is kept, or thrice in single


def _cost(what: str, dataset: Dataset, width: int, work: _Work, iterations: int) -> Cost:
    rows, interactions = dataset.n_users + dataset.n_items, dataset.n_interactions
    width = min(width, dataset.n_users, dataset.n_items)
    operations = work.of_interaction * interactions * width + work.of_row * rows * width**2
    return Cost(
        f"{what} of {dataset.n_users:,} users, {dataset.n_items:,} items and {interactions:,} "
        f"interactions",
        iterations * operations / THIN_FLOPS,
        work.bytes_of_interaction * interactions + BYTES_OF_NUMBER * rows * width,
        f"Take vectors of fewer numbers (now {width}): memory grows with them.",
    )


def plain_numbers(settings: ALSSettings, interactions: sparse.csr_matrix) -> tuple[float, float]:
    """alpha and regularization on these interactions, [n_users, n_items]."""
    alpha = settings.alpha
    if alpha is None:
        others = max(1, interactions.shape[0] * interactions.shape[1] - interactions.nnz)
        total = float(np.abs(interactions.data.astype(np.float64)).sum())
        alpha = settings.balance * others / (total or 1.0)
    if settings.regularization is not None:
        return alpha, settings.regularization
    return alpha, settings.penalty * alpha * typical_singular_value(interactions)


def typical_singular_value(matrix: sparse.csr_matrix) -> float:
    """The root of the mean square of the singular values of ``matrix``, [n, m]; 1 where it is 0.

    It is the root of the sum of squared entries over min(n, m).
    """
    squares = float((matrix.data.astype(np.float64) ** 2).sum())
    return float(np.sqrt(squares / min(matrix.shape))) or 1.0
