from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from pipeline.data.dataset import Dataset
from pipeline.evaluation.breakdown import breakdown
from pipeline.evaluation.evaluate import Ranked, evaluate
from pipeline.models.popularity import MostPopular
from pipeline.settings import Settings
from tests.conftest import make_dataset

DISCOUNT = 1 / np.log2(3)


@pytest.fixture
def popular(dataset: Dataset) -> Ranked:
    return evaluate(MostPopular(Settings(), 0).fit(dataset), dataset, [10])


def test_quarters_hold_all_users_and_average_to_the_whole(
    dataset: Dataset, popular: Ranked
) -> None:
    table = breakdown(popular, dataset, 10)
    quarters = table[table["by"] == "activity"]
    assert quarters["users"].sum() == len(popular.users)
    assert quarters["users"].max() - quarters["users"].min() <= 1
    whole = np.average(quarters["ndcg"], weights=quarters["users"])
    assert whole == pytest.approx(popular.evaluation.summary["ndcg_at_10"])


def test_thirds_share_out_the_held_out_interactions(dataset: Dataset, popular: Ranked) -> None:
    thirds = breakdown(popular, dataset, 10).query("by == 'item popularity'")
    assert thirds["group"].tolist() == ["tail", "middle", "head"]
    assert thirds["held_out"].sum() == popular.held_out.nnz
    by_group = thirds.set_index("group")["ndcg"]
    assert by_group["tail"] < by_group["head"]


def test_known_answer() -> None:
    # Items 0, 1, 2 have 4, 3 and 2 of 9 training interactions: head, middle and tail.
    train = [(user, item) for item, count in enumerate((4, 3, 2)) for user in range(count)]
    board = make_dataset([*train, (0, 3)], [(0, 3)])
    lists = np.array([[0, 1], [2, 1]], np.int32)
    held_out = sparse.csr_matrix(np.array([[0, 1, 0, 0], [1, 1, 0, 0]], np.float32))
    users = np.array([2, 3], np.int32)
    ranked = Ranked(users, lists, held_out, None, of=2)  # type: ignore[arg-type]
    table = breakdown(ranked, board, 2).set_index("group")
    # User 3 has one training interaction and the ideal of two hits; user 2 has two, and of one.
    assert table.loc["least active quarter", "ndcg"] == pytest.approx(DISCOUNT / (1 + DISCOUNT))
    assert table.loc["second quarter", "ndcg"] == pytest.approx(DISCOUNT)
    assert table.loc["middle", "ndcg"] == pytest.approx(DISCOUNT)
    assert table.loc["head", "ndcg"] == 0
    assert "tail" not in table.index
