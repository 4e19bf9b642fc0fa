"""What the first of several processes gives the others, so that they take part in a fit."""

from __future__ import annotations

import math
import sys
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.memory import available_memory
from pipeline.training.memory import free_memory
from pipeline.training.optimizers.lazy_adam import learned_tables, takes_lazy_adam
from pipeline.training.processes import give, number, on_this_machine, receive
from pipeline.training.shards import Interactions, Portion

if TYPE_CHECKING:
    from pipeline.data.dataset import Dataset
    from pipeline.training.loop import Network
    from pipeline.training.trainer import TrainingSettings

# What a step with lazy_adam takes for each number in tables, measured with 2 and 4 million
# embeddings of 16.
REPLICATED_BYTES = 21


class Part(NamedTuple):
    """One process's part of a fit."""

    device: str
    """The kind: cpu or cuda."""
    network: bytes
    """The network and the generator of the fit, which it may draw from: packed."""
    settings: TrainingSettings
    portion: Portion


def interactions_of(
    dataset: Dataset, settings: TrainingSettings
) -> tuple[TrainingSettings, Interactions]:
    """What there is to train on, and the settings with the batch size that this comes to.

    Rows are read by portions: of data that lie on disk no process holds more than its own.

    Raises:
        UserError: confidence is nothing, or infinite.
    """
    if settings.steps_per_epoch is not None:
        size = math.ceil(dataset.n_interactions / settings.steps_per_epoch)
        settings = settings.model_copy(update={"batch_size": size})
    weights = torch.ones(())
    if settings.rating_confidence:
        values = dataset.train_values(settings.values)
        confidence = torch.from_numpy(values).clamp_min(0) ** settings.rating_confidence
        weights = confidence / _finite_mean(confidence, settings)

    def read(rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        users, items = (torch.tensor(dataset.column(name, rows)) for name in ("user", "item"))
        return users, items, weights[rows].clone() if weights.dim() else weights

    activity, popularity = map(torch.from_numpy, (dataset.activity, dataset.popularity))
    return settings, Interactions.in_shards(read, activity, popularity, settings.shards)


def _finite_mean(confidence: Tensor, settings: TrainingSettings) -> Tensor:
    mean = confidence.mean()
    if not 0 < mean < math.inf:
        raise UserError(
            f"rating_confidence={settings.rating_confidence:g}: confidence is what an interaction "
            f"is worth (values={settings.values}) to this power, and its mean here is {mean:g}. "
            f"Give a smaller power, other values, or 0, which makes all alike."
        )
    return mean


def with_embeddings_placed(
    network: Network, settings: TrainingSettings, device: torch.device
) -> TrainingSettings:
    """The settings with ``embeddings`` replicated or sharded, as memory on ``device`` allows."""
    if settings.embeddings != "auto":
        return settings
    large = takes_lazy_adam(network, settings) and number() > 1
    if large:
        numbers = sum(table.weight.numel() for table in learned_tables(network))
        free = available_memory() / on_this_machine()
        if device.type == "cuda":
            free = free_memory(device)
        large = REPLICATED_BYTES * numbers > free / 2
    return settings.model_copy(update={"embeddings": "sharded" if large else "replicated"})


def packed_network(
    network: Network, generator: torch.Generator, settings: TrainingSettings
) -> bytes:
    """The network and the generator of a fit as ``unpacked`` reads them: without embeddings that
    are sharded."""
    tables = learned_tables(network) if settings.embeddings == "sharded" else []
    kept = [table.weight.data for table in tables]
    for table in tables:
        table.empty()
    buffer = BytesIO()
    torch.save((network, generator), buffer)
    for table, columns in zip(tables, kept, strict=True):
        table.weight.data = columns
    return buffer.getvalue()


def unpacked(content: bytes, device: torch.device) -> Any:
    """What was packed by a process of ours, on ``device``."""
    return torch.load(BytesIO(content), map_location=device, weights_only=False)


def give_parts(
    device: str, network: bytes, settings: TrainingSettings, interactions: Interactions
) -> None:
    """Give every other process its part.

    Raises:
        LostError: another process has ended.
    """
    for other in range(1, number()):
        give(other, sys.path)  # first: settings and networks may be of one's own modules
        portion = interactions.portion(other, number())
        give(other, Part(device, network, settings, portion))


def receive_part() -> Part | None:
    """This process's part of the next fit; None when there is none to come.

    Raises:
        LostError: another process has ended.
    """
    path = receive()
    if path is None:
        return None
    sys.path[:] = path
    part: Part = receive()
    return part
