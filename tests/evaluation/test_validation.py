from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from pipeline.data.dataset import Dataset
from pipeline.data.windows import window_of
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.validation import (
    Validation,
    Window,
    rolling_windows,
    validate,
    window_name,
)
from pipeline.models.base import Recommender
from pipeline.models.factors import SVD
from pipeline.models.ncf import NCF, NCFSettings
from pipeline.models.popularity import MostPopular, MostPopularUnmasked
from pipeline.training.checkpoint import EpochMetrics, Journal
from tests.evaluation.scripted import EARLY, LATE, NDCG, SUMS, epochs, network, numbers, run

TRAINING = {"loss", "loss_sum", "epoch_seconds", "examples_per_second"}


def share(dataset: Dataset, quantile: float, wanted: float) -> float:
    """The share nearest to ``wanted`` that the users of a window can have."""
    count = len(window_of(dataset, quantile).test_users)
    return round(wanted * count) / count


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
