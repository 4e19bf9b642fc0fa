"""Metrics of top-k lists: accuracy against held-out items, and what accuracy does not show.

A metric is one entry of ``METRICS``: what is logged, compared, shown, explained and audited follows
from it. Relevance is binary. R_u are the held-out items of user u, L_u is the list of u cut at k.
The accuracy formulas are those of the usual full-ranking protocol; each stands in its docstring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import UserError
from pipeline.own import find

Hits = npt.NDArray[np.bool_]
"""bool[n_users, k]: whether the item at each rank of a list is in R_u."""
Lists = npt.NDArray[np.int32]
"""int32[n_users, K]: distinct item indices, best first, -1 after the end of a shorter list."""
Counts = npt.NDArray[np.int64]
"""int64[n_users] or int64[n_items]."""
PerUser = npt.NDArray[np.float64]
"""float64[n_users]: one value per user."""


@dataclass(frozen=True)
class Judged:
    """Lists cut at k, with all that metrics are made of."""

    hits: Hits
    n_relevant: Counts
    """|R_u|, int64[n_users]."""
    lists: Lists
    popular: Lists
    """Each user's k most popular unseen items."""
    popularity: Counts
    """Training users of each item, int64[n_items]."""
    n_training_users: int

    @cached_property
    def times(self) -> Counts:
        """In how many lists each item stands, int64[n_items]."""
        return np.bincount(self.lists[self.lists >= 0], minlength=len(self.popularity))


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric, and all that there is to know of it."""

    name: str
    """As it is logged, before _at_k."""
    of: Callable[[Judged], PerUser | float]
    """A value per user, or, where it is not ``per_user``, one of all lists together."""
    heading: str = ""
    """Over its column; a metric without one is logged, and in no table of a comparison."""
    meaning: str
    """In words, for a model card."""
    per_user: bool = True
    """Only what users have a value of has an interval and a test."""
    accuracy: bool = False
    """Whether it is made of hits alone, 0 without one and at most 1: models are ranked by it."""
    more_is_better: bool = False
    """Whether the highest value is the best, as it is of accuracy; where it is not, no value is."""
    most: float = 1.0
    """The largest that it can be; the least is 0."""
    counts: tuple[Literal["users", "places", "items"], ...] = ()
    """What the mean counts when it is multiplied by the numbers of these; "places" are k."""


def hit_rate(hits: Hits) -> PerUser:
    """1 if any of the k items is relevant, else 0."""
    return np.asarray(hits.any(axis=1), np.float64)


def precision(hits: Hits) -> PerUser:
    """|L_u ∩ R_u| / k, also where the list is shorter than k."""
    return np.asarray(hits.sum(axis=1) / hits.shape[1])


def recall(hits: Hits, n_relevant: Counts) -> PerUser:
    """|L_u ∩ R_u| / |R_u|."""
    return np.asarray(hits.sum(axis=1) / n_relevant)


def ndcg(hits: Hits, n_relevant: Counts) -> PerUser:
    """DCG / IDCG, with gain 1 / log2(rank + 1) of a relevant item at a rank from 1.

    IDCG is the DCG of min(|R_u|, k) relevant items in the first places.
    Source: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002.
    """
    k = hits.shape[1]
    gains = 1 / np.log2(np.arange(1, k + 1) + 1)
    ideal = np.cumsum(gains)[np.minimum(n_relevant, k) - 1]
    return np.asarray((hits * gains).sum(axis=1) / ideal)


def average_precision(hits: Hits, n_relevant: Counts) -> PerUser:
    """(sum of precision@i over ranks i <= k of relevant items) / min(|R_u|, k); its mean is MAP."""
    k = hits.shape[1]
    precisions = hits.cumsum(axis=1) / np.arange(1, k + 1)
    return np.asarray((precisions * hits).sum(axis=1) / np.minimum(n_relevant, k))


def reciprocal_rank(hits: Hits) -> PerUser:
    """1 / rank of the first relevant item, 0 if there is none; its mean is MRR (Voorhees, 1999)."""
    return np.asarray(hits.any(axis=1) / (1 + hits.argmax(axis=1)))


def popularity_overlap(lists: Lists, popular: Lists) -> PerUser:
    """|L_u ∩ P_u| / |L_u|, P_u the k most popular items that u has not seen; NaN for an empty list.

    1 where the list is the popularity list, in whatever order.
    """
    return _mean_over_list(_shared(lists, popular), lists >= 0)


def novelty(lists: Lists, popularity: Counts, n_training_users: int) -> PerUser:
    """Mean over L_u of -log2(popularity / n_training_users), in bits; NaN for an empty list.

    An item without training users counts as if it had one: it is as novel as the rarest known
    item, and one such item does not make the mean infinite.
    Source: Zhou et al., "Solving the apparent diversity-accuracy dilemma of recommender
    systems", 2010 (self-information).
    """
    surprise = np.log2(n_training_users / np.maximum(popularity, 1))
    return _mean_over_list(surprise[lists], lists >= 0)


def average_popularity(lists: Lists, popularity: Counts) -> PerUser:
    """Mean over L_u of the item's training users; NaN for an empty list.

    Source: Yin et al., "Challenging the long tail recommendation", 2012.
    """
    return _mean_over_list(popularity[lists], lists >= 0)


def coverage(times: Counts) -> float:
    """Distinct recommended items / items of the catalogue.

    ``times``, int64[n_items], is in how many lists each item stands.
    """
    return float(np.count_nonzero(times) / len(times))


def gini(times: Counts) -> float:
    """Gini coefficient of how often each item of the catalogue is recommended.

    sum over i of (2 i - n - 1) x_i / (n sum x), with x_1 <= ... <= x_n the ``times`` of all n
    items, never recommended ones included: 0 when all are recommended equally often, 1 - k / n
    when everyone gets the same list. Source: LensKit's ListGini; Gini, 1912.
    """
    n = len(times)
    weights = 2 * np.arange(1, n + 1) - n - 1
    return float((weights * np.sort(times)).sum() / (n * times.sum()))


def personalization(times: Counts, n_users: int, k: int) -> float:
    """1 - mean over pairs of users of |L_u ∩ L_v| / k; 0 when all full lists hold the same items.

    An item in c lists is shared by c (c - 1) / 2 pairs, so counts suffice. A single user has
    nobody to differ from: 0.
    """
    if n_users == 1:
        return 0.0
    return 1.0 - float((times * (times - 1)).sum() / (n_users * (n_users - 1) * k))


def _shared(lists: Lists, others: Lists) -> npt.NDArray[np.bool_]:
    """Which items of each list are in the other list of the same row, too."""
    shared = np.zeros(lists.shape, np.bool_)
    for column in others.T:
        shared |= lists == column[:, None]
    return shared & (lists >= 0)


def _mean_over_list(values: npt.NDArray[np.generic], listed: npt.NDArray[np.bool_]) -> PerUser:
    """Mean of ``values`` over the places of each list that hold an item; NaN if none does."""
    lengths = listed.sum(axis=1)
    totals = np.where(listed, values, 0.0).sum(axis=1)
    means = np.full(len(lengths), np.nan)
    np.divide(totals, lengths, out=means, where=lengths > 0)
    return means


BUILT_IN = (
    Metric(
        name="ndcg",
        of=lambda judged: ndcg(judged.hits, judged.n_relevant),
        heading="NDCG",
        meaning="hits, the higher in the list the better; 1 is the best list there can be",
        accuracy=True,
    ),
    Metric(
        name="hit_rate",
        of=lambda judged: hit_rate(judged.hits),
        heading="HR",
        meaning="share of users with a hit in their list",
        accuracy=True,
        counts=("users",),
    ),
    Metric(
        name="precision",
        of=lambda judged: precision(judged.hits),
        heading="prec.",
        meaning="share of a list that are hits",
        accuracy=True,
        counts=("users", "places"),
    ),
    Metric(
        name="recall",
        of=lambda judged: recall(judged.hits, judged.n_relevant),
        heading="recall",
        meaning="share of what a user took later that is in the list",
        accuracy=True,
    ),
    Metric(
        name="map",
        of=lambda judged: average_precision(judged.hits, judged.n_relevant),
        heading="MAP",
        meaning="mean of the precision at the place of each hit",
        accuracy=True,
    ),
    Metric(
        name="mrr",
        of=lambda judged: reciprocal_rank(judged.hits),
        heading="MRR",
        meaning="one over the place of the first hit, 0 without one",
        accuracy=True,
    ),
    Metric(
        name="coverage",
        of=lambda judged: coverage(judged.times),
        heading="cover.",
        meaning="share of the catalogue that is in any list",
        per_user=False,
        more_is_better=True,
        counts=("items",),
    ),
    Metric(
        name="popularity_overlap",
        of=lambda judged: popularity_overlap(judged.lists, judged.popular),
        heading="popular",
        meaning="share of a list that are the user's most popular unseen items",
    ),
    Metric(
        name="novelty",
        of=lambda judged: novelty(judged.lists, judged.popularity, judged.n_training_users),
        meaning="mean surprise of the items in a list, in bits: the rarer, the more",
        most=np.inf,
    ),
    Metric(
        name="average_popularity",
        of=lambda judged: average_popularity(judged.lists, judged.popularity),
        meaning="mean number of training users of the items in a list",
        most=np.inf,
    ),
    Metric(
        name="personalization",
        of=lambda judged: personalization(judged.times, *judged.lists.shape),
        meaning="how little the lists of two users share, from 0 to 1",
        per_user=False,
    ),
    Metric(
        name="gini",
        of=lambda judged: gini(judged.times),
        meaning="how unevenly items are recommended, from 0 to 1",
        per_user=False,
    ),
)
"""Those that every evaluation has, in the order in which they are shown."""
METRICS = [*BUILT_IN]
"""All that are known here: those of one's own come behind."""
HEADLINE = ("ndcg", "hit_rate", "coverage", "popularity_overlap")
"""What is shown of a model where there is room for four."""
BY_NAME = {metric.name: metric for metric in METRICS}


def use_own(name: str) -> Metric:
    """The metric of one's own with this import path, which is known from now on.

    Raises:
        UserError: there is no such metric, or another one has its name.
    """
    own: Metric = find(name, "metric", lambda each: isinstance(each, Metric))
    if BY_NAME.setdefault(own.name, own) is not own:
        raise UserError(f"metric={name}: there is another metric {own.name}: name it otherwise.")
    if own not in METRICS:
        METRICS.append(own)
    return own


def bounds(metrics: Iterable[Metric]) -> npt.NDArray[np.float64]:
    """The least and the most that metrics can be, float64[n, 2]."""
    return np.array([(0.0, metric.most) for metric in metrics]).reshape(-1, 2)
