"""A linear model from what users took early to what they took later."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from scipy import sparse
from scipy.linalg.lapack import dposv

from pipeline.data.dataset import Dataset
from pipeline.data.values import Values
from pipeline.errors import UserError
from pipeline.models.costs import FLOPS, Cost
from pipeline.models.linear import (
    VALUES,
    InteractionSettings,
    LinearRecommender,
    Matrix,
    mean_diagonal,
)
from pipeline.space import Choice, Range, Space

Float: TypeAlias = npt.NDArray[np.float64]
Factors: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]  # of users, of items

log = logging.getLogger("pipeline")

CUTS = (0.2, 0.4, 0.6, 0.8)  # shares of a history that are its past, one after another
LEAST_SHARE = 1 / 3  # of the median history, below which a past tells too little to learn from
POWER = 2  # what is aimed at is the value to this power: whether it was liked counts
MOST_PAUSES = 2 * len(CUTS)  # of a history, or who came a thousand times would outweigh the others
HOUR = 3600  # seconds
ITEM = 1.5e-5  # seconds that an item takes beside its products

BEFORE = {"values": "ratings", "ridge": 1e4, "ease_share": 3.0, "ease_regularization": 1e5}
"""What was left out meant this when all penalties were plain numbers."""


class SequentialRidgeSettings(InteractionSettings):
    """Ridge regression of later interactions on earlier ones."""

    values: Values = "auto"
    components: int = Field(48, ge=1)
    """Singular vectors that a history is projected on."""
    ridge: float | None = Field(None, gt=0)
    """L2 penalty of the regression as a plain number; none: ``ridge_penalty`` counts."""
    ridge_penalty: float = Field(5.0, gt=0)
    """That penalty in multiples of the mean diagonal of X^T X."""
    ease_share: float | None = Field(None, ge=0)
    """Weight of EASE, which knows no order, as a plain number; none: ``ease_weight`` counts."""
    ease_weight: float = Field(0.75, ge=0)
    """Weight of EASE, with the regression's aims brought to the size of the values."""
    ease_regularization: float | None = Field(None, gt=0)
    """EASE's L2 penalty as a plain number; none: ``ease_penalty`` counts."""
    ease_penalty: float = Field(50.0, gt=0)
    """EASE's L2 penalty in multiples of the mean diagonal of X^T X."""
    least_past: int | None = Field(None, ge=1)
    """Interactions that a past needs in order to count; none: a third of the median history."""
    pause_hours: float | None = Field(None, gt=0)
    """Cut histories at pauses of so many hours, too; none: at shares of their length alone."""
    pause_weight: float = Field(0.5, gt=0)
    """Weight of a cut at a pause; one at a share weighs 1."""

    absolute: ClassVar[dict[str, str]] = {
        "ridge_penalty": "ridge",
        "ease_weight": "ease_share",
        "ease_penalty": "ease_regularization",
    }

    @model_validator(mode="before")
    @classmethod
    def _as_before(cls, values: Any) -> Any:
        """Settings in plain numbers alone are of before, and mean what they did then."""
        if not isinstance(values, Mapping):
            return values
        plain = [values[name] for name in cls.absolute.values() if name in values]
        given = any(str(value).lower() not in ("none", "null") for value in plain)
        if not given or any(name in values for name in cls.absolute):
            return values
        return {**BEFORE, "least_past": 30, **values}


