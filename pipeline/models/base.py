"""The contract of every model: fit a Dataset, score users against the whole catalogue."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from pipeline.settings import Settings
from pipeline.space import Space

if TYPE_CHECKING:  # the trainer brings torch, which the models without a network do not need
    from torch import Tensor

    from pipeline.data.dataset import Dataset
    from pipeline.models.costs import Cost
    from pipeline.training.trainer import OnEpoch

Arrays = dict[str, npt.NDArray[Any]]


class Vectors(NamedTuple):
    """Scores as products: that of user u for item i is ``users[u] @ items[i]``."""

    users: npt.NDArray[np.float32]
    """[n_users, d]."""
    items: npt.NDArray[np.float32]
    """[n_items, d]."""


class Recommender(ABC):
    """Scores of all items of a catalogue for the users of a Dataset.

    A recommender is made of settings and a seed, both enough to make it again. Subclasses give
    ``fit``, ``scores``, and what they learned as named arrays, so that saving needs no pickle.
    """

    settings_class: ClassVar[type[Settings]] = Settings
    space: ClassVar[Space] = {}
    """What a study varies where it names no space of its own; empty where nothing is worth it."""
    masks_seen: ClassVar[bool] = True
    """Whether items that a user has in training are kept out of their list."""
    personal: ClassVar[bool] = True
    """Whether users are meant to get different scores."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings, self.seed = settings, seed

    @property
    def made_by(self) -> list[type[Recommender]]:
        """The classes whose code makes the scores: this one's, and others' that it fits."""
        return [type(self)]

    def cost(self, dataset: Dataset) -> Cost | None:
        """What ``fit`` will take; None where that is next to nothing, or nobody knows."""
        return None

    @abstractmethod
    def fit(self, dataset: Dataset) -> Self:
        """Learn from the training part of ``dataset``.

        Raises:
            UserError: by its ``cost`` there is not the memory for it.
        """

    @abstractmethod
    def scores(self, users: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Scores of the whole catalogue, [len(users), n_items]; higher is better."""

    def device_scores(self, users: npt.NDArray[np.int32]) -> Tensor | None:
        """``scores`` where they lie on a GPU, to be ranked there; None where they lie here."""
        return None

    def vectors(self) -> Vectors | None:
        """Vectors whose products are the ``scores``, but for rounding; None where there are none.

        They are what an index of a large catalogue is made of.
        """
        return None

    def fold_in(self, liked: sparse.csr_matrix) -> npt.NDArray[np.float32] | None:
        """Scores for people who did not train, from what they like; None where it cannot be done.

        ``liked`` is float32 [n, n_items] with ones; the scores are [n, n_items].
        """
        return None

    @abstractmethod
    def arrays(self) -> Arrays:
        """What was learned."""

    @abstractmethod
    def load_arrays(self, arrays: Arrays) -> None:
        """Take what ``arrays`` of a fitted recommender with these settings gave."""

    def collapsed(self) -> str | None:
        """Why this model cannot tell users apart, where its parameters show it."""
        return None

    def save(self, folder: Path) -> None:
        """Write ``model.json`` and ``weights.safetensors`` into an existing folder."""
        from safetensors.numpy import save_file

        description = {"settings": self.settings.model_dump(mode="json"), "seed": self.seed}
        (folder / "model.json").write_text(json.dumps(description, indent=2) + "\n")
        contiguous = {name: np.ascontiguousarray(array) for name, array in self.arrays().items()}
        save_file(contiguous, folder / "weights.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """A fitted recommender from what ``save`` wrote."""
        from safetensors.numpy import load_file

        description = json.loads((folder / "model.json").read_text())
        settings = cls.settings_class.read(
            description["settings"], where=str(folder / "model.json")
        )
        recommender = cls(settings, description["seed"])
        recommender.load_arrays(load_file(folder / "weights.safetensors"))
        return recommender


class EpochRecommender(Recommender):
    """A recommender that learns in epochs, after each of which it can be used and gone on with."""

    @abstractmethod
    def fit(
        self,
        dataset: Dataset,
        on_epoch: OnEpoch | None = None,
        state: dict[str, Any] | None = None,
    ) -> Self:
        """Learn from the training part of ``dataset``.

        ``on_epoch`` is called after each epoch. With a ``state`` that it was given, an earlier fit
        to the same data is gone on with.
        """
