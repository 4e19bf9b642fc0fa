from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from pipeline.data.dataset import Dataset
from pipeline.data.split_settings import COLD, LOW_ACTIVITY, WARM, SplitSettings
from pipeline.errors import UserError
from pipeline.evaluation.evaluate import FullRanking, evaluate, recommendations
from pipeline.evaluation.ranking import first_unseen
from pipeline.models.base import Arrays, Recommender
from pipeline.models.popularity import MostPopular, MostPopularUnmasked
from pipeline.settings import Settings
from tests.conftest import checkerboard, make_dataset, make_items


class Table(Recommender):
    """Scores as they stand in a table, a row per user."""

    def __init__(self, table: Sequence[Sequence[float]]) -> None:
        super().__init__(Settings(), seed=0)
        self.table = np.array(table, np.float32)

    def fit(self, dataset: Dataset) -> Self:
        return self

    def scores(self, users: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        return self.table[users]

    def arrays(self) -> Arrays:
        return {"table": self.table}

    def load_arrays(self, arrays: Arrays) -> None:
        self.table = arrays["table"]


class UnmaskedTable(Table):
    masks_seen = False


TABLE = [[9, 8, 1, 5, 3], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]]


@pytest.fixture
def tiny() -> Dataset:
    """Users 10, 11, 12 and items 100-104; 10 and 12 are evaluated."""
    return make_dataset(
        [(10, 100), (10, 101), (11, 101), (11, 102), (12, 100), (12, 103), (12, 104)],
        [(10, 102), (10, 103), (12, 101)],
    )


def test_lists_of_the_evaluated_users(tiny: Dataset) -> None:
    ranked = evaluate(Table(TABLE), tiny, [1, 2])
    assert ranked.users.tolist() == [0, 2]
    assert ranked.lists.tolist() == [[3, 4], [2, 1]]


def test_metrics_by_hand(tiny: Dataset) -> None:
    """10 has a hit at rank 1 of two possible, 12 one at rank 2 of one possible."""
    gain = 1 / math.log2(3)
    evaluation = evaluate(Table(TABLE), tiny, [1, 2]).evaluation
    ndcg = [1 / (1 + gain), gain]
    assert evaluation.per_user["ndcg_at_2"].tolist() == pytest.approx(ndcg)
    expected = {
        "hit_rate_at_1": 0.5,
        "precision_at_1": 0.5,
        "recall_at_1": 0.25,
        "ndcg_at_1": 0.5,
        "hit_rate_at_2": 1.0,
        "precision_at_2": 0.5,
        "recall_at_2": 0.75,
        "ndcg_at_2": sum(ndcg) / 2,
        "map_at_2": 0.5,
        "coverage_at_2": 4 / 5,
        # The most popular unseen ones are 102 and 103 (a tie, by index), and 101 and 102.
        "popularity_overlap_at_2": (1 / 2 + 1) / 2,
        "personalization_at_2": 1.0,
        # 103 and 104 have one user of three, 102 and 101 one and two.
        "novelty_at_2": (2 * math.log2(3) + math.log2(3) + math.log2(1.5)) / 4,
    }
    found = {name: evaluation.summary[name] for name in expected}
    assert found == pytest.approx(expected)


def test_a_model_that_masks_nothing(tiny: Dataset) -> None:
    ranked = evaluate(UnmaskedTable(TABLE), tiny, [2])
    assert ranked.lists.tolist() == [[0, 1], [4, 3]]
    assert ranked.evaluation.summary["hit_rate_at_2"] == 0


def test_popular_lists_are_masked(tiny: Dataset) -> None:
    assert tiny.popularity.tolist() == [2, 2, 1, 1, 1]
    popular = MostPopular(MostPopular.settings_class(), 0).fit(tiny)
    assert evaluate(popular, tiny, [3]).lists.tolist() == [[2, 3, 4], [1, 2, -1]]


def test_the_popularity_list_overlaps_with_itself(dataset: Dataset) -> None:
    popular, unmasked = (
        cls(cls.settings_class(), 0).fit(dataset) for cls in (MostPopular, MostPopularUnmasked)
    )
    ranked = evaluate(popular, dataset, [5, 10])
    assert ranked.evaluation.summary["popularity_overlap_at_10"] == 1.0
    assert ranked.evaluation.summary["popularity_overlap_at_5"] == 1.0
    same = evaluate(unmasked, dataset, [10])
    assert (same.lists == same.lists[0]).all()
    assert same.evaluation.summary["coverage_at_10"] == 10 / dataset.n_items
    assert same.evaluation.summary["popularity_overlap_at_10"] < 0.9


