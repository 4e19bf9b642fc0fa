"""The wide part of a network: the frozen scores of a linear model, as logits to which it adds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from pipeline.errors import UserError, brief
from pipeline.memory import available_memory
from pipeline.models import FAMILIES, family
from pipeline.models.base import Arrays
from pipeline.models.linear import LinearRecommender

if TYPE_CHECKING:
    from pipeline.data.dataset import Dataset

Dense = npt.NDArray[np.float32]

BLOCK_BYTES = 32 * 2**20  # of the scores of one block of users
LEAST_SPREAD = 1e-12  # below which a user's scores are all the same
MEMORY_SHARE = 0.5  # of what is available, that the logits of all users may take in training


class Wide:
    """A linear model whose scores stand beside a network (Cheng et al., "Wide & Deep", 2016).

    logit(u, i) = scale * (s(u, i) - mean_i s(u, i)) / std_i s(u, i)

    Standardised over the catalogue, scores of any model and any data are of one size, in the same
    order: a network that adds nothing recommends what the linear model does.
    """

    def __init__(self, model: LinearRecommender, scale: float) -> None:
        self.model, self.scale = model, scale

    @classmethod
    def named(cls, text: str, scale: float, seed: int) -> Self:
        """The unfitted model that ``text`` names, as in "ease values=ratings penalty=100".

        Raises:
            UserError: there is no such linear model, or it has no such setting.
        """
        name, *given = text.replace(",", " ").split() or [""]
        found = family(name)
        if not issubclass(found, LinearRecommender):
            linear = [each for each in FAMILIES if issubclass(family(each), LinearRecommender)]
            raise UserError(f"{name} is no linear model; these are: {', '.join(linear)}.")
        pairs = [part.partition("=") for part in given]
        loose = [key for key, sign, _ in pairs if not sign]
        if loose:
            raise UserError(f"{brief(loose[0])!r}: expected settings as in {name} key=value.")
        settings = found.settings_class.read({key: value for key, _, value in pairs}, name)
        return cls(found(settings, seed), scale)

    def fit(self, dataset: Dataset) -> Self:
        """Fit the linear model, or take it as it was fitted to ``dataset`` before.

        The trials of a study stand beside few linear models: what a fit takes, each takes once.
        """
        if self._key not in dataset.kept:
            dataset.kept[self._key] = self.model.fit(dataset)
        self.model = dataset.kept[self._key]
        return self

    def logits(self, users: npt.NDArray[np.int32]) -> Dense:
        """Of the whole catalogue, [len(users), n_items]."""
        return self._standard(self.model.scores(users))

    def fold_in(self, liked: sparse.csr_matrix) -> Dense | None:
        """Of people who did not train; None where the model cannot tell."""
        scores = self.model.fold_in(liked)
        return None if scores is None else self._standard(scores)

    def table(self, dataset: Dataset) -> Dense:
        """The logits of all training users, [n_users, n_items], for a training loop to look up.

        Raises:
            UserError: they take more memory than there is.
        """
        n_users, n_items = dataset.n_users, dataset.n_items
        needed, there = 4 * n_users * n_items, available_memory()
        if needed > MEMORY_SHARE * there:
            raise UserError(
                f"wide: training beside a linear model keeps its scores of {n_users:,} users and "
                f"{n_items:,} items in memory, {needed / 2**30:.1f} GiB, and {there / 2**30:.1f} "
                f"GiB are available. Use wide=none, or train where there is more."
            )
        table = np.empty((n_users, n_items), np.float32)
        for block in _blocks(n_users, max(1, BLOCK_BYTES // (4 * n_items))):
            table[block] = self.logits(np.arange(block.start, block.stop, dtype=np.int32))
        return table

    @property
    def _key(self) -> tuple[str, str, int]:
        model = self.model
        return type(model).__name__, model.settings.model_dump_json(), model.seed

    def arrays(self) -> Arrays:
        """What the linear model learned."""
        return self.model.arrays()

    def load_arrays(self, arrays: Arrays) -> None:
        """Take what ``arrays`` gave."""
        self.model.load_arrays(arrays)

    def _standard(self, scores: Dense) -> Dense:
        spread = np.maximum(scores.std(1, keepdims=True), LEAST_SPREAD)
        standard: Dense = (scores - scores.mean(1, keepdims=True)) * (self.scale / spread)
        return standard


def _blocks(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
