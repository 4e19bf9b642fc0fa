"""Fits on a real GPU: they go on elsewhere, end in words, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from pipeline.models.ncf import NCF, NCFSettings
from pipeline.models.network import NetworkRecommender
from pipeline.models.two_tower import TwoTower
from pipeline.training.checkpoint import Journal
from pipeline.training.trainer import Epoch
from tests.conftest import checkerboard
from tests.gpus import memory_left
from tests.training.fits import QUICK, fitted, noting

pytestmark = pytest.mark.gpu
MIB = 2**20


def journaled(device: str, path: Path, **settings: Any) -> tuple[list[float], dict[str, Any]]:
    """Losses of a fit of four epochs, and its state after two, by way of the disk."""
    board = checkerboard()
    _, told = fitted(board, epochs=4, device=device, **settings)
    _, begun = fitted(board, stop_after=2, epochs=4, device=device, **settings)
    Journal(path).record("fit", begun[-1].record(), begun[-1].state())
    state = Journal.load(path).state("fit")
    assert state is not None
    return [epoch.loss_sum for epoch in told], state


def gone_on(device: str, state: dict[str, Any], **settings: Any) -> list[float]:
    """The losses of the other two."""
    rest: list[Epoch] = []
    resumed = NCF(NCFSettings(**(QUICK | {"epochs": 4, "device": device} | settings)), seed=0)
    resumed.fit(checkerboard(), noting(rest), state)
    assert [epoch.number for epoch in rest] == [3, 4]
    return [epoch.loss_sum for epoch in rest]


@pytest.mark.parametrize("optimizer", ["adam", "lazy_adam"])
def test_a_fit_goes_on_from_where_it_was_stopped(optimizer: str, tmp_path: Path) -> None:
    """With the same draws, but sums are added up in another order every time."""
    settings: dict[str, Any] = {"dropout": 0.2, "optimizer": optimizer}
    told, state = journaled("cuda", tmp_path / "journal.pt", **settings)
    assert gone_on("cuda", state, **settings) == pytest.approx(told[2:], rel=1e-3)


@pytest.mark.parametrize("optimizer", ["adam", "lazy_adam"])
@pytest.mark.parametrize(("begun", "other"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_fit_goes_on_on_the_other_kind_of_device(
    begun: str, other: str, optimizer: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told, state = journaled(begun, tmp_path / "journal.pt", optimizer=optimizer)
    assert gone_on(other, state, optimizer=optimizer) == pytest.approx(told[2:], rel=0.1)
    assert f"begun on another kind of device ({begun}) and goes on on {other}" in caplog.text


@pytest.mark.parametrize("kind", [NCF, TwoTower])
def test_what_a_gpu_has_learned_is_scored_alike_on_a_cpu(
    kind: type[NetworkRecommender], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = kind(kind.settings_class(**(QUICK | {"device": "cuda"}), epochs=5), seed=0)
    model.fit(checkerboard()).save(tmp_path)
    users = np.arange(20, dtype=np.int32)
    there = kind.load(tmp_path).scores(users)
    np.testing.assert_allclose(there, model.scores(users), rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    np.testing.assert_allclose(kind.load(tmp_path).scores(users), there, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["adam", "lazy_adam"])
@pytest.mark.parametrize("kind", [NCF, TwoTower])
def test_a_gpu_learns_what_a_cpu_learns(kind: type[NetworkRecommender], optimizer: str) -> None:
    """Other draws, and as good."""
    board = checkerboard()
    found = []
    for device in ("cpu", "cuda"):
        told: list[Epoch] = []
        settings = kind.settings_class(
            **(QUICK | {"device": device, "optimizer": optimizer}), epochs=30
        )
        kind(settings, seed=0).fit(board, noting(told))
        found.append(told[-1].loss)
    assert found[1] == pytest.approx(found[0], rel=0.25)


def test_a_batch_for_which_there_is_no_memory_and_then_one_for_which_there_is() -> None:
    small: dict[str, Any] = {"device": "cuda", "epochs": 1}
    fitted(checkerboard(), **small)  # what the libraries take for themselves is taken
    with memory_left(200 * MIB):
        advice = r"batches of 64 in epoch 1 \(CUDA out of memory.*Try batch_size=32"
        with pytest.raises(UserError, match=advice):
            fitted(checkerboard(), **small, batch_size=64, negatives=50_000)
        fitted(checkerboard(), **small)


def test_memory_is_flat_over_forty_fits() -> None:
    taken = []
    for _ in range(40):
        fitted(checkerboard(), device="cuda", epochs=1)
        taken.append(torch.cuda.memory_allocated())
    assert max(taken) <= taken[0] + 2 * MIB
    reserved = torch.cuda.memory_reserved()
    fitted(checkerboard(), device="cuda", epochs=1)
    assert torch.cuda.memory_reserved() <= reserved
