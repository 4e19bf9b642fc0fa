"""A hybrid of two towers: who the user is, and what the item is made of.

logit(u, i) = scale * cos(e_u, MLP(f_i))

e_u is an embedding; f_i are the item's genres (one column each) and a few SVD components of the
TF-IDF of its title. An item tower on content alone can score items that nobody has seen yet, and
says less about those that everybody has.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from pipeline.models.base import Arrays, Vectors
from pipeline.models.costs import Cost, announce
from pipeline.models.network import NetworkRecommender
from pipeline.models.training_costs import cost_of_training
from pipeline.space import Choice, Range, Space
from pipeline.training.tables import Table, columns_of, laid_out
from pipeline.training.trainer import OnEpoch, TrainingSettings

if TYPE_CHECKING:
    from pipeline.data.dataset import Dataset

BLOCK = 2**16  # items that go through the tower at a time, where nothing is learned
NORM_FLOOR = 1e-24  # squared; the norm of what is all zeros, as in torch's normalize


class TwoTowerSettings(TrainingSettings):
    """The towers, and how they are trained."""

    dimension: int = Field(32, ge=1)
    """Entries of a user's embedding and of the item tower's output."""
    tower: tuple[int, ...] = (128, 64)
    """Widths of the item tower's hidden layers."""
    title_components: int = Field(16, ge=0)
    """SVD components of the titles' TF-IDF among an item's features."""
    scale: float = Field(1.0, gt=0)
    """What the cosine is multiplied by to make a logit."""


class TwoTowerNetwork(nn.Module):
    """User embeddings and the item tower. A step waits for no result of its own."""

    capturable = True
    features: Tensor

    def __init__(
        self, n_users: int, features: npt.NDArray[np.float32], settings: TwoTowerSettings
    ) -> None:
        """``features``: float32 [n_items, F]."""
        super().__init__()
        self.scale = settings.scale
        self.bf16 = settings.precision == "bf16"
        self.register_buffer("features", torch.tensor(features))
        start = torch.randn(n_users, settings.dimension) * 0.01
        self.users = Table(start.t())
        widths = (features.shape[1], *settings.tower, settings.dimension)
        layers = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.ReLU())]
        self.tower = nn.Sequential(*layers[:-1])  # no ReLU on the vector itself

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, tuple[Tensor]]:
        """Logits of users [B] with candidates [C, B]; the users' columns, [dimension, B].

        The tower runs once for each item of the catalogue or once for each candidate, whichever
        are fewer: which items are distinct is not asked, since the answer would be waited for.
        """
        user = self.users(users)
        if len(self.features) <= items.numel():
            vectors = laid_out(self._towered(self.features))
            candidates = [columns_of(vectors, each) for each in items]
        else:
            features = self.features.index_select(0, items.flatten())
            of_each = self._towered(features).t().chunk(len(items))
            candidates = [vectors.t() for vectors in of_each]
        own = _unit(user)
        # One candidate of all users at a time stays in a CPU's cache; all of them do not.
        logits = torch.stack([(own * item).sum(0) for item in candidates])
        return self.scale * logits, (user,)

    def _towered(self, features: Tensor) -> Tensor:
        """Unit vectors of items of these features [n, F], in training: [dimension, n]."""
        with self._precision(features.device.type):
            return _unit(self.tower(features).float().t())

    def _precision(self, kind: str) -> AbstractContextManager[object]:
        """Casts are not cached: a cached one would be no part of a CUDA graph."""
        if not self.bf16:
            return nullcontext()
        return torch.autocast(kind, torch.bfloat16, cache_enabled=False)

    @torch.inference_mode()
    def vectors(self) -> tuple[Tensor, Tensor]:
        """Unit vectors of all users and of all items, BLOCK of which are in work at a time."""
        items = torch.cat([self.tower(block) for block in self.features.split(BLOCK)])
        return normalize(self.users.weight.t(), dim=1), normalize(items, dim=1)


