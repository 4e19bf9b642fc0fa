"""What the figures of one device are made with: sizes, interactions, epochs, a clock.

torch and NumPy are all that is needed, here and in whatever is imported.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.models.neumf import NCFMethod, NCFNetwork
from pipeline.training.loop import TrainingLoop

HEAD = 50  # popular items that are about as popular as the first; the others fall off as 1 / rank


@dataclass(frozen=True)
class Size:
    """How much there is of what."""

    users: int
    items: int
    interactions: int


PLAN = NCFMethod(loss="bpr", dropout=0.4, learning_rate=1e-3)
"""What is trained where nothing else is said."""


@cache
def interactions(size: Size, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Users and items, int64 [interactions], by user: activity is lognormal, popularity 1 / rank.

    A user may have an item twice.
    """
    rng = np.random.default_rng(seed)
    activity = rng.lognormal(size=size.users)
    popularity = rng.permutation(1 / (np.arange(size.items) + HEAD))
    users, items = (_drawn(weights, size.interactions, rng) for weights in (activity, popularity))
    return torch.from_numpy(np.sort(users)), torch.from_numpy(items)


def _drawn(
    weights: npt.NDArray[np.float64], count: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Indices, int64 [count], as often as their weights say."""
    ends = np.cumsum(weights)
    found: npt.NDArray[np.int64] = np.searchsorted(ends, rng.random(count) * ends[-1])
    return found.clip(max=len(weights) - 1)


def epochs(size: Size, plan: NCFMethod, device: str, seed: int = 0) -> TrainingLoop:
    """Epochs of a new network over generated interactions."""
    torch.manual_seed(seed)
    users, items = (part.to(device) for part in interactions(size))
    generator = torch.Generator(device).manual_seed(seed)
    return TrainingLoop(
        NCFNetwork(size.users, size.items, plan, generator).to(device),
        users,
        items,
        torch.ones((), device=device),
        size.items,
        plan,
        generator,
    )


def seconds(function: Callable[[], object], device: str) -> float:
    """How long ``function`` takes, until the device has done all that it asked for."""
    _wait(device)
    started = time.perf_counter()
    function()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)
