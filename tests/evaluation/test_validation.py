from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pipeline.data.dataset import Dataset
from pipeline.data.windows import window_of
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.validation import (
    OVER_POPULAR,
    OVER_STRANGERS,
    Validation,
    Window,
    rolling_windows,
    validate,
    window_name,
)
from pipeline.models.base import Arrays, EpochRecommender, Recommender
from pipeline.models.factors import SVD
from pipeline.models.fitting import EpochDone
from pipeline.models.ncf import NCF, NCFSettings
from pipeline.models.popularity import MostPopular, MostPopularUnmasked
from pipeline.settings import Settings
from pipeline.training.checkpoint import EpochMetrics, Journal
from pipeline.training.trainer import Epoch

NDCG = "ndcg_at_10"
EARLY, LATE = 0.55, 0.7
TRAINING = {"loss", "loss_sum", "epoch_seconds", "examples_per_second"}
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
    return [(window_name(quantile), number) for number in numbers]


def share(dataset: Dataset, quantile: float, wanted: float) -> float:
    """The share nearest to ``wanted`` that the users of a window can have."""
    count = len(window_of(dataset, quantile).test_users)
    return round(wanted * count) / count


def kill_at(name: str, number: int) -> EpochDone:
    def kill(told_name: str, told_number: int, record: EpochMetrics) -> None:
        if (told_name, told_number) == (name, number):
            raise Killed

    return kill


def test_without_patience_it_is_the_last_epoch(dataset: Dataset) -> None:
    found, done = run({EARLY: [0.2, 0.8, 0.4], LATE: [0.6, 0.4, 0.2]}, dataset)
    assert found.epochs == 3
    assert done == epochs(EARLY, 1, 2, 3) + epochs(LATE, 1, 2, 3)
    early, late = share(dataset, EARLY, 0.4), share(dataset, LATE, 0.2)
    assert found.windows[EARLY][NDCG] == pytest.approx(early)
    assert found.windows[LATE][NDCG] == pytest.approx(late)
    assert found.windows[LATE]["loss"] == pytest.approx(1 / 3)
    assert found.mean[NDCG] == pytest.approx((early + late) / 2)
    assert found.mean["hit_rate_at_5"] == pytest.approx((early + late) / 2)
    assert not found.mean.keys() & TRAINING
    for record in found.windows.values():
        assert found.mean.keys() | TRAINING == record.keys() - SUMS


def test_with_patience_it_is_the_best_mean_over_windows(dataset: Dataset) -> None:
    # The windows alone would choose epochs 2 and 4.
    script = {EARLY: [0.2, 0.9, 0.8, 0.1], LATE: [0.2, 0.3, 0.8, 0.9]}
    found, done = run(script, dataset, patience=9)
    assert found.epochs == 3
    assert len(done) == 8
    assert found.windows[EARLY][NDCG] == pytest.approx(share(dataset, EARLY, 0.8))


def test_patience_ends_a_window(dataset: Dataset) -> None:
    script = {EARLY: [0.5, 0.9, 0.4, 0.8, 1.0, 1.0], LATE: [0.8, 0.7, 0.3, 0.3, 1.0]}
    found, done = run(script, dataset, patience=2)
    assert done == epochs(EARLY, 1, 2, 3, 4) + epochs(LATE, 1, 2, 3)
    assert found.epochs == 2  # of the three that both windows reached


def test_an_equal_epoch_is_no_better_one(dataset: Dataset) -> None:
    found, done = run({EARLY: [0.5, 0.5, 0.5, 0.5]}, dataset, patience=2)
    assert done == epochs(EARLY, 1, 2, 3)
    assert found.epochs == 1


def test_each_better_epoch_renews_patience(dataset: Dataset) -> None:
    found, done = run({EARLY: [0.1, 0.0, 0.2, 0.1, 0.3, 0.2, 0.1, 0.9]}, dataset, patience=2)
    assert done == epochs(EARLY, 1, 2, 3, 4, 5, 6, 7)
    assert found.epochs == 5


def test_every_epoch_is_told(dataset: Dataset) -> None:
    told: list[tuple[str, int, EpochMetrics]] = []
    script = {EARLY: [0.2, 0.8], LATE: [0.4, 0.6]}
    found, _ = run(script, dataset, on_epoch=lambda *epoch: told.append(epoch))
    assert [epoch[:2] for epoch in told] == epochs(EARLY, 1, 2) + epochs(LATE, 1, 2)
    expected = {name: x for name, x in found.windows[EARLY].items() if name not in SUMS}
    assert told[1][2] == expected
    assert told[2][2][NDCG] == pytest.approx(share(dataset, LATE, 0.4))
    assert told[2][2] | {"loss": 1.0, "loss_sum": 2.0, "epoch_seconds": 1.0} == told[2][2]