def _unit(columns: Tensor) -> Tensor:
    """Columns [., n] divided by their norms; ``normalize`` takes five times as long to learn."""
    return columns * columns.square().sum(0).clamp_min(NORM_FLOOR).rsqrt()


class TwoTower(NetworkRecommender):
    """The two towers as a recommender."""

    settings_class = TwoTowerSettings
    space: ClassVar[Space] = {
        "loss": Choice(choices=("bpr", "bce", "softmax")),
        "learning_rate": Range(low=1e-5, high=1e-2, log=True),
        "steps_per_epoch": Range(low=50, high=400, log=True),
        "negatives": Range(low=1, high=16, log=True),
        "dimension": Range(low=8, high=128, log=True),
        "scale": Range(low=1, high=30, log=True),
    }
    settings: TwoTowerSettings
    network: TwoTowerNetwork
    features: npt.NDArray[np.float32]
    """[n_items, F]."""

    def cost(self, dataset: Dataset) -> Cost:
        """Users' table, items' features, and what the tower and the products of a batch hold."""
        settings, n_items = self.settings, dataset.n_items
        genres = {word for each in dataset.items["genres"].unique() for word in each.split("|")}
        features = max(1, len(genres) + settings.title_components)
        widths = (features, *settings.tower, settings.dimension)
        batch = settings.batch_size * (1 + settings.negatives)
        towered = min(batch, n_items)
        products = sum(one * other for one, other in pairwise(widths)) * towered // batch
        vectors = settings.dimension * (n_items + dataset.n_users)
        more = 4 * towered * sum(widths) + 6 * batch * settings.dimension
        return cost_of_training(
            "two_tower", dataset, settings, width=settings.dimension, embeddings=dataset.n_users,
            products=products, more=4 * (more + 2 * n_items * features + 2 * vectors),
        )  # fmt: skip

    def make(self, n_users: int, n_items: int) -> TwoTowerNetwork:
        """The towers, on the features of the items that they are fitted to."""
        return TwoTowerNetwork(n_users, self.features, self.settings)

    def fit(
        self,
        dataset: Dataset,
        on_epoch: OnEpoch | None = None,
        state: dict[str, Any] | None = None,
    ) -> Self:
        """Train on the chosen device."""
        announce(self.cost(dataset))  # before the features, which take memory, too
        self.features = item_features(dataset.items, self.settings.title_components, self.seed)
        return super().fit(dataset, on_epoch, state)

    def after_epoch(self) -> None:
        """Take the vectors: they are all that scores need."""
        self.users, self.items = (part.cpu().numpy() for part in self.network.vectors())

    def scores(self, users: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Cosines, [len(users), n_items]."""
        return np.asarray(self.users[users] @ self.items.T, dtype=np.float32)

    def vectors(self) -> Vectors:
        """The towers' outputs."""
        return Vectors(self.users, self.items)

    def arrays(self) -> Arrays:
        """Unit vectors of users and items."""
        return {"users": self.users, "items": self.items}

    def load_arrays(self, arrays: Arrays) -> None:
        """Take the vectors."""
        self.users, self.items = arrays["users"], arrays["items"]


def item_features(items: pd.DataFrame, title_components: int, seed: int) -> npt.NDArray[np.float32]:
    """Genres as columns of ones, and SVD components of the titles' TF-IDF: float32 [n_items, F].

    Without any metadata it is one column of ones.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    genres = items["genres"].str.get_dummies("|").to_numpy(np.float32)
    parts = [genres] if genres.size else []
    if title_components and items["title"].str.contains(r"\w\w", regex=True).any():
        words = TfidfVectorizer().fit_transform(items["title"])
        components = min(title_components, min(words.shape) - 1)
        if components > 0:
            svd = TruncatedSVD(components, random_state=seed)
            parts.append(svd.fit_transform(words).astype(np.float32))
    return np.hstack(parts) if parts else np.ones((len(items), 1), np.float32)
