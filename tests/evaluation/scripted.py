"""Validations whose every epoch is known before, and what ends them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pipeline.data.dataset import Dataset
from pipeline.evaluation.validation import (
    OVER_POPULAR,
    OVER_STRANGERS,
    Validation,
    rolling_windows,
    validate,
    window_name,
)
from pipeline.models.base import Arrays, EpochRecommender
from pipeline.models.fitting import EpochDone
from pipeline.models.ncf import NCF, NCFSettings
from pipeline.settings import Settings
from pipeline.training.checkpoint import EpochMetrics, Journal
from pipeline.training.trainer import Epoch

NDCG = "ndcg_at_10"
EARLY, LATE = 0.55, 0.7
PARTS = ("users", "one", "other", "squares")
SUMS = {f"{over}/{part}" for over in (OVER_POPULAR, OVER_STRANGERS) for part in PARTS}
Script = dict[float, list[float]]


class Scripted(EpochRecommender):
    """Gets the lists of a given share of users right, another share after each epoch.

    The lists of the others have no hit, so the share is the NDCG. Epochs are noted in ``done``.
    """

    def __init__(self, script: Script, done: list[tuple[str, int]]) -> None:
        super().__init__(Settings(), seed=0)
        self.script = {window_name(quantile): shares for quantile, shares in script.items()}
        self.done = done

    def fit(self, dataset: Dataset, on_epoch: Any = None, state: Any = None) -> Self:
        self.dataset, name = dataset, dataset.name.rpartition("/")[2].replace("-", "_")
        begun = 0 if state is None else state["epochs_done"]
        for number in range(begun + 1, len(self.script[name]) + 1):
            self.done.append((name, number))
            self.share = self.script[name][number - 1]
            state = {"epochs_done": number}
            epoch = Epoch(number, 1 / number, 2 / number, 1.0, 1.0, partial(dict, state))
            if on_epoch(epoch):
                break
        return self

    def scores(self, users: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        places = np.searchsorted(self.dataset.test_users, users)
        right = places < round(self.share * len(self.dataset.test_users))
        held_out = self.dataset.held_out[places].toarray()
        return np.where(right[:, None], held_out, -held_out)

    def arrays(self) -> Arrays:
        return {}

    def load_arrays(self, arrays: Arrays) -> None:
        pass


class Killed(BaseException):
    """What ends a run from outside."""


def run(
    script: Script,
    dataset: Dataset,
    *,
    patience: int | None = None,
    journal: Journal | None = None,
    on_epoch: EpochDone | None = None,
) -> tuple[Validation, list[tuple[str, int]]]:
    """What validation finds and the epochs it did."""
    done: list[tuple[str, int]] = []
    found = validate(
        lambda: Scripted(script, done),
        rolling_windows(dataset, list(script), [5, 10]),
        metric=NDCG,
        journal=journal or Journal(),
        patience=patience,
        on_epoch=on_epoch,
    )
    return found, done


def epochs(quantile: float, *numbers: int) -> list[tuple[str, int]]:
    """These of a window, as ``run`` has them."""
    return [(window_name(quantile), number) for number in numbers]


def kill_at(name: str, number: int) -> EpochDone:
    """To be told of epochs, and killed at one."""

    def kill(told_name: str, told_number: int, record: EpochMetrics) -> None:
        if (told_name, told_number) == (name, number):
            raise Killed

    return kill


def network(dataset: Dataset, quantiles: Sequence[float], **changes: Any) -> Validation:
    """Of three epochs of NCF."""
    settings = NCFSettings(
        epochs=3, batch_size=256, learning_rate=0.01, dropout=0.2, patience=3, device="cpu"
    )
    options: dict[str, Any] = {"metric": NDCG, "journal": Journal(), "patience": 3}
    windows = rolling_windows(dataset, quantiles, [10])
    return validate(lambda: NCF(settings, 0), windows, **(options | changes))


def numbers(found: Validation) -> dict[float, EpochMetrics]:
    """What is the same in every run: all but times."""
    times = ("epoch_seconds", "examples_per_second")
    return {
        quantile: {name: value for name, value in record.items() if name not in times}
        for quantile, record in found.windows.items()
    }
