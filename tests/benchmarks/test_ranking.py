"""The loop over users and the project rank alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.ranking import METRICS, compare, everyone
from benchmarks.training import settings
from pipeline.models.ncf import NCF
from tests.conftest import checkerboard


def test_both_sides_give_the_same_lists_and_metrics() -> None:
    board = checkerboard()
    model = NCF(settings(32, epochs=5).model_copy(update={"learning_rate": 0.05}), seed=0)
    rows, agreement, ranked = compare(model.fit(board), board, 5, np.random.default_rng(0))
    assert agreement == 1
    assert len(ranked.users) > 5
    for metric in METRICS:
        assert rows[0][metric] == pytest.approx(rows[1][metric])
    assert rows[1]["ndcg"] > 0.3


def test_everyone_keeps_all_users_and_items(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pairs = pd.MultiIndex.from_product([range(40), range(30)], names=["user", "item"]).to_frame()
    rows = pairs[generator.random(1200) < 0.4].assign(rating=4, timestamp=1_000_000_000)
    rows.to_csv(file := tmp_path / "ratings.csv", index=False)
    dataset = everyone(str(file), generator)
    assert (dataset.n_users, dataset.n_items) == (40, 30)
    assert len(dataset.train) + len(dataset.test) == len(rows)
    assert 0.1 < len(dataset.test) / len(rows) < 0.25