def test_who_knows_the_answer_has_every_hit() -> None:
    board = checkerboard()
    known = evaluate(Table(board.held_out.toarray().tolist()), board, [2]).evaluation.summary
    for name in ("hit_rate_at_2", "precision_at_2", "recall_at_2", "ndcg_at_2", "map_at_2"):
        assert known[name] == 1.0
    assert known["coverage_at_2"] == 1.0


def test_recommendations_are_in_the_terms_of_people(tiny: Dataset) -> None:
    table = recommendations(evaluate(Table(TABLE), tiny, [3]), tiny)
    expected = pd.DataFrame(
        {
            "user": [10, 10, 10, 12, 12],  # of five items, 12 has but two left
            "rank": np.array([1, 2, 3, 1, 2], np.int32),
            "item": [103, 104, 102, 102, 101],
            "title": ["Film 103", "Film 104", "Film 102", "Film 102", "Film 101"],
            "hit": [True, False, True, False, True],
        }
    )
    assert_frame_equal(table, expected)


def test_recommendations_agree_with_the_metrics(dataset: Dataset) -> None:
    model = MostPopular(MostPopular.settings_class(), 0).fit(dataset)
    ranked = evaluate(model, dataset, [10])
    table = recommendations(ranked, dataset)
    assert len(table) == 10 * len(dataset.test_users)
    precision = table.groupby("user")["hit"].mean().to_numpy()
    np.testing.assert_allclose(precision, ranked.evaluation.per_user["precision_at_10"])
    assert table["item"].nunique() / dataset.n_items == pytest.approx(
        ranked.evaluation.summary["coverage_at_10"]
    )


def test_users_that_did_not_train_get_the_popularity_list(dataset: Dataset) -> None:
    everyone = np.arange(dataset.n_users)
    liked = Table(np.where(everyone[:, None] >= 0, np.arange(dataset.n_items), 0).tolist())
    cold = evaluate(liked, dataset, [5], COLD)
    assert (cold.users >= dataset.n_users).all()
    most_popular = np.argsort(-dataset.popularity, kind="stable")[:5]
    assert (cold.lists == most_popular).all()
    assert cold.evaluation.summary["popularity_overlap_at_5"] == 1.0


def test_a_segment_of_both_kinds_keeps_each_users_own_row() -> None:
    # Users 0 and 1 train; user 2 is first seen later. All three are asked about.
    board = make_dataset([(0, 0), (1, 0), (1, 1), (0, 2)], [(0, 1), (1, 2), (2, 1)])
    mixed = replace(board, later=board.later.assign(segment=LOW_ACTIVITY))
    ranked = evaluate(Table([[0, 1, 0], [0, 0, 1]]), mixed, [2], LOW_ACTIVITY)
    assert ranked.users.tolist() == [0, 1, 2]
    assert ranked.lists.tolist() == [[1, -1], [2, -1], [0, 1]]
    assert recommendations(ranked, mixed)["user"].tolist() == [0, 1, 2, 2]


def test_a_ranking_serves_one_model_after_another(tiny: Dataset) -> None:
    """What it keeps is of the dataset alone: no model sees a trace of those before it."""
    models = [Table(TABLE), UnmaskedTable(TABLE), MostPopular(Settings(), 0).fit(tiny)]
    ranking = FullRanking(tiny, [1, 2])
    for model in [*models, *reversed(models)]:
        shared, alone = ranking.evaluate(model), evaluate(model, tiny, [1, 2])
        assert shared.lists.tolist() == alone.lists.tolist()
        assert shared.evaluation.summary == alone.evaluation.summary
        assert_frame_equal(shared.evaluation.per_user, alone.evaluation.per_user)


