"""Validation on rolling windows inside the training part; the test is not looked at here.

    train |============|--window--|                       cut at 0.55
          |==================|--window--|                 cut at 0.7
          |========================|--window--|           cut at 0.85
                                                 | test, unknown here

A window is the same split made of the training interactions alone; where that is not in time, each
window is a draw of its own. A model is fitted on each window's own training part and evaluated on
its held-out part. What is chosen is chosen on the mean over windows, because a single one picks
badly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.data.dataset import Dataset
from pipeline.evaluation.evaluate import FullRanking
from pipeline.models.base import Recommender
from pipeline.models.popularity import MostPopular
from pipeline.training.checkpoint import Journal, Record
from pipeline.training.trainer import Epoch

EpochDone = Callable[[str, int, Record], None]
"""Told the fit's name, the number of the epoch and its record.

A fit without epochs is told of once: number 0, and a record without a loss.
"""


@dataclass(frozen=True)
class Validation:
    """What validation found."""

    epochs: int | None
    """The number of epochs with the best mean over windows; None for models without epochs."""
    windows: dict[float, Record]
    """What each window's fit recorded at that number of epochs, by quantile."""

    @property
    def mean(self) -> Record:
        """The mean over windows of each metric of the lists; empty without windows."""
        records = list(self.windows.values())
        names = [name for name in records[0] if "_at_" in name] if records else []
        return {name: sum(record[name] for record in records) / len(records) for name in names}


def window_name(quantile: float) -> str:
    """What a window's fit is called in journals and metric names."""
    return f"window_{quantile:g}"


@dataclass(frozen=True)
class Window:
    """A time split inside the training part of ``whole``; made when first used, then kept."""

    whole: Dataset
    quantile: float
    ks: Sequence[int]

    @property
    def name(self) -> str:
        """What its fit is called."""
        return window_name(self.quantile)

    @cached_property
    def dataset(self) -> Dataset:
        """The split: what is fitted on."""
        return self.whole.window(self.quantile)

    @cached_property
    def ranking(self) -> FullRanking:
        """How models are evaluated on it."""
        return FullRanking(self.dataset, self.ks)

    @cached_property
    def popularity(self) -> Record:
        """What the popularity list is worth on it: what a personal model has to beat."""
        popular = MostPopular(MostPopular.settings_class(), seed=0).fit(self.dataset)
        return self.ranking.evaluate(popular).evaluation.summary


def rolling_windows(
    dataset: Dataset, quantiles: Sequence[float], ks: Sequence[int]
) -> list[Window]:
    """The windows of ``dataset`` cut at ``quantiles``, for lists of the lengths ``ks``.

    Models that are validated on the same windows share what does not depend on the model.
    """
    return [Window(dataset, quantile, ks) for quantile in quantiles]


def validate(
    make: Callable[[], Recommender],
    windows: Sequence[Window],
    *,
    metric: str,
    journal: Journal,
    patience: int | None = None,
    on_epoch: EpochDone | None = None,
) -> Validation:
    """Fit and evaluate a model per window.

    Models that learn in epochs are evaluated after each; with ``patience``, a window stops after
    so many epochs without a better ``metric``, and the number of epochs with the best mean over
    windows is chosen (all windows having reached it). Without patience it is the last.
    Fits that ``journal`` has finished are not done again, one in progress goes on. What
    ``on_epoch`` raises ends the validation.
    """
    for window in windows:
        if window.name in journal.finished:
            continue
        curve = journal.epochs.get(window.name, [])
        if patience is None or not curve or _stale(curve, metric) < patience:
            _fit_window(make(), window, metric, journal, patience, on_epoch)
        journal.finish(window.name)
    curves = {window.quantile: journal.epochs[window.name] for window in windows}
    if not curves:
        return Validation(None, {})
    length = min(len(curve) for curve in curves.values())
    chosen = length - 1
    if patience is not None:
        means = [sum(curve[epoch][metric] for curve in curves.values()) for epoch in range(length)]
        chosen = means.index(max(means))
    in_epochs = "loss" in next(iter(curves.values()))[0]
    records = {quantile: curve[chosen] for quantile, curve in curves.items()}
    return Validation(chosen + 1 if in_epochs else None, records)


def _fit_window(
    model: Recommender,
    window: Window,
    metric: str,
    journal: Journal,
    patience: int | None,
    on_epoch: EpochDone | None,
) -> None:
    def note(number: int, training: Record, state: dict[str, Any]) -> None:
        record = {**window.ranking.evaluate(model).evaluation.summary, **training}
        if on_epoch is not None:  # before the checkpoint: what is told twice beats what is lost
            on_epoch(window.name, number, record)
        journal.record(window.name, record, state)

    def after(epoch: Epoch) -> bool:
        note(epoch.number, epoch.record(), epoch.state())
        return patience is not None and _stale(journal.epochs[window.name], metric) >= patience

    model.fit(window.dataset, after, journal.state(window.name))
    if window.name not in journal.epochs:
        note(0, {}, {})


def _stale(curve: list[Record], metric: str) -> int:
    """Epochs since the best one."""
    values = [record[metric] for record in curve]
    return len(values) - 1 - values.index(max(values))
