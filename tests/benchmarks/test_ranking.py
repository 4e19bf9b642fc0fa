"""The loop over users and the project rank alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import ranking
from benchmarks.ranking import METRICS, compare, cost, everyone
from benchmarks.training import settings
from pipeline.models.ncf import NCF
from pipeline.models.popularity import MostPopular
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


def test_sides_that_differ_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    board = checkerboard()
    model = NCF(settings(32, epochs=1), seed=0).fit(board)
    other = NCF(settings(32, epochs=1), seed=1).fit(board)
    twin = ranking.as_in_the_notebook(other, board)
    monkeypatch.setattr(ranking, "as_in_the_notebook", lambda *_: twin)
    with pytest.raises(RuntimeError, match="The sides share only"):
        compare(model, board, 5, np.random.default_rng(0))


def test_the_cost_is_in_seconds_and_bytes() -> None:
    board = checkerboard()
    model = MostPopular(MostPopular.settings_class(), seed=0).fit(board)
    figures = cost(model, board)
    assert float(figures["all users [s]"]) > 0
    assert 0 <= float(figures["memory [MiB]"]) < 64


def test_everyone_keeps_all_users_and_items(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pairs = pd.MultiIndex.from_product([range(40), range(30)], names=["user", "item"]).to_frame()
    rows = pairs[generator.random(1200) < 0.4].assign(rating=4, timestamp=1_000_000_000)
    rows.to_csv(file := tmp_path / "ratings.csv", index=False)
    dataset = everyone(str(file), generator)
    assert (dataset.n_users, dataset.n_items) == (40, 30)
    assert len(dataset.train) + len(dataset.test) == len(rows)
    assert dataset.test["user"].nunique() == 40
    assert 0.15 < len(dataset.test) / len(rows) < 0.3
