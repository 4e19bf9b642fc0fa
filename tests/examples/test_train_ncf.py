"""The method in one file arrives where the pipeline does."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from pipeline.config import read_experiment
from pipeline.data.dataset import Dataset
from pipeline.evaluation.evaluate import evaluate
from pipeline.models.base import Recommender
from pipeline.models.ncf import NCF, NCFSettings

ROOT = Path(__file__).parents[2]
FILE = ROOT / "examples" / "train_ncf.py"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_ncf", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "train_ncf", module)
    spec.loader.exec_module(module)
    return module


def fitted(model: Recommender, dataset: Dataset) -> tuple[list[float], dict[str, float]]:
    """The pipeline's losses and metrics, as the example calls them."""
    losses = list[float]()
    model.fit(dataset, lambda epoch: losses.append(epoch.loss_sum) or False)
    found = evaluate(model, dataset, [10]).evaluation.summary
    names = ("ndcg", "hit_rate", "precision", "recall", "coverage")
    return losses, {name: found[f"{name}_at_10"] for name in names}


def test_the_same_seed_gives_the_figures_of_the_pipeline(
    example: ModuleType, dataset: Dataset, ratings: pd.DataFrame, tmp_path: Path
) -> None:
    table = ratings[["user", "item", "rating", "timestamp"]].astype("int64")
    lines = ["::".join(map(str, row)) for row in table.to_numpy().tolist()]
    (tmp_path / "ratings.dat").write_text("\n".join(lines) + "\n")
    knobs: dict[str, Any] = {"batch_size": 256, "learning_rate": 1e-3, "epochs": 4}
    for name, value in knobs.items():
        setattr(example, name.upper(), value)
    losses, metrics = example.main(tmp_path / "ratings.dat")
    settings = NCFSettings(loss="bpr", embedding_dim=6, start="svd", device="cpu", **knobs)
    expected, expected_metrics = fitted(NCF(settings, seed=42), dataset)
    assert losses == pytest.approx(expected, rel=1e-5)
    assert losses[-1] < 0.95 * losses[0]
    assert metrics == pytest.approx(expected_metrics, abs=1e-9)


@pytest.mark.parity
def test_its_knobs_are_those_of_the_experiment(example: ModuleType, ml_1m: Dataset) -> None:
    archive = Path(os.environ["PIPELINE_DATA_DIR"]) / "ml-1m.zip"
    losses, metrics = example.main(archive)
    experiment = read_experiment(ROOT / "experiments" / "ncf.yaml", {})
    expected, expected_metrics = fitted(experiment.recommender(epochs=example.EPOCHS), ml_1m)
    assert losses == pytest.approx(expected, rel=1e-5)
    assert metrics == pytest.approx(expected_metrics, abs=1e-4)
    assert metrics["ndcg"] == pytest.approx(0.3770, abs=1e-4)


def test_it_is_one_file_to_read() -> None:
    lines = FILE.read_text().splitlines()
    assert len(lines) <= 200
    imports = {
        line.split()[1].partition(".")[0] for line in lines if line.startswith(("import", "from"))
    }
    assert not imports & {"pipeline", "mlflow", "benchmarks"}
