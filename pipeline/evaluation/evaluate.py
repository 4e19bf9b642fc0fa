"""A fitted recommender and a dataset in, top-k lists and their metrics out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.data.dataset import Dataset
from pipeline.evaluation.metrics import Evaluation, evaluate_lists
from pipeline.evaluation.ranking import Scorer, rank
from pipeline.models.base import Recommender
from pipeline.models.popularity import MostPopular


@dataclass(frozen=True)
class Ranked:
    """Lists of the evaluated users and what they are worth."""

    users: npt.NDArray[np.int32]
    """User indices, [n]."""
    lists: npt.NDArray[np.int32]
    """Item indices, [n, max k], best first, -1 where no unseen item was left."""
    evaluation: Evaluation


def evaluate(recommender: Recommender, dataset: Dataset, ks: Sequence[int]) -> Ranked:
    """Rank the whole catalogue for every warm user and compare with what they took later."""
    users, longest = dataset.test_users, max(ks)
    seen = dataset.seen if recommender.masks_seen else None
    lists = rank(recommender, users, seen, longest, dataset.n_items)
    evaluation = evaluate_lists(
        lists,
        dataset.held_out,
        popular=popular_lists(dataset, longest),
        popularity=dataset.popularity,
        n_training_users=dataset.n_users,
        ks=ks,
    )
    return Ranked(users, lists, evaluation)


def popular_lists(dataset: Dataset, k: int) -> npt.NDArray[np.int32]:
    """The most popular items that each evaluated user has not seen, [n, k]."""
    popular: Scorer = MostPopular(MostPopular.settings_class(), seed=0).fit(dataset)
    return rank(popular, dataset.test_users, dataset.seen, k, dataset.n_items)


def recommendations(ranked: Ranked, dataset: Dataset) -> pd.DataFrame:
    """The lists in people's terms: user, rank (from 1), item, title, hit; one row per place."""
    rows, places = np.nonzero(ranked.lists >= 0)
    items = ranked.lists[rows, places]
    catalogue = dataset.items
    return pd.DataFrame(
        {
            "user": dataset.users["user"].to_numpy()[ranked.users[rows]],
            "rank": (places + 1).astype(np.int32),
            "item": catalogue["item"].to_numpy()[items],
            "title": catalogue["title"].to_numpy()[items],
            "hit": np.asarray(dataset.held_out[rows, items]).ravel() > 0,
        }
    )
