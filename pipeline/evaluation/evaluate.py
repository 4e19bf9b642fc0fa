"""A fitted recommender and a dataset in, top-k lists and their metrics out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from pipeline.data.dataset import Dataset, Segment
from pipeline.data.split_settings import WARM
from pipeline.errors import UserError
from pipeline.evaluation.lists import Evaluation, evaluate_lists
from pipeline.evaluation.metrics import Metric
from pipeline.evaluation.ranking import Scores, first_unseen, rank
from pipeline.evaluation.sample import drawn, sample_words
from pipeline.models.base import Recommender
from pipeline.models.popularity import MostPopular


@dataclass(frozen=True)
class Ranked:
    """Lists of the evaluated users and what they are worth."""

    users: npt.NDArray[np.int32]
    """User indices, [n]."""
    lists: npt.NDArray[np.int32]
    """Item indices, [n, max k], best first, -1 where no unseen item was left."""
    held_out: sparse.csr_matrix
    """What the users took later, [n, n_items]."""
    evaluation: Evaluation
    of: int
    """How many users the segment has: more than here, where these are a sample."""

    @property
    def sample(self) -> str | None:
        """The sample that the users are, in words; None where they are all."""
        return sample_words(len(self.users), self.of)


@dataclass(frozen=True)
class FullRanking:
    """Ranks the whole catalogue for every user of a segment, by one model after another.

    What does not depend on the model is made once: the users' masks and their popularity lists.
    """

    dataset: Dataset
    ks: Sequence[int]
    segment: str = WARM
    own: Sequence[Metric] = ()
    """Metrics of one's own, beside the usual ones."""
    sample: int | None = None
    """Users who are ranked for, drawn by the seed of the split; None: all."""

    def evaluate(self, recommender: Recommender) -> Ranked:
        """A model's lists, compared with what the users took later.

        Users that did not train get what a deployment would give them: the most popular items.

        Raises:
            UserError: the segment has no users.
        """
        return self._judged(
            self._lists(recommender, self._seen if recommender.masks_seen else None)
        )

    def evaluate_popularity(self) -> Ranked:
        """The lists of each user's most popular unseen items, compared in the same way.

        Raises:
            UserError: the segment has no users.
        """
        return self._judged(self.popular)

    def evaluate_for_strangers(self, recommender: Recommender) -> Ranked:
        """What a model's lists are worth to somebody else.

        Each user gets what the model would recommend to another one, drawn for good: that one's
        scores of the whole catalogue, with the items masked that the receiver has seen. So the
        lists of a model that scores alike for everybody are those of ``evaluate``.

        Raises:
            UserError: the segment has no users.
        """
        users = self._asked.users
        order = np.random.default_rng(0).permutation(len(users))
        donors = np.empty_like(users)
        donors[order] = users[np.roll(order, 1)]  # nobody is their own, unless they are alone
        mask = self._seen if recommender.masks_seen else None
        return self._judged(self._lists(recommender, mask, donors))

    def _judged(self, lists: npt.NDArray[np.int32]) -> Ranked:
        asked = self._asked
        evaluation = evaluate_lists(
            lists,
            asked.held_out,
            popular=self.popular,
            popularity=self.dataset.popularity,
            n_training_users=self.dataset.n_users,
            ks=self.ks,
            own=self.own,
        )
        of = len(self.dataset.segments[self.segment].users)
        return Ranked(asked.users, lists, asked.held_out, evaluation, of)

    @cached_property
    def popular(self) -> npt.NDArray[np.int32]:
        """Each user's most popular unseen items, [n, max k], as in ``Ranked.lists``."""
        order = np.argsort(-self.dataset.popularity, kind="stable")
        return first_unseen(order, self._seen, max(self.ks))

    @cached_property
    def _asked(self) -> Segment:
        asked = self.dataset.segments[self.segment]
        if len(asked.users) == 0:
            raise UserError(f"{self.dataset.name} has no {self.segment} users to evaluate.")
        return drawn(asked, self.sample, self.dataset.split.split_seed)

    @property
    def users(self) -> npt.NDArray[np.int32]:
        """The users who are ranked for, ascending.

        Raises:
            UserError: the segment has none.
        """
        return self._asked.users

    @cached_property
    def _popularity(self) -> MostPopular:
        return MostPopular(MostPopular.settings_class(), seed=0).fit(self.dataset)

    @cached_property
    def _seen(self) -> sparse.csr_matrix:
        """Training interactions of the users, [n, n_items]; none where they did not train."""
        users, dataset = self._asked.users, self.dataset
        trained = users < dataset.n_users
        others = sparse.csr_matrix((int((~trained).sum()), dataset.n_items), dtype=np.float32)
        # Users that train have the lower indices, so both parts keep the order of ``users``.
        return sparse.vstack([dataset.seen[users[trained]], others], format="csr")

    def _lists(
        self,
        model: Recommender,
        mask: sparse.csr_matrix | None,
        users: npt.NDArray[np.int32] | None = None,
    ) -> npt.NDArray[np.int32]:
        """Lists by the scores of ``users``, or of the segment's own."""
        users = self._asked.users if users is None else users
        scorer = _ForSegment(model, self._popularity, users, self.dataset.n_users)
        places = np.arange(len(users), dtype=np.int32)
        return rank(scorer, places, mask, max(self.ks), self.dataset.n_items)


def evaluate(
    recommender: Recommender,
    dataset: Dataset,
    ks: Sequence[int],
    segment: str = WARM,
    own: Sequence[Metric] = (),
    sample: int | None = None,
) -> Ranked:
    """The full ranking of one model alone.

    Raises:
        UserError: the segment has no users.
    """
    return FullRanking(dataset, ks, segment, own, sample).evaluate(recommender)


@dataclass(frozen=True)
class _ForSegment:
    """Scores by place in a segment: a model's for users that trained, else a fallback's."""

    model: Recommender
    fallback: Recommender
    users: npt.NDArray[np.int32]
    n_users: int

    def scores(self, places: npt.NDArray[np.int32]) -> Scores:
        users = self.users[places]
        trained = users < self.n_users
        if trained.all():
            there = self.model.device_scores(users)
            return self.model.scores(users) if there is None else there
        if not trained.any():
            return self.fallback.scores(users)
        scores = np.array(self.fallback.scores(users))
        scores[trained] = self.model.scores(users[trained])
        return scores


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
            "hit": np.asarray(ranked.held_out[rows, items]).ravel() > 0,
        }
    )
