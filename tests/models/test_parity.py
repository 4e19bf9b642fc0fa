"""The notebook's figures on MovieLens-1M, from the experiment files (minutes on a CPU)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import read_experiment
from pipeline.data.dataset import Dataset
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.validation import rolling_windows, validate
from pipeline.models.base import Recommender
from pipeline.models.fitting import fit
from pipeline.training.checkpoint import Journal

pytestmark = pytest.mark.parity

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def trained(name: str, dataset: Dataset) -> tuple[Recommender, dict[int, float]]:
    """The experiment's model and its losses, summed over batches, by epoch."""
    model = read_experiment(EXPERIMENTS / f"{name}.yaml", {}).recommender()
    fit(model, dataset, "fit", journal := Journal())
    records = enumerate(journal.records.get("fit", []), start=1)
    return model, {number: record["loss_sum"] for number, record in records}


def measured(model: Recommender, dataset: Dataset) -> dict[str, float]:
    return evaluate(model, dataset, [10]).evaluation.summary


@pytest.mark.parametrize(
    ("name", "expected_losses", "ndcg"),
    [
        ("ncf_bpr", {5: 235.76, 10: 211.53, 15: 207.05, 20: 205.31}, 0.328),
        ("ncf_bce", {5: 218.43, 10: 203.97, 15: 201.64, 20: 200.37}, 0.325),
    ],
)
def test_the_collapsed_networks(
    ml_1m: Dataset, name: str, expected_losses: dict[int, float], ndcg: float
) -> None:
    model, losses = trained(name, ml_1m)
    assert {epoch: losses[epoch] for epoch in expected_losses} == pytest.approx(
        expected_losses, rel=0.01
    )
    metrics = measured(model, ml_1m)
    assert metrics["ndcg_at_10"] == pytest.approx(ndcg, abs=0.006)
    assert metrics["coverage_at_10"] == pytest.approx(0.037, abs=0.004)
    assert metrics["popularity_overlap_at_10"] > 0.9
    assert "median norm" in str(model.collapsed())


def test_the_network_that_personalises(ml_1m: Dataset) -> None:
    model, losses = trained("ncf_bce_100", ml_1m)
    # Seeds differ by up to 1 % among themselves, and the notebook's own run is at their edge.
    expected = {20: 193.55, 60: 171.51, 100: 163.47}
    assert {epoch: losses[epoch] for epoch in expected} == pytest.approx(expected, rel=0.015)
    metrics = measured(model, ml_1m)
    assert metrics["ndcg_at_10"] == pytest.approx(0.337, abs=0.008)
    assert metrics["coverage_at_10"] == pytest.approx(0.22, abs=0.03)
    assert model.collapsed() is None


def test_most_popular(ml_1m: Dataset) -> None:
    metrics = measured(trained("most_popular", ml_1m)[0], ml_1m)
    assert metrics["ndcg_at_10"] == pytest.approx(0.3256, abs=0.0005)
    assert metrics["hit_rate_at_10"] == pytest.approx(0.8086, abs=0.0005)
    assert metrics["popularity_overlap_at_10"] == 1.0


def test_most_popular_unmasked(ml_1m: Dataset) -> None:
    metrics = measured(trained("most_popular_unmasked", ml_1m)[0], ml_1m)
    # Two items tie for rank 10, so the notebook's list is one of two.
    assert 0.1329 <= metrics["ndcg_at_10"] <= 0.1335
    assert metrics["hit_rate_at_10"] == pytest.approx(0.5156, abs=0.003)
    assert metrics["coverage_at_10"] == pytest.approx(10 / 3662)


@pytest.mark.parametrize(
    ("name", "ndcg", "hit_rate", "tolerance"),
    [
        ("svd", 0.3655, 0.8517, 0.001),
        ("ease", 0.3568, 0.8385, 0.001),
        ("als", 0.3588, 0.8409, 0.001),
        ("item_knn", 0.3453, 0.8122, 0.002),
        ("user_knn", 0.3613, 0.8361, 0.002),
        ("slim", 0.3426, 0.8254, 0.002),
        ("two_tower", 0.2940, 0.7656, 0.01),
    ],
)
def test_the_other_rows_of_the_ledger(
    ml_1m: Dataset, name: str, ndcg: float, hit_rate: float, tolerance: float
) -> None:
    metrics = measured(trained(name, ml_1m)[0], ml_1m)
    assert metrics["ndcg_at_10"] == pytest.approx(ndcg, abs=tolerance)
    assert metrics["hit_rate_at_10"] == pytest.approx(hit_rate, abs=tolerance)


def test_sane_settings_beat_the_collapsed_networks(ml_1m: Dataset) -> None:
    experiment = read_experiment(EXPERIMENTS / "ncf.yaml", {})
    found = validate(
        experiment.recommender,
        rolling_windows(ml_1m, experiment.windows, experiment.k),
        metric=experiment.selection_metric,
        journal=Journal(),
        patience=3,
    )
    model = experiment.recommender(epochs=found.epochs).fit(ml_1m)
    assert model.collapsed() is None
    assert found.mean["popularity_overlap_at_10"] < 0.9
    # .328 + .006 is the most that either of the two may have here, .02 what it is to be beaten by.
    assert measured(model, ml_1m)["ndcg_at_10"] >= 0.354