def test_the_journal_has_every_epoch(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "journal.pt"
    found, _ = run({EARLY: [0.2, 0.8], LATE: [0.4, 0.6]}, dataset, journal=Journal(path))
    journal = Journal.load(path)
    assert journal.finished == [window_name(EARLY), window_name(LATE)]
    assert [len(journal.records[name]) for name in journal.finished] == [2, 2]
    assert journal.records[window_name(LATE)][1] == found.windows[LATE]


def test_models_without_epochs_have_one_record(dataset: Dataset) -> None:
    journal, told = Journal(), list[Any]()

    def make() -> Recommender:
        return MostPopular(MostPopular.settings_class(), seed=0)

    found = validate(
        make,
        rolling_windows(dataset, [EARLY, LATE], [10]),
        metric=NDCG,
        journal=journal,
        patience=3,
        on_epoch=lambda *epoch: told.append(epoch),
    )
    assert found.epochs is None
    assert told == [(window_name(q), 0, found.windows[q]) for q in (EARLY, LATE)]
    assert list(found.windows) == [EARLY, LATE]
    assert found.mean["popularity_overlap_at_10"] == 1.0
    assert "loss" not in found.mean
    assert {name: len(records) for name, records in journal.records.items()} == {
        window_name(EARLY): 1,
        window_name(LATE): 1,
    }


def test_windows_are_shared_by_models(dataset: Dataset) -> None:
    """A model finds the same as on windows of its own, and the split is made once."""
    fitted: list[Dataset] = []

    class Noting(MostPopular):
        def fit(self, dataset: Dataset) -> Self:
            fitted.append(dataset)
            return super().fit(dataset)

    def found(cls: type[Recommender], windows: Sequence[Window]) -> Validation:
        return validate(
            lambda: cls(cls.settings_class(), seed=0), windows, metric=NDCG, journal=Journal()
        )

    shared = rolling_windows(dataset, [EARLY, LATE], [5, 10])
    for cls in (Noting, MostPopularUnmasked, SVD, Noting):
        own = rolling_windows(dataset, [EARLY, LATE], [5, 10])
        assert found(cls, shared) == found(cls, own)
    first, second = fitted[0:2], fitted[4:6]  # those between are of the other windows
    assert all(one is other for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("quantile", [EARLY, LATE])
def test_what_the_popularity_list_is_worth(quantile: float, dataset: Dataset) -> None:
    (window,) = rolling_windows(dataset, [quantile], [5, 10])
    split = window_of(dataset, quantile)
    assert window.name == window_name(quantile)
    assert window.dataset.fingerprint == split.fingerprint
    popular = MostPopular(MostPopular.settings_class(), seed=0).fit(split)
    assert window.popularity == evaluate(popular, split, [5, 10]).evaluation.summary
    assert window.popularity is window.popularity


def test_no_windows(dataset: Dataset) -> None:
    found, done = run({}, dataset)
    assert found == Validation(None, {})
    assert found.mean == {}
    assert not done


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


def network(dataset: Dataset, quantiles: Sequence[float], **changes: Any) -> Validation:
    settings = NCFSettings(
        epochs=3, batch_size=256, learning_rate=0.01, dropout=0.2, patience=3, device="cpu"
    )
    options: dict[str, Any] = {"metric": NDCG, "journal": Journal(), "patience": 3}
    windows = rolling_windows(dataset, quantiles, [10])
    return validate(lambda: NCF(settings, 0), windows, **(options | changes))


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


def numbers(found: Validation) -> dict[float, EpochMetrics]:
    """What is the same in every run: all but times."""
    times = ("epoch_seconds", "examples_per_second")
    return {
        quantile: {name: value for name, value in record.items() if name not in times}
        for quantile, record in found.windows.items()
    }


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


def test_the_test_is_not_looked_at(dataset: Dataset) -> None:
    rng = np.random.default_rng(0)
    later = dataset.later.assign(
        item=rng.permutation(dataset.later["item"].to_numpy()), rating=np.float32(1)
    )
    changed = replace(dataset, later=later[: len(later) // 2])
    assert changed.fingerprint != dataset.fingerprint
    assert numbers(network(changed, [LATE])) == numbers(network(dataset, [LATE]))


def test_a_window_is_scored_on_its_own_held_out_part(dataset: Dataset) -> None:
    found = network(dataset, [LATE])
    assert found.epochs is not None
    settings = NCFSettings(
        epochs=found.epochs, batch_size=256, learning_rate=0.01, dropout=0.2, device="cpu"
    )
    window = window_of(dataset, LATE)
    expected = evaluate(NCF(settings, seed=0).fit(window), window, [10]).evaluation.summary
    assert expected.items() <= found.windows[LATE].items()
