"""Neural Collaborative Filtering (He et al., 2017, "NeuMF"): the network as a recommender."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, field_validator
from scipy import sparse
from torch import Tensor

from pipeline.errors import UserError
from pipeline.models.base import Arrays, EpochRecommender, Recommender, Vectors
from pipeline.models.costs import Cost, announce
from pipeline.models.exposure import Exposure, exposure
from pipeline.models.linear import VALUES
from pipeline.models.neumf import NCFMethod, NCFNetwork
from pipeline.models.starts import start_factors
from pipeline.models.training_costs import cost_of_training
from pipeline.models.wide import Wide
from pipeline.space import Choice, Range, Space
from pipeline.training.memory import free_memory
from pipeline.training.tables import columns_of
from pipeline.training.threads import one_thread
from pipeline.training.trainer import (
    Epoch,
    OnEpoch,
    Trainer,
    TrainingSettings,
    choose_device,
    seeded,
)

if TYPE_CHECKING:
    from pipeline.data.dataset import Dataset

# Memory for a hidden layer of one block of user-item pairs: what stays in a CPU's cache, and what
# keeps a GPU busy.
PAIR_BYTES = {"cpu": 4 * 2**20, "cuda": 512 * 2**20}
FREE_SHARE = 1 / 8  # of a GPU's free memory, that it may take: two layers are held at a time
WIDE = "wide."  # before the names of the wide part's arrays
# The network's tables, and as they are saved.
TABLES = {"users.weight": "user_rows", "items.weight": "item_rows"}
COLLAPSED_NORM = 1e-3  # of a GMF row; a fresh one of 8 entries has .028


class NCFSettings(TrainingSettings, NCFMethod):
    """The network, how it is trained, where it starts, and what stands beside it."""

    start: Literal["svd", "sequential_ridge"] | None = None
    """Where GMF starts: at truncated SVD factors of the interactions, at those of sequential_ridge
    (either with embedding_dim components), or in noise."""
    start_ridge: float | None = Field(None, gt=0)
    """ridge of a start from sequential_ridge; none of the three: its own defaults."""
    start_ease_share: float | None = Field(None, ge=0)
    """ease_share of a start from sequential_ridge."""
    start_ease_regularization: float | None = Field(None, gt=0)
    """ease_regularization of a start from sequential_ridge."""
    wide: str | None = None
    """A linear model whose frozen scores the network adds to, with what differs from its defaults:
    item_knn, or ease values=ratings penalty=100."""
    wide_scale: float = Field(1.0, gt=0)
    """Standard deviation of a user's scores of the wide part, as logits."""
    exposure_users: int = Field(0, ge=0)
    """Bring every item into the lists of about so many users; 0 leaves the scores alone."""

    @field_validator("wide")
    @classmethod
    def _is_linear(cls, wide: str | None) -> str | None:
        if wide is not None:
            try:
                Wide.named(wide, scale=1.0, seed=0)
            except UserError as error:
                raise ValueError(str(error)) from None
        return wide

    @field_validator("layers")
    @classmethod
    def _even_input(cls, layers: tuple[int, ...]) -> tuple[int, ...]:
        if layers and (min(layers) < 1 or layers[0] % 2 or len(layers) < 2):
            raise ValueError(
                "expected an even input width and at least one further width, as in 16,8"
            )
        return layers


