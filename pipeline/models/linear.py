"""The two shapes that every model without a network has here, and what they share.

    item weights      scores = X[u] W        X: training interactions, W: item by item
    latent factors    scores = p_u q^T

Most can weigh interactions ("values"): a rating used as confidence sets a liked item apart from one
merely seen. Penalties are in units of the data, so that one number means the same on sparse and on
dense data; where a model has a field for the absolute number, too, that one counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import sparse

from pipeline.data.values import Values
from pipeline.models.base import Arrays, Recommender, Vectors
from pipeline.models.costs import announce
from pipeline.models.exposure import exposure
from pipeline.settings import Settings
from pipeline.space import Choice

if TYPE_CHECKING:
    from pipeline.data.dataset import Dataset

Matrix: TypeAlias = "sparse.csr_matrix | npt.NDArray[np.float32]"


class LinearSettings(Settings):
    """What every linear model can be asked for."""

    exposure_users: int = Field(0, ge=0)
    """Bring every item into the lists of about so many users; 0 leaves the scores alone."""


class InteractionSettings(LinearSettings):
    """What a model without a network sees of the ratings."""

    values: Values = "binary"
    """binary: every interaction counts one; ratings: as much as its rating; log: the logarithm of
    one plus its rating over the median; centred: more where the rating is above the user's mean;
    positive: one where the rating reaches positive_from, else nothing; auto: binary where all
    ratings are equal, log where they are counts such as hours or plays, else ratings."""
    positive_from: float | None = None
    """Least rating that counts with values=positive; none: the median of the training ratings."""

    def interactions(self, dataset: Dataset) -> sparse.csr_matrix:
        """The training matrix X by these values, float32 [n_users, n_items]."""
        return dataset.train_matrix(self.values, self.positive_from)


VALUES = Choice(choices=("binary", "ratings", "log", "centred", "positive"))
"""The search space of ``values``."""


def mean_diagonal(interactions: sparse.csr_matrix) -> float:
    """The mean of the diagonal of X^T X: the sum of squared values per item; 1 where X is empty.

    It is what a penalty on item weights stands beside: (X^T X + penalty mean_diagonal(X) I) is the
    same up to a factor whatever the unit of the values and however many users there are.
    """
    squares = interactions.data.astype(np.float64) ** 2
    return float(squares.sum()) / interactions.shape[1] or 1.0


class LinearRecommender(Recommender):
    """A model whose scores are the product of two matrices, learned at once."""

    settings_class = LinearSettings
    settings: LinearSettings
    left: Matrix
    """[n_users, inner]."""
    right: Matrix
    """[inner, n_items]."""

    def learn(self, dataset: Dataset) -> tuple[Matrix, Matrix]:
        """The two matrices, from the training part of ``dataset``."""
        raise NotImplementedError

    def fit(self, dataset: Dataset) -> Self:
        """Learn the two matrices; exposure adds a column to the one and a row to the other."""
        announce(self.cost(dataset))
        self.left, self.right = self.learn(dataset)
        if self.settings.exposure_users:
            lift = exposure(self.scores, dataset, self.settings.exposure_users)
            self.left = _stack(self.left, lift.users[:, None], axis=1)
            self.right = _stack(self.right, lift.items[None], axis=0)
        return self

    def scores(self, users: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """left[users] @ right, [len(users), n_items]."""
        return _product(self.left[users], self.right)

    def vectors(self) -> Vectors | None:
        """Rows and columns of the two matrices, where both are dense."""
        if isinstance(self.left, np.ndarray) and isinstance(self.right, np.ndarray):
            return Vectors(self.left, np.ascontiguousarray(self.right.T))
        return None

    def left_of(self, liked: sparse.csr_matrix) -> Matrix | None:
        """What ``left`` would hold of people who like these items; None where it is unknown."""
        return None

    def fold_in(self, liked: sparse.csr_matrix) -> npt.NDArray[np.float32] | None:
        """The product, for people who did not train; exposure lifts nothing for them."""
        left = self.left_of(liked)
        return None if left is None else _product(left, self.right[: left.shape[1]])

    def arrays(self) -> Arrays:
        """Both matrices, sparse ones as data, indices, row ends and width."""
        return {**_pack("left", self.left), **_pack("right", self.right)}

    def load_arrays(self, arrays: Arrays) -> None:
        """Take both matrices."""
        self.left, self.right = _unpack("left", arrays), _unpack("right", arrays)


class ItemBased(LinearRecommender):
    """A linear model whose left matrix is the interactions themselves."""

    def left_of(self, liked: sparse.csr_matrix) -> Matrix:
        """Liking is an interaction."""
        return liked


def _product(left: Matrix, right: Matrix) -> npt.NDArray[np.float32]:
    product = left @ right
    dense = product if isinstance(product, np.ndarray) else product.toarray()
    return np.asarray(dense, dtype=np.float32)


def _stack(matrix: Matrix, more: npt.NDArray[np.float32], axis: Literal[0, 1]) -> Matrix:
    if isinstance(matrix, np.ndarray):
        return np.concatenate([matrix, more], axis)
    stack = sparse.hstack if axis else sparse.vstack
    return stack([matrix, sparse.csr_matrix(more)], format="csr")


def _pack(name: str, matrix: Matrix) -> Arrays:
    if isinstance(matrix, np.ndarray):
        return {name: matrix}
    return {
        f"{name}.data": matrix.data,
        f"{name}.indices": matrix.indices.astype(np.int32),
        f"{name}.ends": matrix.indptr.astype(np.int64),
        f"{name}.columns": np.array([matrix.shape[1]]),
    }


def _unpack(name: str, arrays: Arrays) -> Matrix:
    if name in arrays:
        return arrays[name]
    data, indices, ends = (arrays[f"{name}.{part}"] for part in ("data", "indices", "ends"))
    shape = (len(ends) - 1, int(arrays[f"{name}.columns"][0]))
    matrix = sparse.csr_matrix((data, indices, ends), shape=shape)
    matrix.check_format(full_check=True)  # scipy follows every index, wherever it leads
    return matrix
