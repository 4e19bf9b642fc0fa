"""A linear model from what users took early to what they took later."""

from __future__ import annotations

from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import sparse
from scipy.linalg.lapack import dposv

from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from pipeline.models.linear import LinearRecommender, LinearSettings, Matrix
from pipeline.space import Range, Space

Float: TypeAlias = npt.NDArray[np.float64]
Factors: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]  # of users, of items

CUTS = (0.2, 0.4, 0.6, 0.8)  # shares of a history that are its past, one after another
LEAST_PAST = 30  # interactions below which a past tells too little to learn from
RATING_POWER = 2  # what is aimed at is the rating to this power: whether it was liked counts


class SequentialRidgeSettings(LinearSettings):
    """Ridge regression of later ratings on earlier ones."""

    components: int = Field(48, ge=1)
    """Singular vectors that a history is told in."""
    ridge: float = Field(1e4, gt=0)
    """L2 penalty of the regression."""
    ease_share: float = Field(3.0, ge=0)
    """Weight of EASE, which knows no order, beside the regression."""
    ease_regularization: float = Field(1e5, gt=0)
    """EASE's L2 penalty."""


class SequentialRidge(LinearRecommender):
    """Ridge regression of what users took later on what they took before, with a share of EASE.

    X holds the ratings, V its leading right singular vectors and s the singular values. A user's
    training history is put in the order of time (ties by item) and cut at several shares c of its
    length. What lies before the cut is the past z_uc = x_uc V; users with a short past are left
    out. For item j, over all pairs (u, c) where j is not in the past, because an item that is in
    it cannot come later and is missing rather than refused:

        b_j = (sum z z^T + ridge I)^-1 sum z y,  y = rating^2 where j comes later, else 0
        e_j = h V_j / (1 - sum h V_j^2),         h = s^2 / (s^2 + ease_regularization)
        score(u, j) = x_u V . (b_j + ease_share e_j)

    e is EASE (Steck, 2019) of the matrix that V and s make up, but for its zero diagonal. The
    nearest published model is SLIST (Choi et al., 2021): one regression, over items rather than
    components, of whole sessions on themselves and of their futures on their pasts.

    What it gains over EASE lies in the order of the ratings, and part of that order may be how
    MovieLens presented its films rather than what people wanted next.
    """

    settings_class = SequentialRidgeSettings
    space: ClassVar[Space] = {
        "components": Range(low=8, high=128, log=True),
        "ridge": Range(low=1e3, high=1e6, log=True),
        "ease_share": Range(low=0, high=5),
        "ease_regularization": Range(low=1e4, high=1e6, log=True),
    }
    settings: SequentialRidgeSettings

    def learn(self, dataset: Dataset) -> tuple[Matrix, Matrix]:
        """The factors, those of items transposed."""
        users, items = self.factors(dataset)
        return users, np.ascontiguousarray(items.T)

    def factors(self, dataset: Dataset) -> Factors:
        """x_u V and b + ease_share e, float32 [n_users, components] and [n_items, components]."""
        from sklearn.utils.extmath import randomized_svd

        ratings = dataset.train_matrix("ratings")
        rank = min(self.settings.components, *ratings.shape)
        _, values, axes = randomized_svd(ratings, rank, n_iter=5, random_state=self.seed)
        axes = axes.T.astype(np.float64)
        power = values.astype(np.float64) ** 2
        shrunk = axes * (power / (power + self.settings.ease_regularization))
        ease = shrunk / (1 - (shrunk * axes).sum(1, keepdims=True))
        later = _later_on_past(dataset, axes, self.settings.ridge)
        items = later + self.settings.ease_share * ease
        return (ratings @ axes).astype(np.float32), items.astype(np.float32)


def _later_on_past(dataset: Dataset, axes: Float, ridge: float) -> Float:
    """The regression b, [n_items, components]; zeros where nobody has enough of a past.

    Raises:
        UserError: the penalty is too small for the sums of some item to be inverted.
    """
    pasts, taken, later = _pairs(dataset, axes)
    everyone = pasts.T @ pasts + ridge * np.eye(axes.shape[1])
    aims = later.T @ pasts
    found: Float = np.empty_like(aims)
    for item in range(dataset.n_items):  # one small product and solve each: faster than in blocks
        missing = pasts[taken.indices[taken.indptr[item] : taken.indptr[item + 1]]]
        _, found[item], failed = dposv(everyone - missing.T @ missing, aims[item])
        if failed:
            raise UserError(
                f"sequential_ridge: the sums of item {item} plus {ridge:g} I cannot be inverted. "
                f"Raise ridge."
            )
    return found


def _pairs(dataset: Dataset, axes: Float) -> tuple[Float, sparse.csc_matrix, sparse.csr_matrix]:
    """Every user with every cut of the own history.

    Returns:
        pasts z, [pairs, components]; zeros, which add to no sum, where the past is too short;
        the ratings in them, [pairs, n_items];
        rating^2 of what came later, [pairs, n_items].
    """
    rows = dataset.train
    order = np.lexsort((rows["timestamp"], rows["user"]))  # stable, and they are sorted by item
    users, items = (rows[name].to_numpy()[order] for name in ("user", "item"))
    ratings = rows["rating"].to_numpy(np.float64)[order]
    length = np.bincount(users, minlength=dataset.n_users)
    place = np.arange(len(users)) - (np.cumsum(length) - length)[users]
    early = place < np.outer(CUTS, length[users])
    pairs = users + dataset.n_users * np.arange(len(CUTS))[:, None]
    shape = (len(CUTS) * dataset.n_users, dataset.n_items)

    def matrix(chosen: npt.NDArray[np.bool_], power: int) -> sparse.csr_matrix:
        _, places = np.nonzero(chosen)
        return sparse.csr_matrix(
            (ratings[places] ** power, (pairs[chosen], items[places])), shape=shape
        )

    past = matrix(early, 1)
    enough = np.diff(past.indptr) >= LEAST_PAST
    return (past @ axes) * enough[:, None], past.tocsc(), matrix(~early, RATING_POWER)