class NCF(EpochRecommender):
    """The network as a recommender."""

    settings_class = NCFSettings
    space: ClassVar[Space] = {
        "wide": Choice(choices=("none", "item_knn", "ease", "svd", "sequential_ridge")),
        "wide_scale": Range(low=0.1, high=10, log=True),
        "loss": Choice(choices=("bpr", "bce", "softmax")),
        "learning_rate": Range(low=1e-5, high=1e-2, log=True),
        "steps_per_epoch": Range(low=50, high=400, log=True),
        "negatives": Range(low=1, high=8),
        "negative_power": Range(low=0, high=1),
        "values": VALUES,
        "rating_confidence": Range(low=0, high=2),
        "l2": Range(low=1e-8, high=1e-2, log=True),
        "embedding_dim": Range(low=4, high=160, log=True),
        "layers": Choice(choices=("none", "16,8", "32,16")),
        "dropout": Range(low=0, high=0.5),
    }
    settings: NCFSettings
    network: NCFNetwork
    wide: Wide | None = None
    exposure: Exposure | None = None

    @property
    def made_by(self) -> list[type[Recommender]]:
        """The network, and the linear model beside it."""
        wide = self._wide()
        return super().made_by if wide is None else [*super().made_by, *wide.model.made_by]

    def cost(self, dataset: Dataset) -> Cost:
        """Tables of users and items, the MLP on a batch, and the scores of a wide part."""
        settings = self.settings
        half = settings.layers[0] // 2 if settings.layers else 0
        wide = 0 if settings.wide is None else 4 * dataset.n_users * dataset.n_items
        cost = cost_of_training(
            "ncf", dataset, settings, width=settings.embedding_dim + half + settings.bias,
            embeddings=dataset.n_users + dataset.n_items,
            products=sum(one * other for one, other in pairwise(settings.layers)), more=wide,
        )  # fmt: skip
        return replace(cost, advice="Use wide=none: its scores are kept.") if wide else cost

    def fit(
        self,
        dataset: Dataset,
        on_epoch: OnEpoch | None = None,
        state: dict[str, Any] | None = None,
    ) -> Self:
        """Train on the chosen device; the same seed on the same CPU gives the same bits."""
        announce(self.cost(dataset))
        device = choose_device(self.settings.device)
        generator = torch.Generator(device).manual_seed(self.seed)
        with seeded(self.seed):  # on the CPU, so that the start is the same on every device
            self.network = NCFNetwork(dataset.n_users, dataset.n_items, self.settings, generator)
        if self.settings.start is not None and state is None:
            self._start(dataset)
        self.wide = self._wide()
        if self.wide is not None:
            logits = self.wide.fit(dataset).table(dataset)
            self.network.wide = torch.from_numpy(logits)
        self.network.to(device)
        trainer = Trainer(self.network, dataset, self.settings, generator)
        if state is not None:
            trainer.load_state(state)

        def after(epoch: Epoch) -> bool:
            self._expose(dataset)
            return on_epoch is not None and on_epoch(epoch)

        self.exposure = None
        trainer.run(after if on_epoch is not None else None)
        self.network.wide = None  # as large as all scores together
        self.network.generator = None  # which torch cannot send to another process
        if self.exposure is None:
            self._expose(dataset)
        return self

    def _wide(self) -> Wide | None:
        text = self.settings.wide
        return None if text is None else Wide.named(text, self.settings.wide_scale, self.seed)

    def _start(self, dataset: Dataset) -> None:
        """GMF rows from two factors of the scores of another model, and an output that adds."""
        rank = min(self.settings.embedding_dim, dataset.n_users, dataset.n_items)
        users, items = start_factors(self.settings, dataset, rank, self.seed)
        with torch.no_grad():
            self.network.users.weight[:rank] = torch.from_numpy(users.T)
            self.network.items.weight[:rank] = torch.from_numpy(items.T)
            self.network.output.weight[:, :rank] = 1.0

    def _expose(self, dataset: Dataset) -> None:
        """Exposure of the network as it is now; training knows nothing of it."""
        self.exposure = None
        if self.settings.exposure_users:
            self.exposure = exposure(self.scores, dataset, self.settings.exposure_users)

    def scores(self, users: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Logits, with exposure if any, [len(users), n_items]."""
        return _array(self._scores(users))

    def device_scores(self, users: npt.NDArray[np.int32]) -> Tensor | None:
        """As ``scores``; None where a subclass has scores of its own, too."""
        on_cpu = self.network.users.weight.device.type == "cpu"
        return None if on_cpu or type(self).scores is not NCF.scores else self._scores(users)

    @torch.inference_mode()
    def _scores(self, users: npt.NDArray[np.int32]) -> Tensor:
        """``scores``, on the network's device."""
        table = self.network.users.weight
        with one_thread():
            asked = torch.from_numpy(users).long().to(table.device)
            logits = self._logits(columns_of(table, asked))
            if self.wide is not None:
                logits += torch.from_numpy(self.wide.logits(users)).to(table.device)
            if self.exposure is not None:
                lifts = self.exposure.users[users, None], self.exposure.items
                of_user, of_item = (torch.from_numpy(part).to(table.device) for part in lifts)
                logits += of_user * of_item
        return logits

    def vectors(self) -> Vectors | None:
        """GMF's, where there is nothing else; with a number more on both sides for exposure."""
        if self.settings.layers or self.wide is not None or type(self).scores is not NCF.scores:
            return None
        sides: list[npt.NDArray[np.float32]] = [_array(side) for side in self.network.vectors()]
        if self.exposure is not None:
            more = zip(sides, self.exposure, strict=True)
            sides = [np.hstack([side, lift[:, None]]) for side, lift in more]
        return Vectors(*sides)

    def fold_in(self, liked: sparse.csr_matrix) -> npt.NDArray[np.float32]:
        """Logits of user columns fitted to what people like, everything else frozen."""
        table = self.network.users.weight.detach()
        columns = table.new_empty(len(table), liked.shape[0])
        beside = None if self.wide is None else self.wide.fold_in(liked)
        with one_thread():
            for start in range(0, liked.shape[0], self._block_size):
                block = slice(start, start + self._block_size)
                likes = torch.from_numpy(liked[block].toarray()).to(table.device)
                wide = None if beside is None else torch.from_numpy(beside[block]).to(table.device)
                columns[:, block] = self.network.fit_users(likes, wide)
            logits = _array(self._logits(columns))
        return logits if beside is None else logits + beside

    @property
    def _block_size(self) -> int:
        """Users whose pairs with the catalogue fit PAIR_BYTES, and what is free on a GPU."""
        items, widest = self.network.items.weight, max(self.settings.layers[1:], default=1)
        kind = "cpu" if items.device.type == "cpu" else "cuda"
        size = min(PAIR_BYTES[kind], FREE_SHARE * free_memory(items.device))
        return max(1, int(size // (4 * widest * items.shape[1])))

    @torch.inference_mode()
    def _logits(self, columns: Tensor) -> Tensor:
        """Logits [n, n_items] of user columns [width, n]."""
        return self.network.score_columns(columns, self._block_size)

    def arrays(self) -> Arrays:
        """The network's parameters by name, tables as rows, and the exposure if any."""
        learned = {name: value.cpu().numpy() for name, value in self.network.state_dict().items()}
        for table, rows in TABLES.items():
            learned[rows] = learned.pop(table).T
        if self.exposure is not None:
            learned |= {f"exposure.{name}": part for name, part in self.exposure._asdict().items()}
        if self.wide is not None:
            learned |= {f"{WIDE}{name}": part for name, part in self.wide.arrays().items()}
        return learned

    def load_arrays(self, arrays: Arrays) -> None:
        """Make the network and give it these parameters."""
        lifts = [f"exposure.{side}" for side in Exposure._fields]
        found = [arrays[name] for name in lifts if name in arrays]
        self.exposure = Exposure(*found) if found else None
        self.wide = self._wide()
        if self.wide is not None:
            beside = {n.removeprefix(WIDE): a for n, a in arrays.items() if n.startswith(WIDE)}
            self.wide.load_arrays(beside)
        learned = {
            name: array
            for name, array in arrays.items()
            if name not in lifts and not name.startswith(WIDE)
        }
        for table, rows in TABLES.items():
            learned[table] = np.ascontiguousarray(learned.pop(rows).T)
        with seeded(self.seed):
            self.network = NCFNetwork(
                learned["users.weight"].shape[1], learned["items.weight"].shape[1], self.settings
            )
        self.network.load_state_dict({k: torch.from_numpy(v) for k, v in learned.items()})
        self.network.to(choose_device("auto"))  # wherever it was trained

    def collapsed(self) -> str | None:
        """GMF user rows shrunk to nothing: the network no longer tells users apart.

        A wide part still does, however little the network adds to it.
        """
        if self.wide is not None:
            return None
        norm = float(self.network.users.weight.detach()[: self.network.gmf].norm(dim=0).median())
        if norm >= COLLAPSED_NORM:
            return None
        return f"the median norm of the GMF user embeddings is {norm:.1e}"


def _array(scores: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = scores.cpu().numpy()
    return array