class SequentialRidge(LinearRecommender):
    """Ridge regression of what users took later on what they took before, with a share of EASE.

    X holds the values, V its leading right singular vectors and s the singular values. A user's
    training history is put in the order of time (ties by item) and cut at several shares c of its
    length, and at pauses if asked for. What lies before a cut is the past z_uc = x_uc V; users with
    a short past, or with one moment for everything, are left out. For item j, over all pairs (u, c)
    of weight w where j is not in the past, because an item that is in it cannot come later and is
    missing rather than refused:

        b_j = (sum w z z^T + ridge I)^-1 sum w z y,  y = value^2 where j comes later, else 0
        e_j = h V_j / (1 - sum h V_j^2),             h = s^2 / (s^2 + ease_regularization)
        score(u, j) = x_u V . (b_j + ease_share e_j)

    The penalties are ``ridge_penalty`` and ``ease_penalty`` times the mean diagonal of X^T X, and
    ease_share is ``ease_weight`` times sum value^2 / sum |value|: b then grows with the square of
    the values and e with the values, so that the weight means the same on every scale.

    e is EASE (Steck, 2019) of the matrix that V and s make up, but for its zero diagonal. The
    nearest published model is SLIST (Choi et al., 2021): one regression, over items rather than
    components, of whole sessions on themselves and of their futures on their pasts.

    The whole gain over EASE is order: with the moments of each history shuffled, it loses .036 of
    NDCG on the windows of MovieLens-1M and .031 on its test, and is no better than EASE. There,
    55 % of the training rows share their second with the user's next, so part of that order may be
    how MovieLens presented its films rather than what people wanted next.
    """

    settings_class = SequentialRidgeSettings
    space: ClassVar[Space] = {
        "values": VALUES,
        "components": Range(low=8, high=160, log=True),
        "ridge_penalty": Range(low=0.1, high=1e3, log=True),
        "ease_weight": Range(low=0, high=2),
        "ease_penalty": Range(low=1, high=1e3, log=True),
        "pause_hours": Choice(choices=("none", 1)),
    }
    settings: SequentialRidgeSettings

    def cost(self, dataset: Dataset) -> Cost:
        """A row for every interaction of every cut history; a small solution for every item."""
        rank = min(self.settings.components, dataset.n_users, dataset.n_items)
        interactions = dataset.n_interactions
        rows = len(CUTS) * interactions
        return Cost(
            f"sequential_ridge of {dataset.n_users:,} users, {dataset.n_items:,} items and "
            f"{interactions:,} interactions",
            (rows * rank**2 + dataset.n_items * rank**3) / FLOPS + ITEM * dataset.n_items,
            60 * rows + 24 * rank * (dataset.n_users + dataset.n_items),
            "Take als or svd, which keep no cut histories, or lower components.",
        )

    def learn(self, dataset: Dataset) -> tuple[Matrix, Matrix]:
        """The factors, those of items transposed."""
        users, items = self.factors(dataset)
        return users, np.ascontiguousarray(items.T)

    def factors(self, dataset: Dataset) -> Factors:
        """x_u V and b + ease_share e, float32 [n_users, components] and [n_items, components].

        Raises:
            UserError: the penalty of the regression is too small.
        """
        from sklearn.utils.extmath import randomized_svd

        settings = self.settings
        interactions = settings.interactions(dataset)
        ridge, ease_share, ease_regularization = plain_numbers(settings, interactions)
        rank = min(settings.components, *interactions.shape)
        _, values, axes = randomized_svd(interactions, rank, n_iter=5, random_state=self.seed)
        axes = axes.T.astype(np.float64)
        power = values.astype(np.float64) ** 2
        shrunk = axes * (power / (power + ease_regularization))
        ease = shrunk / (1 - (shrunk * axes).sum(1, keepdims=True))
        cuts = _cuts(dataset, settings)
        if not len(cuts.users):
            log.warning(
                "sequential_ridge on %s: no history has different times and enough of a past, so "
                "nothing tells what comes after what: its share of EASE, %g, is all there is",
                dataset.name,
                ease_share,
            )
        later = _later_on_past(dataset, settings, cuts, axes, ridge)
        items = later + ease_share * ease
        return (interactions @ axes).astype(np.float32), items.astype(np.float32)


def plain_numbers(
    settings: SequentialRidgeSettings, interactions: sparse.csr_matrix
) -> tuple[float, float, float]:
    """ridge, ease_share and ease_regularization on these interactions X, [n_users, n_items]."""
    unit = mean_diagonal(interactions)
    sizes = np.abs(interactions.data.astype(np.float64))
    scale = float((sizes**POWER).sum()) / (float(sizes.sum()) or 1.0)
    return (
        settings.ridge_penalty * unit if settings.ridge is None else settings.ridge,
        settings.ease_weight * scale if settings.ease_share is None else settings.ease_share,
        settings.ease_penalty * unit
        if settings.ease_regularization is None
        else settings.ease_regularization,
    )


class _Cuts(NamedTuple):
    """Histories cut in two: pairs of a past and what came later."""

    users: npt.NDArray[np.int64]
    """[pairs]."""
    pasts: npt.NDArray[np.int64]
    """Interactions in the past, [pairs]."""
    weights: Float
    """[pairs]."""


def _in_time(dataset: Dataset) -> npt.NDArray[np.int64]:
    """The rows of ``train`` by user and time; stable, and they are sorted by item."""
    return np.lexsort((dataset.train["timestamp"], dataset.train["user"]))


