"""What the training of a network will take.

Apart from what other models take, whose results no line of the training code makes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pipeline.models.costs import FLOPS, Cost
from pipeline.training.memory import free_memory
from pipeline.training.optimizers.lazy_adam import is_lazy
from pipeline.training.parts import REPLICATED_BYTES
from pipeline.training.processes import number
from pipeline.training.trainer import TrainingSettings, choose_device

if TYPE_CHECKING:
    from pipeline.data.dataset import Dataset

# Of a step of a small network on one core, by docs/performance.md.
PAIR = 1.3e-7  # seconds for each positive and each negative
LAZY = 3e-7  # for each of them with lazy_adam
MOVED = 8e-10  # for each number of the tables with adam
ROW_BYTES = 24  # of an interaction in training: user, item, place in the epoch's order
DRAWN_BYTES = 16  # of a negative in an epoch: as it is drawn, and once more in its order
TABLE_BYTES = 16  # of a number: it, two moments or what stands for them, a gradient or the start
WHOLE_BYTES = 8  # of it and its moment, where the first process has the rows of all


def cost_of_training(
    what: str,
    dataset: Dataset,
    settings: TrainingSettings,
    *,
    width: int,
    embeddings: int,
    products: int,
    more: float = 0.0,
) -> Cost:
    """Of a network that is trained with these ``settings``.

    Args:
        width, embeddings: of its tables.
        products: multiplications of its layers for one pair of a user and an item.
        more: bytes that it takes beside tables and epochs.
    """
    rows, size = dataset.n_interactions, settings.batch_size
    if settings.steps_per_epoch is not None:
        size = math.ceil(rows / settings.steps_per_epoch)
    steps, candidates = math.ceil(rows / size), rows * (1 + settings.negatives)
    numbers = width * embeddings
    seconds = candidates * (PAIR + 6 * products / FLOPS) + steps * numbers * MOVED
    held: float = TABLE_BYTES
    if is_lazy(numbers, width, size, settings):
        seconds = candidates * (LAZY + 6 * products / FLOPS)
        if settings.embeddings != "replicated":
            held = min(held, WHOLE_BYTES + REPLICATED_BYTES / number())
    drawn = DRAWN_BYTES * settings.negatives + 24 * settings.verified_negatives
    device = choose_device(settings.device)
    on_cpu = device.type == "cpu"
    return Cost(
        f"{what} of {dataset.n_users:,} users, {dataset.n_items:,} items and {rows:,} interactions",
        settings.epochs * seconds if on_cpu else None,
        held * numbers + (ROW_BYTES + drawn) * rows + more,
        f"Take fewer numbers for each user and item (now {width}): tables grow with them.",
        goes_on=True,
        available=None if on_cpu else free_memory(device),
    )
