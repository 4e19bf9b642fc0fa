"""A recommender whose scores an ordinary module computes, trained by the trainer.

Whoever brings a network gives ``make`` and nothing else: windows, checkpoints, resuming, studies
and serving follow.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pipeline.models.base import Arrays, EpochRecommender
from pipeline.models.costs import announce
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

PAIRS = 2**18  # of users and items whose logits are worked out at a time
SIZES = "n_users_and_items"  # among the arrays: what the module is made for


class NetworkRecommender(EpochRecommender):
    """Scores are the logits of a module, trained with the loss and sampler of its settings."""

    settings_class = TrainingSettings
    settings: TrainingSettings
    network: nn.Module

    @abstractmethod
    def make(self, n_users: int, n_items: int) -> nn.Module:
        """The module before training; what it draws is drawn under this recommender's seed.

        Its forward pass takes users int64 [B] and candidates int64 [C, B], and answers logits
        [C, B] and the embeddings that ``l2`` is to shrink, each [width, B] or [width, C, B].
        """

    def after_epoch(self) -> None:
        """Take what ``scores`` needs out of the network, where it is not the network itself."""

    def fit(
        self,
        dataset: Dataset,
        on_epoch: OnEpoch | None = None,
        state: dict[str, Any] | None = None,
    ) -> Self:
        """Train on the chosen device; the same seed on the same CPU gives the same bits."""
        announce(self.cost(dataset))
        device = choose_device(self.settings.device)
        self._make(dataset.n_users, dataset.n_items)
        self.network.to(device)
        generator = torch.Generator(device).manual_seed(self.seed)
        trainer = Trainer(self.network, dataset, self.settings, generator)
        if state is not None:
            trainer.load_state(state)

        def after(epoch: Epoch) -> bool:
            self.after_epoch()
            return on_epoch is not None and on_epoch(epoch)

        self.after_epoch()
        trainer.run(after)
        return self

    def _make(self, n_users: int, n_items: int) -> None:
        self.sizes = n_users, n_items
        with seeded(self.seed):
            self.network = self.make(n_users, n_items)

    @torch.inference_mode()
    def scores(self, users: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Logits without dropout, [len(users), n_items]."""
        device = next(self.network.parameters()).device
        asked = torch.from_numpy(users).long().to(device)
        items = torch.arange(self.sizes[1], device=device)[:, None]
        self.network.eval()
        blocks = [
            self.network(block, items.expand(-1, len(block)))[0].t()
            for block in asked.split(max(1, PAIRS // self.sizes[1]))
        ]
        self.network.train()
        return np.asarray(torch.cat(blocks).float().cpu().numpy())

    def arrays(self) -> Arrays:
        """The module's parameters and buffers by name, and for how many it is."""
        learned = {name: value.cpu().numpy() for name, value in self.network.state_dict().items()}
        return {**learned, SIZES: np.array(self.sizes)}

    def load_arrays(self, arrays: Arrays) -> None:
        """Make the module and give it these parameters."""
        n_users, n_items = arrays[SIZES].tolist()
        self._make(n_users, n_items)
        learned = {name: torch.from_numpy(a) for name, a in arrays.items() if name != SIZES}
        self.network.load_state_dict(learned)
        self.network.to(choose_device("auto"))  # wherever it was trained
