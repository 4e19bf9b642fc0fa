"""Random lists: the floor under every metric, and the ceiling of coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import numpy.typing as npt

from pipeline.models.base import Arrays, Recommender

if TYPE_CHECKING:
    from pipeline.data.dataset import Dataset


class Random(Recommender):
    """Uniform scores, each user's from a generator of their own, whoever else is asked."""

    personal: ClassVar[bool] = False

    def fit(self, dataset: Dataset) -> Self:
        """Note the size of the catalogue."""
        self.n_items = dataset.n_items
        return self

    def scores(self, users: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Uniform in [0, 1), [len(users), n_items]."""
        generators = (np.random.default_rng([self.seed, int(user)]) for user in users)
        rows = [generator.random(self.n_items, dtype=np.float32) for generator in generators]
        return np.array(rows, dtype=np.float32).reshape(len(users), self.n_items)

    def arrays(self) -> Arrays:
        """The size of the catalogue."""
        return {"n_items": np.array([self.n_items])}

    def load_arrays(self, arrays: Arrays) -> None:
        """Take the size of the catalogue."""
        self.n_items = int(arrays["n_items"][0])
