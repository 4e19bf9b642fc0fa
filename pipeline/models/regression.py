"""Item weights by regression of every item on all others: EASE and SLIM."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import sparse
from scipy.linalg.lapack import get_lapack_funcs

from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from pipeline.models.base import Arrays
from pipeline.models.costs import PRODUCTS, Cost, pairs_of_interactions
from pipeline.models.linear import VALUES, InteractionSettings, ItemBased, Matrix, mean_diagonal
from pipeline.space import Range, Space

Dense: TypeAlias = npt.NDArray[np.float32]
Square: TypeAlias = npt.NDArray[np.floating]

FEW_USERS = 0.5  # per item, below which their side is the smaller one in time and in memory
INVERSIONS = 5e10  # n^3 of them a second, by LAPACK on one core
UPDATES = 1.5e8  # of a weight by an interaction a second, in the elastic net
VISIT = 50  # updates that it takes to look at a weight that stays 0


class EASESettings(InteractionSettings):
    """EASE."""

    regularization: float | None = Field(None, gt=0)
    """Lambda, the L2 penalty, as a plain number; none: ``penalty`` counts."""
    penalty: float = Field(30.0, gt=0)
    """The L2 penalty in multiples of the mean diagonal of X^T X."""
    divide: Literal["columns", "rows"] = "columns"
    """columns: Steck's formula; rows: the notebook's."""

    absolute: ClassVar[dict[str, str]] = {"penalty": "regularization"}


class EASE(ItemBased):
    """Ridge regression of each item on the others, in closed form (Steck, 2019).

    P = (X^T X + lambda I)^-1, W_ij = -P_ij / P_jj for i != j, W_ii = 0. With ``divide`` "rows" it
    is -P_ij / P_ii, as the notebook had it.

    Where users are few beside items it is the same by their Gram matrix (the identity of Woodbury):

        lambda P = I - X^T F^T,   F = X^T (X X^T + lambda I)^-1,   q_j = sum_u X_uj F_ju
        x W = ((x F) X - x diag(q)) diag(1 / (1 - q))

    so that W, which has n_items^2 entries, need not be made.
    """

    settings_class = EASESettings
    space: ClassVar[Space] = {
        "values": VALUES,
        "penalty": Range(low=0.03, high=3e4, log=True),
    }
    settings: EASESettings
    folding: Dense | None = None
    """F, [n_items, n_users], where the solution is by users."""

    def cost(self, dataset: Dataset) -> Cost:
        """X^T X or X X^T, sparse and then dense, its inverse, and F where there is one."""
        n_users, n_items = dataset.n_users, dataset.n_items
        small, pairs = n_items, pairs_of_interactions(dataset.activity)
        memory = max(8 * small**2, 4 * small**2 + 12 * min(small**2, pairs))
        if _by_users(dataset):
            small, pairs = n_users, pairs_of_interactions(dataset.popularity)
            memory = 28 * small**2 + 12 * n_users * n_items
        return Cost(
            f"EASE of {n_items:,} items and {n_users:,} users",
            small**3 / INVERSIONS + pairs / PRODUCTS,
            memory,
            "Take als, svd or two_tower, which need far less, or fewer items.",
        )

    def learn(self, dataset: Dataset) -> tuple[Matrix, Matrix]:
        """Interactions, and dense float32 weights; or the factors of the docstring."""
        interactions = self.settings.interactions(dataset)
        penalty = self.settings.regularization
        if penalty is None:
            penalty = self.settings.penalty * mean_diagonal(interactions)
        self.folding = None
        if _by_users(dataset):
            return self._by_users(interactions, penalty)
        gram = dataset.gram(self.settings.values, self.settings.positive_from)
        weights = _inverse(gram, penalty)
        diagonal = np.diag(weights).copy()
        weights /= -diagonal[:, None] if self.settings.divide == "rows" else -diagonal
        np.fill_diagonal(weights, 0.0)
        return interactions, weights

    def _by_users(self, interactions: sparse.csr_matrix, penalty: float) -> tuple[Matrix, Matrix]:
        """[X F, X] and [X; -diag(q)], divided; in double precision until they are stored."""
        exact = interactions.astype(np.float64)
        folding = exact.T @ _inverse((exact @ exact.T).toarray(), penalty)
        explained = np.asarray(exact.T.multiply(folding).sum(1)).ravel()
        own = sparse.diags(-explained / (1 - explained))
        if self.settings.divide == "rows":
            folding /= (1 - explained)[:, None]
        else:
            exact = exact @ sparse.diags(1 / (1 - explained))
        self.folding = folding.astype(np.float32)
        right = sparse.vstack([exact, own], format="csr", dtype=np.float32)
        return self.left_of(interactions), right

    def left_of(self, liked: sparse.csr_matrix) -> Matrix:
        """Liking is an interaction."""
        if self.folding is None:
            return liked
        return sparse.hstack([sparse.csr_matrix(liked @ self.folding), liked], format="csr")

    def arrays(self) -> Arrays:
        """The matrices, and F where the solution is by users."""
        more = {} if self.folding is None else {"folding": self.folding}
        return {**super().arrays(), **more}

    def load_arrays(self, arrays: Arrays) -> None:
        """Take them."""
        super().load_arrays(arrays)
        self.folding = arrays.get("folding")


def _by_users(dataset: Dataset) -> bool:
    """Whether the solution is by users, whose matrix is the smaller one."""
    return dataset.n_users < FEW_USERS * dataset.n_items


def _inverse(gram: Square, penalty: float) -> Square:
    """(gram + penalty I)^-1 by LAPACK's Cholesky, a new matrix [n, n] in C order.

    Raises:
        UserError: in this precision the sum is not positive definite.
    """
    inverse = gram.copy()
    inverse[np.diag_indices_from(inverse)] += penalty
    potrf, potri = get_lapack_funcs(("potrf", "potri"), (inverse,))
    # LAPACK wants columns, so it is given the transpose, which is the same matrix, and works in it.
    factor, failed = potrf(inverse.T, lower=True, clean=False, overwrite_a=True)
    if not failed:
        columns, failed = potri(factor, lower=True, overwrite_c=True)
    if failed:
        raise UserError(
            f"EASE: X^T X + {penalty:g} I cannot be inverted (not positive definite in floating "
            f"point numbers of {8 * gram.itemsize} bits at row {failed} of {len(gram)}). "
            f"Raise regularization, or penalty."
        )
    inverse = np.asarray(columns.T)  # its upper triangle
    for row in range(len(inverse)):
        inverse[row + 1 :, row] = inverse[row, row + 1 :]
    return inverse


class SLIMSettings(InteractionSettings):
    """SLIM."""

    alpha: float | None = Field(None, gt=0)
    """Strength of the elastic net's penalty per user, as a plain number; none: ``penalty``
    counts."""
    penalty: float = Field(1.0, gt=0)
    """That strength, for all users together, in multiples of the mean diagonal of X^T X."""
    l1_ratio: float = Field(0.140, ge=0, le=1)
    """Share of L1 in it."""
    top_weights: int = Field(434, ge=1)
    """Largest weights kept per item."""

    absolute: ClassVar[dict[str, str]] = {"penalty": "alpha"}


class SLIM(ItemBased):
    """Sparse, non-negative weights by an elastic net (Ning and Karypis, 2011), by irspack.

    1/2 |X - X W|^2 + A ((1 - l1_ratio) / 2 |W|^2 + l1_ratio |W|_1), A = alpha n_users: as the
    squares grow with the sum of squared values of an item, so does A with ``penalty``.
    """

    settings_class = SLIMSettings
    space: ClassVar[Space] = {
        "values": VALUES,
        "penalty": Range(low=0.03, high=1e2, log=True),
        "l1_ratio": Range(low=0.01, high=1, log=True),
        "top_weights": Range(low=20, high=1000, log=True),
    }
    settings: SLIMSettings

    def cost(self, dataset: Dataset) -> Cost:
        """The weights that are kept; every item visits the interactions and all others."""
        interactions, n_items = dataset.n_interactions, dataset.n_items
        return Cost(
            f"SLIM of {n_items:,} items and {interactions:,} interactions",
            n_items * (interactions + VISIT * n_items) / UPDATES,
            16 * n_items * min(self.settings.top_weights, n_items) + 24 * interactions,
            "Take als, svd or two_tower, which need far less, or fewer items.",
        )

    def learn(self, dataset: Dataset) -> tuple[Matrix, Matrix]:
        """Interactions, and sparse float32 weights."""
        from irspack.recommenders import SLIMRecommender

        interactions = self.settings.interactions(dataset)
        n_users = dataset.n_users
        alpha = self.settings.alpha
        if alpha is None:
            alpha = self.settings.penalty * mean_diagonal(interactions) / n_users
        model = SLIMRecommender(
            interactions.astype(np.float64),
            alpha=alpha,
            l1_ratio=self.settings.l1_ratio,
            positive_only=True,
            top_k=self.settings.top_weights,
            n_threads=1,  # several threads give other last digits every time
        )
        model.learn()
        return interactions, sparse.csr_matrix(model.W, dtype=np.float32)
