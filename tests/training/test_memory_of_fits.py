"""What a fit holds goes with it, and what it has no memory for is told."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.models.ncf import NCF
from pipeline.models.two_tower import TwoTower
from pipeline.training.trainer import Trainer, TrainingSettings
from tests.conftest import checkerboard
from tests.training.fits import QUICK, Recorder, fitted, seeded


@pytest.mark.parametrize("stop_after", [None, 1])
def test_a_network_goes_when_its_fit_is_over(stop_after: int | None) -> None:
    """With all that training held: at once, not at some garbage collection."""
    board = checkerboard()
    gc.collect()
    gc.disable()
    try:
        model, told = fitted(board, stop_after, epochs=2, wide="ease", l2=0.1)
        network = weakref.ref(model.network)
        del model, told
        assert network() is None
    finally:
        gc.enable()


def held() -> int:
    """Bytes of all tensors that Python knows of."""
    found = [each for each in gc.get_objects() if issubclass(type(each), Tensor)]
    return sum(each.nbytes for each in found)


@pytest.mark.parametrize(("kind", "own"), [(NCF, {}), (TwoTower, {"title_components": 0})])
def test_forty_fits_hold_no_more_than_two(
    kind: type[NCF] | type[TwoTower], own: dict[str, Any]
) -> None:
    """As a study does them, one after another, without a garbage collection."""
    board, settings, after = checkerboard(), QUICK | {"epochs": 1} | own, dict[int, int]()
    gc.collect()
    gc.disable()
    try:
        for number in range(1, 41):
            model = kind(kind.settings_class(**settings), seed=number).fit(board)
            if number in (2, 40):
                after[number] = held()
        del model
    finally:
        gc.enable()
    assert 0 < after[40] <= after[2]


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({"batch_size": 32}, r"batches of 32 in epoch 1 \(CUDA out of memory.*Try batch_size=16"),
        ({"steps_per_epoch": 4}, "Try steps_per_epoch=8, which halves it"),
    ],
)
def test_a_batch_for_which_a_gpu_has_no_memory(given: dict[str, int], advice: str) -> None:
    class Large(Recorder):
        def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    settings = TrainingSettings(**given)
    with pytest.raises(UserError, match=advice):
        Trainer(Large(), checkerboard(), settings, seeded()).run()
