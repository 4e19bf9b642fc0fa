"""Fits that are told, journalled and gone on with."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.models.fitting import fit
from pipeline.models.ncf import NCF, NCFSettings
from pipeline.models.popularity import MostPopular
from pipeline.settings import Settings
from pipeline.training.checkpoint import EpochMetrics, Journal
from tests.conftest import checkerboard

Told = list[tuple[str, int, EpochMetrics]]
EVERYONE = np.arange(20, dtype=np.int32)


def network() -> NCF:
    settings = {"epochs": 4, "batch_size": 32, "learning_rate": 0.02, "device": "cpu"}
    return NCF(NCFSettings(**settings), seed=0)


def test_an_epoch_is_told_before_it_is_journalled() -> None:
    journal, told, model = Journal(), Told(), network()

    def note(name: str, number: int, record: EpochMetrics) -> None:
        assert len(journal.records.get(name, [])) == number - 1
        told.append((name, number, record))

    def measure() -> tuple[EpochMetrics, EpochMetrics]:
        return {"mean": float(model.scores(EVERYONE).mean())}, {"beside": 1.0}

    fit(model, checkerboard(), "one", journal, on_epoch=note, measure=measure)
    assert [(name, number) for name, number, _ in told] == [("one", n) for n in (1, 2, 3, 4)]
    assert {"mean", "loss", "loss_sum"} <= told[0][2].keys()
    assert len({record["mean"] for _, _, record in told}) == 4
    assert journal.records["one"] == [{**record, "beside": 1.0} for _, _, record in told]


def test_a_fit_that_was_stopped_goes_on_from_its_journal() -> None:
    board, journal, whole, again = checkerboard(), Journal(), network(), network()
    fit(whole, board, "one", Journal())
    fit(network(), board, "one", journal, stop=lambda records: len(records) == 2)
    assert len(journal.records["one"]) == 2
    fit(again, board, "one", journal)
    assert len(journal.records["one"]) == 4
    np.testing.assert_array_equal(again.scores(EVERYONE), whole.scores(EVERYONE))


@pytest.mark.parametrize("measured", [True, False])
def test_a_model_without_epochs_is_measured_once_if_at_all(measured: bool) -> None:
    journal, told = Journal(), Told()
    fit(
        MostPopular(Settings(), seed=0),
        checkerboard(),
        "one",
        journal,
        on_epoch=lambda *each: told.append(each),
        measure=(lambda: ({"worth": 0.5}, {"beside": 1.0})) if measured else None,
    )
    assert told == ([("one", 0, {"worth": 0.5})] if measured else [])
    assert journal.records == ({"one": [{"worth": 0.5, "beside": 1.0}]} if measured else {})
