"""A fit that can be gone on with: every epoch measured, reported and journalled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.data.dataset import Dataset
from pipeline.models.base import EpochRecommender, Recommender
from pipeline.training.checkpoint import EpochMetrics, Journal

if TYPE_CHECKING:  # so that a change of the trainer is none of the models without a network
    from pipeline.training.trainer import Epoch

EpochDone = Callable[[str, int, EpochMetrics], None]
"""Called with the fit's name, the number of the epoch and its record.

A fit without epochs is reported once: number 0, and a record without a loss.
"""
Measure = Callable[[], tuple[EpochMetrics, EpochMetrics]]
"""What the model is worth as it is now: what is reported, and what is journalled beside that."""


def fit(
    model: Recommender,
    dataset: Dataset,
    name: str,
    journal: Journal,
    *,
    on_epoch: EpochDone | None = None,
    measure: Measure | None = None,
    stop: Callable[[list[EpochMetrics]], bool] | None = None,
) -> None:
    """Fit ``model`` to ``dataset`` from where the fit ``name`` of ``journal`` stands.

    A model without epochs is measured once, if at all. ``stop`` sees the records of all epochs so
    far, and what ``on_epoch`` raises ends the fit.
    """

    def note(number: int, training: EpochMetrics, state: dict[str, Any]) -> None:
        found, beside = ({}, {}) if measure is None else measure()
        record = {**found, **training}
        if on_epoch is not None:  # before the checkpoint: what is reported twice beats what is lost
            on_epoch(name, number, record)
        journal.record(name, {**record, **beside}, state)

    def after(epoch: Epoch) -> bool:
        note(epoch.number, epoch.record(), epoch.state())
        return stop is not None and stop(journal.records[name])

    if isinstance(model, EpochRecommender):
        model.fit(dataset, after, journal.state(name))
        return
    model.fit(dataset)
    if measure is not None:
        note(0, {}, {})
