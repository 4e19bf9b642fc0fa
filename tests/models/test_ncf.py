from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.data.dataset import Dataset
from pipeline.evaluation.ranking import top_k
from pipeline.models import ncf
from pipeline.models.ncf import NCF, NCFSettings
from pipeline.models.sequential import SequentialRidge, SequentialRidgeSettings
from tests.conftest import checkerboard

SIDES = ("user", "item")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def still(**settings: Any) -> NCFSettings:
    """One epoch that moves nothing that could be seen."""
    return NCFSettings(epochs=1, learning_rate=1e-12, device="cpu", **settings)


@pytest.mark.parametrize("layers", [(), (8, 4)])
def test_an_svd_start_is_the_truncated_svd_of_the_ratings(
    dataset: Dataset, layers: tuple[int, ...]
) -> None:
    model = NCF(still(embedding_dim=2, start="svd", layers=layers), seed=0).fit(dataset)
    left, values, right = np.linalg.svd(dataset.train_matrix("ratings").toarray())
    expected = (left[:, :2] * values[:2]) @ right[:2]
    arrays = model.arrays()
    users, items = arrays["user_rows"][:, :2], arrays["item_rows"][:, :2]
    np.testing.assert_allclose(users @ items.T, expected, atol=1e-3)
    np.testing.assert_allclose((users**2).sum(0), values[:2], rtol=1e-3)
    np.testing.assert_allclose((items**2).sum(0), values[:2], rtol=1e-3)
    np.testing.assert_allclose(arrays["output.weight"][0, :2], 1)
    if not layers:
        everyone = np.arange(dataset.n_users, dtype=np.int32)
        np.testing.assert_allclose(model.scores(everyone), expected, atol=1e-3)


def test_an_svd_start_with_more_dimensions_than_the_ratings_have() -> None:
    board = checkerboard()
    settings = still(embedding_dim=30, start="svd", layers=())
    arrays = NCF(settings, seed=0).fit(board).arrays()
    users, items = arrays["user_rows"], arrays["item_rows"]
    ratings = board.train_matrix("ratings").toarray()
    np.testing.assert_allclose(users[:, :20] @ items[:, :20].T, ratings, atol=1e-3)
    assert np.abs(users[:, 20:]).max() < 0.06  # the noise of any other start
    assert np.abs(users[:, 20:]).max() > 0.01


RIDGE = {"ridge": 500.0, "ease_share": 0.5, "ease_regularization": 2e4}


def test_a_start_from_sequential_ridge_ranks_as_it_does(dataset: Dataset) -> None:
    """One constant lies between the scores: the order is the same, and logits are of order 1."""
    start = {f"start_{name}": value for name, value in RIDGE.items()}
    settings = still(embedding_dim=5, start="sequential_ridge", layers=(), **start)
    logits = NCF(settings, seed=3).fit(dataset).scores(users := np.arange(dataset.n_users))
    linear = SequentialRidge(SequentialRidgeSettings(components=5, **RIDGE), seed=3).fit(dataset)
    scores = linear.scores(users)
    assert float(np.square(logits).mean()) == pytest.approx(1, rel=1e-3)
    scale = (logits * scores).sum() / np.square(scores).sum()
    np.testing.assert_allclose(logits, scale * scores, atol=1e-4)
    np.testing.assert_array_equal(
        *(top_k(found, dataset.seen, 10) for found in (logits, scale * scores))
    )


def test_components_of_a_start_are_as_large_in_users_as_in_items(dataset: Dataset) -> None:
    settings = still(embedding_dim=5, start="sequential_ridge", layers=(8, 4))
    arrays = NCF(settings, seed=3).fit(dataset).arrays()
    users, items = (np.linalg.norm(arrays[f"{side}_rows"][:, :5], axis=0) for side in SIDES)
    np.testing.assert_allclose(users, items, rtol=1e-3)
    np.testing.assert_allclose(arrays["output.weight"][0, :5], 1)


def test_a_start_from_nothing_that_can_be_learned() -> None:
    settings = still(embedding_dim=5, start="sequential_ridge", start_ease_share=0)
    scores = NCF(settings, seed=0).fit(checkerboard()).scores(np.arange(20))
    assert np.isfinite(scores).all()


def test_a_start_that_says_nothing_has_the_defaults_of_its_model(dataset: Dataset) -> None:
    """Those in units of the data: a constant fitted to other data would be wrong here."""
    settings = still(embedding_dim=5, start="sequential_ridge", layers=())
    logits = NCF(settings, seed=3).fit(dataset).scores(users := np.arange(dataset.n_users))
    linear = SequentialRidge(SequentialRidgeSettings(components=5), seed=3).fit(dataset)
    np.testing.assert_array_equal(
        *(top_k(found, dataset.seen, 10) for found in (logits, linear.scores(users)))
    )


