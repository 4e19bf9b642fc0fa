"""Where GMF may start in the place of noise: at two factors of the scores of another model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.models.sequential import Factors, SequentialRidge, SequentialRidgeSettings

if TYPE_CHECKING:
    from pipeline.data.dataset import Dataset
    from pipeline.models.ncf import NCFSettings

START = ("start_ridge", "start_ease_share", "start_ease_regularization")
TINY = 1e-12  # keeps what is all zeros from being divided by


def start_factors(settings: NCFSettings, dataset: Dataset, rank: int, seed: int) -> Factors:
    """Of the model that ``settings.start`` names: [n_users, rank] and [n_items, rank]."""
    find = _svd if settings.start == "svd" else _sequential_ridge
    return find(settings, dataset, rank, seed)


def _svd(settings: NCFSettings, dataset: Dataset, rank: int, seed: int) -> Factors:
    """X ~ U S V^T, with S split evenly."""
    from sklearn.utils.extmath import randomized_svd

    left, values, right = randomized_svd(
        dataset.train_matrix(settings.values), rank, n_iter=10, random_state=seed
    )
    root = np.sqrt(values)
    return left * root, right.T * root


def _sequential_ridge(settings: NCFSettings, dataset: Dataset, rank: int, seed: int) -> Factors:
    """sequential_ridge's factors, each component as large in users as in items."""
    start = settings.model_dump(include=set(START), exclude_none=True)
    given = {name.removeprefix("start_"): value for name, value in start.items()}
    chosen = SequentialRidgeSettings(values=settings.values, components=rank, **given)
    users, items = SequentialRidge(chosen, seed).factors(dataset)
    norms = [np.linalg.norm(side, axis=0) + TINY for side in (users, items)]
    balance = np.sqrt(norms[1] / norms[0])
    # How large the scores are depends on the ratings and the penalties, and a loss on logits
    # minds. One constant for all makes their mean square 1 and leaves every order as it is.
    mean_square = ((users.T @ users) * (items.T @ items)).sum() / (len(users) * len(items))
    scale = (mean_square + TINY) ** -0.25
    return users * balance * scale, items / balance * scale