def _cuts(dataset: Dataset, settings: SequentialRidgeSettings) -> _Cuts:
    """The cuts of every history that leave enough of a past."""
    users, moments = (
        dataset.train[name].to_numpy()[_in_time(dataset)] for name in ("user", "timestamp")
    )
    length = np.bincount(users, minlength=dataset.n_users)
    first = np.cumsum(length) - length
    last = np.maximum(first + length - 1, 0)
    everyone = np.flatnonzero((length > 0) & (moments[first] < moments[last]))
    found = [(everyone, np.ceil(cut * length[everyone]), 1.0) for cut in CUTS]
    if settings.pause_hours is not None:
        after = _after_pauses(users, moments, settings.pause_hours * HOUR)
        found.append((users[after], after - first[users[after]], settings.pause_weight))
    cuts = _Cuts(
        np.concatenate([who for who, _, _ in found]),
        np.concatenate([pasts for _, pasts, _ in found]).astype(np.int64),
        np.concatenate([np.full(len(who), weight) for who, _, weight in found]),
    )
    least = settings.least_past or max(1, round(LEAST_SHARE * float(np.median(length))))
    enough = cuts.pasts >= least
    return _Cuts(cuts.users[enough], cuts.pasts[enough], cuts.weights[enough])


def _after_pauses(
    users: npt.NDArray[np.int32], moments: npt.NDArray[np.int64], least: float
) -> npt.NDArray[np.int64]:
    """The rows that follow the longest pauses of each user, of ``least`` seconds or more."""
    pauses = np.diff(moments)
    after = 1 + np.flatnonzero((pauses >= least) & (users[1:] == users[:-1]))
    after = after[np.lexsort((-pauses[after - 1], users[after]))]  # by user, the longest first
    begins = np.searchsorted(users[after], users[after])
    return np.sort(after[np.arange(len(after)) - begins < MOST_PAUSES])


def _later_on_past(
    dataset: Dataset,
    settings: SequentialRidgeSettings,
    cuts: _Cuts,
    axes: Float,
    ridge: float,
) -> Float:
    """The regression b, [n_items, components]; zeros where nobody has enough of a past.

    Raises:
        UserError: the penalty is too small for the sums of some item to be inverted.
    """
    past, later = _pairs(dataset, settings, cuts)
    pasts, taken = past @ axes, past.tocsc()
    everyone = pasts.T @ pasts + ridge * np.eye(axes.shape[1])
    aims = later.T @ pasts
    found: Float = np.empty_like(aims)
    for item in range(dataset.n_items):  # one small product and solve each: faster than in blocks
        missing = pasts[taken.indices[taken.indptr[item] : taken.indptr[item + 1]]]
        _, found[item], failed = dposv(everyone - missing.T @ missing, aims[item])
        if failed:
            raise UserError(
                f"sequential_ridge: the sums of item {item} plus {ridge:g} I cannot be inverted. "
                f"Raise ridge, or ridge_penalty."
            )
    return found


def _pairs(
    dataset: Dataset, settings: SequentialRidgeSettings, cuts: _Cuts
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """The values before, and their squares after each cut, by the root of its weight.

    Both are [pairs, n_items]; what is worth nothing is a 0 that has a place of its own.
    """
    order = _in_time(dataset)
    items = dataset.train["item"].to_numpy()[order]
    values = dataset.train_values(settings.values, settings.positive_from)[order].astype(np.float64)
    length = np.bincount(dataset.train["user"], minlength=dataset.n_users)
    # A row for every interaction of every pair's history, pair after pair.
    size = length[cuts.users]
    pairs = np.repeat(np.arange(len(size)), size)
    place = np.arange(len(pairs)) - np.repeat(np.cumsum(size) - size, size)
    rows = place + np.repeat((np.cumsum(length) - length)[cuts.users], size)
    early = place < cuts.pasts[pairs]
    root = np.sqrt(cuts.weights)

    def matrix(chosen: npt.NDArray[np.bool_], power: int) -> sparse.csr_matrix:
        pair, row = pairs[chosen], rows[chosen]
        shape = (len(size), dataset.n_items)
        return sparse.csr_matrix((root[pair] * values[row] ** power, (pair, items[row])), shape)

    return matrix(early, 1), matrix(~early, POWER)