def test_a_start_from_svd_is_of_what_interactions_are_worth(dataset: Dataset) -> None:
    settings = still(embedding_dim=2, start="svd", layers=(), values="binary")
    found = NCF(settings, seed=0).fit(dataset).scores(np.arange(dataset.n_users, dtype=np.int32))
    left, values, right = np.linalg.svd(dataset.train_matrix("binary").toarray())
    np.testing.assert_allclose(found, (left[:, :2] * values[:2]) @ right[:2], atol=1e-3)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    NCF(still(dropout=0.4, start="svd"), seed=3).fit(checkerboard())
    assert torch.equal(torch.get_rng_state(), before)


def test_loading_leaves_the_global_generator_alone() -> None:
    model = NCF(still(), seed=3).fit(checkerboard())
    before = torch.get_rng_state()
    NCF(model.settings, seed=3).load_arrays(model.arrays())
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_gives_another_model() -> None:
    board = checkerboard()
    everyone = np.arange(20, dtype=np.int32)
    one, other = (NCF(still(), seed).fit(board).scores(everyone) for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_blocks_of_users_change_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    board = checkerboard()
    model = NCF(NCFSettings(epochs=3, learning_rate=0.02, device="cpu"), seed=0).fit(board)
    everyone = np.arange(20, dtype=np.int32)
    whole = model.scores(everyone)
    monkeypatch.setattr(ncf, "PAIR_BYTES", {"cpu": 4 * 8 * 20 * 3})  # three users a block
    np.testing.assert_allclose(model.scores(everyone), whole, rtol=1e-5, atol=1e-6)


def with_user_rows(factor: Tensor, **settings: Any) -> NCF:
    """A fresh model whose GMF rows of users are multiplied by ``factor`` [20]."""
    model = NCF(still(**settings), seed=0).fit(checkerboard())
    arrays = {name: value.copy() for name, value in model.arrays().items()}
    arrays["user_rows"][:, :8] *= factor.numpy()[:, None]
    model.load_arrays(arrays)
    return model


def test_a_fresh_network_has_not_collapsed() -> None:
    assert with_user_rows(torch.ones(20)).collapsed() is None


def test_a_network_of_tiny_user_rows_has_collapsed() -> None:
    why = with_user_rows(torch.full((20,), 1e-9)).collapsed()
    assert why is not None
    assert why.startswith("the median norm of the GMF user embeddings is ")
    assert 1e-12 < float(why.split()[-1]) < 1e-9


def test_some_tiny_user_rows_are_no_collapse() -> None:
    assert with_user_rows(torch.tensor([1e-9] * 9 + [1.0] * 11)).collapsed() is None
    assert with_user_rows(torch.tensor([1e-9] * 11 + [1.0] * 9)).collapsed() is not None


def test_a_network_that_adds_nothing_to_its_wide_part_has_not_collapsed() -> None:
    tiny = torch.full((20,), 1e-9)
    assert with_user_rows(tiny).collapsed() is not None
    assert with_user_rows(tiny, wide="svd components=2").collapsed() is None


def test_a_fitted_model_holds_no_generator() -> None:
    """torch sends none to another process, in which benchmarks.ranking measures its memory."""
    model = NCF(still(dropout=0.4), seed=0).fit(checkerboard())
    assert model.network.generator is None


def test_scores_are_ranked_where_they_lie_unless_a_subclass_makes_others() -> None:
    class Other(NCF):
        def scores(self, users: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return -super().scores(users)

    board, everyone = checkerboard(), np.arange(20, dtype=np.int32)
    model, other = (kind(still(), seed=0).fit(board) for kind in (NCF, Other))
    assert model.device_scores(everyone) is None, "on a CPU they lie here"
    for each in (model, other):
        each.network.to("meta")
    there = model.device_scores(everyone)
    assert there is not None
    assert (there.shape, there.device.type) == ((20, 20), "meta")
    assert other.device_scores(everyone) is None


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [{}, {"exposure_users": 3, "wide": "ease"}])
def test_what_a_gpu_ranks_is_what_is_ranked_of_its_scores(settings: dict[str, Any]) -> None:
    board, everyone = checkerboard(), np.arange(20, dtype=np.int32)
    model = NCF(NCFSettings(epochs=3, device="cuda", **settings), seed=0).fit(board)
    there = model.device_scores(everyone)
    assert there is not None
    assert there.is_cuda
    here = top_k(model.scores(everyone), board.seen, 10)
    np.testing.assert_array_equal(top_k(there, board.seen, 10), here)
