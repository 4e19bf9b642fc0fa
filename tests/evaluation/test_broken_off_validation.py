"""A validation that was broken off goes on where it was, and is the one that was not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.data.dataset import Dataset
from pipeline.evaluation.validation import Validation, rolling_windows, validate, window_name
from pipeline.models.popularity import MostPopular
from pipeline.training.checkpoint import EpochMetrics, Journal
from tests.evaluation.scripted import (
    EARLY,
    LATE,
    NDCG,
    Killed,
    epochs,
    kill_at,
    network,
    numbers,
    run,
)

SCRIPT = {EARLY: [0.2, 0.9, 0.3, 0.2], LATE: [0.1, 0.6, 0.7, 0.2, 0.1]}
WHOLE = epochs(EARLY, 1, 2, 3, 4) + epochs(LATE, 1, 2, 3, 4, 5)


@pytest.mark.parametrize("place", range(len(WHOLE)), ids=[f"{n}-{e}" for n, e in WHOLE])
def test_a_killed_validation_goes_on(place: int, dataset: Dataset, tmp_path: Path) -> None:
    """Wherever it was killed: finished windows stay, epochs in the journal are not done again."""
    whole, done = run(SCRIPT, dataset, patience=2)
    assert done == WHOLE
    path = tmp_path / "journal.pt"
    with pytest.raises(Killed):
        run(SCRIPT, dataset, patience=2, journal=Journal(path), on_epoch=kill_at(*WHOLE[place]))
    journal = Journal.load(path) if path.exists() else Journal(path)
    resumed, rest = run(SCRIPT, dataset, patience=2, journal=journal)
    assert resumed == whole
    assert rest == WHOLE[place:]
    again, nothing = run(SCRIPT, dataset, patience=2, journal=Journal.load(path))
    assert again == whole
    assert not nothing


class KilledAtTheEnd(Journal):
    def finish(self, fit: str) -> None:
        raise Killed


def test_a_window_that_patience_ended_is_not_gone_on_with(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "journal.pt"
    with pytest.raises(Killed):
        run({EARLY: [*SCRIPT[EARLY], 1.0]}, dataset, patience=2, journal=KilledAtTheEnd(path))
    found, rest = run(
        {EARLY: [*SCRIPT[EARLY], 1.0]}, dataset, patience=2, journal=Journal.load(path)
    )
    assert not rest
    assert found.epochs == 2


def test_a_model_without_epochs_killed_at_the_end(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "journal.pt"

    def go(journal: Journal) -> Validation:
        return validate(
            lambda: MostPopular(MostPopular.settings_class(), seed=0),
            rolling_windows(dataset, [EARLY], [10]),
            metric=NDCG,
            journal=journal,
        )

    with pytest.raises(Killed):
        go(KilledAtTheEnd(path))
    assert go(Journal.load(path)) == go(Journal())


class HopelessError(Exception):
    """What ends a trial that is not worth going on with."""


@pytest.mark.parametrize("model", ["network", "without epochs"])
def test_what_is_raised_when_told_ends_the_validation(dataset: Dataset, model: str) -> None:
    told: list[tuple[str, int]] = []

    def give_up(name: str, number: int, record: EpochMetrics) -> None:
        told.append((name, number))
        if name == window_name(LATE):
            raise HopelessError

    def go() -> Validation:
        if model == "network":
            return network(dataset, [EARLY, LATE], on_epoch=give_up)
        windows = rolling_windows(dataset, [EARLY, LATE], [10])
        popular = MostPopular(MostPopular.settings_class(), seed=0)
        return validate(lambda: popular, windows, metric=NDCG, journal=Journal(), on_epoch=give_up)

    threads = torch.get_num_threads()
    with pytest.raises(HopelessError):
        go()
    assert told == (
        epochs(EARLY, 0) + epochs(LATE, 0)
        if model == "without epochs"
        else epochs(EARLY, 1, 2, 3) + epochs(LATE, 1)
    )
    assert torch.get_num_threads() == threads


def test_a_killed_validation_of_a_network_goes_on_bit_for_bit(
    dataset: Dataset, tmp_path: Path
) -> None:
    whole = network(dataset, [EARLY, LATE])
    path = tmp_path / "journal.pt"
    with pytest.raises(Killed):
        network(
            dataset,
            [EARLY, LATE],
            journal=Journal(path),
            on_epoch=kill_at(window_name(LATE), 3),
        )
    resumed = network(dataset, [EARLY, LATE], journal=Journal.load(path))
    assert numbers(resumed) == numbers(whole)
    assert resumed.epochs == whole.epochs
