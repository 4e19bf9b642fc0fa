"""Validation on rolling windows inside the training part; the test is not looked at here.

    train |============|--window--|                       cut at 0.55
          |==================|--window--|                 cut at 0.7
          |========================|--window--|           cut at 0.85
                                                 | test, unknown here

A window is the same time split made of the training interactions alone. A model is fitted on each
window's own training part and evaluated on its held-out part. What is chosen is chosen on the mean
over windows, because a single one picks badly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.data.dataset import Dataset
from pipeline.evaluation.evaluate import evaluate
from pipeline.models.base import Recommender
from pipeline.training.checkpoint import Journal, Record
from pipeline.training.trainer import Epoch

EpochDone = Callable[[str, int, Record], None]
"""Told the fit's name, the number of the epoch and its record."""


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


def validate(
    make: Callable[[], Recommender],
    dataset: Dataset,
    quantiles: Sequence[float],
    ks: Sequence[int],
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
    Fits that ``journal`` has finished are not done again, one in progress goes on.
    """
    for quantile in quantiles:
        name = window_name(quantile)
        if name in journal.finished:
            continue
        curve = journal.epochs.get(name, [])
        if patience is None or not curve or _stale(curve, metric) < patience:
            window = dataset.window(quantile)
            _fit_window(make(), window, name, ks, metric, journal, patience, on_epoch)
        journal.finish(name)
    curves = {quantile: journal.epochs[window_name(quantile)] for quantile in quantiles}
    if not curves:
        return Validation(None, {})
    length = min(len(curve) for curve in curves.values())
    chosen = length - 1
    if patience is not None:
        means = [sum(curve[epoch][metric] for curve in curves.values()) for epoch in range(length)]
        chosen = means.index(max(means))
    in_epochs = "loss" in next(iter(curves.values()))[0]
    windows = {quantile: curve[chosen] for quantile, curve in curves.items()}
    return Validation(chosen + 1 if in_epochs else None, windows)


def _fit_window(
    model: Recommender,
    window: Dataset,
    name: str,
    ks: Sequence[int],
    metric: str,
    journal: Journal,
    patience: int | None,
    on_epoch: EpochDone | None,
) -> None:
    def after(epoch: Epoch) -> bool:
        metrics = evaluate(model, window, ks).evaluation.summary
        record = {**metrics, **epoch.record()}
        if on_epoch is not None:  # before the checkpoint: what is told twice beats what is lost
            on_epoch(name, epoch.number, record)
        journal.record(name, record, epoch.state())
        return patience is not None and _stale(journal.epochs[name], metric) >= patience

    model.fit(window, after, journal.state(name))
    if name not in journal.epochs:
        journal.record(name, evaluate(model, window, ks).evaluation.summary, {})


def _stale(curve: list[Record], metric: str) -> int:
    """Epochs since the best one."""
    values = [record[metric] for record in curve]
    return len(values) - 1 - values.index(max(values))
