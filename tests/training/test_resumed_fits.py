"""A fit goes on from a state: to the bit, on another device, and not from any state."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from pipeline.models.ncf import NCF, NCFSettings
from pipeline.models.two_tower import TwoTower
from pipeline.training.checkpoint import Journal
from pipeline.training.trainer import Epoch
from tests.conftest import checkerboard
from tests.training.fits import QUICK, fitted, noting


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss": "bpr", "dropout": 0.4, "weight_decay": 1e-4},
        {"loss": "softmax", "negatives": 3, "verified_negatives": True, "negative_power": 0.75},
        {"l2": 0.01, "rating_confidence": 1.0, "bias": True, "start": "svd"},
        {"l2": 0.01, "optimizer": "lazy_adam"},
    ],
    ids=["plain", "bpr", "softmax", "factors", "lazy"],
)
def test_a_fit_goes_on_bit_for_bit_from_where_it_was_stopped(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    board, path = checkerboard(), tmp_path / "journal.pt"
    whole, all_told = fitted(board, epochs=4, **settings)

    _, told = fitted(board, stop_after=2, epochs=4, **settings)
    Journal(path).record("fit", told[-1].record(), told[-1].state())
    rest: list[Epoch] = []
    resumed = NCF(NCFSettings(**(QUICK | {"epochs": 4} | settings)), seed=0)
    state = Journal.load(path).state("fit")
    resumed.fit(board, noting(rest), state)
    assert [epoch.number for epoch in rest] == [3, 4]
    assert [epoch.loss_sum for epoch in rest] == [epoch.loss_sum for epoch in all_told[2:]]
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(resumed.arrays()[name], array)


def test_a_fit_that_was_begun_on_a_gpu_goes_on_here(caplog: pytest.LogCaptureFixture) -> None:
    """Weights and moments are those of the state; its random numbers are of no use here."""
    board = checkerboard()
    _, told = fitted(board, stop_after=2, epochs=4)
    here = copy.deepcopy(told[-1].state())
    there = here | {"device": "cuda", "generator": torch.zeros(16, dtype=torch.uint8)}

    def losses(state: dict[str, Any]) -> list[float]:
        rest = list[Epoch]()
        NCF(NCFSettings(**QUICK, epochs=4), seed=0).fit(board, noting(rest), copy.deepcopy(state))
        assert [epoch.number for epoch in rest] == [3, 4]
        return [epoch.loss_sum for epoch in rest]

    assert caplog.text == ""
    first, again, same_kind = losses(there), losses(there), losses(here)
    assert first == again
    assert first != same_kind
    assert first == pytest.approx(same_kind, rel=0.1)
    assert caplog.text.count("begun on another kind of device (cuda) and goes on on cpu") == 2


@pytest.mark.parametrize("kind", [NCF, TwoTower])
def test_a_model_that_was_trained_on_a_gpu_is_loaded_anywhere(kind: Any, tmp_path: Path) -> None:
    board = checkerboard()
    model = kind(kind.settings_class(**QUICK, epochs=1), seed=0).fit(board)
    model.settings = model.settings.model_copy(update={"device": "cuda"})
    model.save(tmp_path)
    users = np.arange(3, dtype=np.int32)
    np.testing.assert_array_equal(kind.load(tmp_path).scores(users), model.scores(users))


def test_a_state_of_the_last_epoch_is_the_model() -> None:
    board = checkerboard()
    model, told = fitted(board, epochs=2)
    state = copy.deepcopy(told[-1].state())
    again = NCF(model.settings, seed=0).fit(board, lambda epoch: pytest.fail("trained"), state)
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array)


def assert_alike(model: NCF, *states: dict[str, Any]) -> None:
    """Going on from either of two states comes to the same, to the bit."""
    board = checkerboard()
    first, second = (NCF(model.settings, seed=0).fit(board, None, each) for each in states)
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(second.arrays()[name], array)


def test_a_state_can_be_gone_on_from_twice() -> None:
    model, told = fitted(checkerboard(), epochs=4, stop_after=2)
    state = copy.deepcopy(told[-1].state())
    assert_alike(model, state, state)


def test_a_state_from_before_tables_were_modules() -> None:
    model, told = fitted(checkerboard(), epochs=4, stop_after=2)
    state = copy.deepcopy(told[-1].state())
    before = copy.deepcopy(state)
    for name in ("users", "items"):
        before["network"][name] = before["network"].pop(f"{name}.weight")
    assert_alike(model, state, before)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("network"),
        lambda state: state.update(epochs_done="two"),
        lambda state: state.update(generator=torch.ones(3)),
        lambda state: state["network"].popitem(),
        lambda state: state["optimizer"].update(state=[]),
        # torch would write beyond the end of these, into whatever lies there.
        lambda state: state["optimizer"]["state"][0].update(exp_avg=torch.ones(3)),
        lambda state: state["optimizer"]["state"][0].update(exp_avg=None),
        lambda state: state["optimizer"]["state"][0].update(step=torch.ones(3)),
    ],
)
def test_a_state_of_something_else(change: Callable[[dict[str, Any]], object]) -> None:
    board = checkerboard()
    model, told = fitted(board, epochs=3, stop_after=1)
    state = copy.deepcopy(told[-1].state())
    change(state)
    with pytest.raises(UserError, match="The state to go on from does not fit this model"):
        NCF(model.settings, seed=0).fit(board, None, state)