def test_the_popularity_list_is_made_once(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(*arguments: Any) -> npt.NDArray[np.int32]:
        made.append(first_unseen(*arguments))
        return made[-1]

    monkeypatch.setattr("pipeline.evaluation.evaluate.first_unseen", counted)
    ranking = FullRanking(tiny, [1, 2])
    assert made == []
    for _ in range(3):
        ranking.evaluate(Table(TABLE))
    assert len(made) == 1
    assert ranking.popular.tolist() == [[2, 3], [1, 2]]


def test_the_popularity_list_is_what_the_popularity_model_gives(dataset: Dataset) -> None:
    popular = MostPopular(Settings(), 0).fit(dataset)
    for segment in (WARM, COLD):
        ranking = FullRanking(dataset, [10], segment)
        assert ranking.popular.tolist() == ranking.evaluate(popular).lists.tolist()


def test_an_empty_segment_says_so(tiny: Dataset) -> None:
    with pytest.raises(UserError, match="no low_activity users"):
        evaluate(MostPopular(Settings(), 0).fit(tiny), tiny, [3], LOW_ACTIVITY)


@pytest.mark.parity
def test_popularity_on_the_segments_of_ml_1m(ml_1m: Dataset) -> None:
    popular = MostPopular(Settings(), 0).fit(ml_1m)
    unmasked = MostPopularUnmasked(Settings(), 0).fit(ml_1m)
    cold = evaluate(popular, ml_1m, [10], COLD)
    assert (len(cold.users), cold.held_out.nnz) == (640, 95_478)
    assert cold.evaluation.summary["ndcg_at_10"] == pytest.approx(0.4863, abs=5e-5)
    assert cold.evaluation.summary["hit_rate_at_10"] == pytest.approx(0.9359, abs=5e-5)
    # The notebook masked nothing here; .3402 and .8571 are the same list without seen items.
    low = evaluate(unmasked, ml_1m, [10], LOW_ACTIVITY)
    assert (len(low.users), low.held_out.nnz) == (77, 8_609)
    assert low.evaluation.summary["ndcg_at_10"] == pytest.approx(0.3171, abs=5e-5)
    assert low.evaluation.summary["hit_rate_at_10"] == pytest.approx(0.8312, abs=5e-5)


def coin(new: int) -> pd.DataFrame:
    """200 users have 40 of 80 items each; later each takes each of them again or not by a fair
    coin, and ``new`` of the others: nothing that can be known before."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(200):
        items = rng.permutation(80)
        late = [*items[:40][rng.random(40) < 0.5], *items[40 : 40 + new]]
        rows += [(user, item, 1, 10**9 + place) for place, item in enumerate(items[:40])]
        rows += [(user, item, 1, 2 * 10**9 + place) for place, item in enumerate(late)]
    table = pd.DataFrame(rows, columns=["user", "item", "rating", "timestamp"])
    return table.astype({"rating": np.float32})


def popular_on_the_coin(new: int, repeats: str) -> float:
    ratings = coin(new)
    rules = SplitSettings(test_cut=8000 / len(ratings), repeats=repeats)
    data = Dataset.from_ratings("coin", ratings, make_items(ratings["item"]), rules)
    assert len(data.train) == 8000
    model = MostPopular(MostPopular.settings_class(), seed=0).fit(data)
    return evaluate(model, data, (10,)).evaluation.summary["ndcg_at_10"]


def test_what_comes_again_later_does_not_tell_what_comes() -> None:
    """A training row that went because its pair comes again would: popularity had .48 here."""
    assert popular_on_the_coin(new=10, repeats="drop") == pytest.approx(10 / 40, abs=0.05)


def test_repeats_are_a_task_of_its_own_with_unmasked_lists() -> None:
    ratings = coin(0)
    rules = SplitSettings(test_cut=8000 / len(ratings), repeats="keep")
    data = Dataset.from_ratings("coin", ratings, make_items(ratings["item"]), rules)
    assert data.seen.nnz == 0
    ranking = FullRanking(data, (10,))
    assert (ranking.popular == ranking.popular[0]).all()  # one list for all
    model = MostPopular(MostPopular.settings_class(), seed=0).fit(data)
    ranked = ranking.evaluate(model)
    assert (ranked.lists == ranking.popular).all()
    chance = np.sort(data.popularity)[-10:].mean() / 200 / 2  # who has it takes it again or not
    assert ranked.evaluation.summary["ndcg_at_10"] == pytest.approx(chance, abs=0.05)
