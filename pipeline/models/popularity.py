"""The most popular items, the same for every user: what a personal model has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import numpy.typing as npt

from pipeline.models.base import Arrays, Recommender

if TYPE_CHECKING:
    from pipeline.data.dataset import Dataset


class MostPopular(Recommender):
    """Scores an item by the number of training users who have it."""

    personal: ClassVar[bool] = False

    def fit(self, dataset: Dataset) -> Self:
        """Count training users per item."""
        self.popularity = dataset.popularity.astype(np.float32)
        return self

    def scores(self, users: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """The same row for each user, [len(users), n_items]."""
        return np.broadcast_to(self.popularity, (len(users), len(self.popularity)))

    def arrays(self) -> Arrays:
        """Popularity, float32 [n_items]."""
        return {"popularity": self.popularity}

    def load_arrays(self, arrays: Arrays) -> None:
        """Take the popularity."""
        self.popularity = arrays["popularity"]


class MostPopularUnmasked(MostPopular):
    """The notebook's Most_Popular: one list for all, items that a user has already included."""

    masks_seen: ClassVar[bool] = False
