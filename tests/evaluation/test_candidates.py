"""Lists by an index are those of a full ranking, or it says how far they are, or does without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import sparse

from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from pipeline.evaluation import candidates
from pipeline.evaluation.candidates import Candidates, index_of, recall, say_cost_of_ranking
from pipeline.evaluation.ranking import top_k
from pipeline.models import family
from pipeline.models.base import Recommender, Vectors

USERS, ITEMS, WIDTH = 30, 2000, 16


def fitted(name: str, dataset: Dataset, **fields: Any) -> Recommender:
    kind = family(name)
    return kind(kind.settings_class.read(fields, name), seed=0).fit(dataset)


def drawn(rng: np.random.Generator, items: int = ITEMS) -> Vectors:
    """Whole numbers, of which products are exact in any order, and many are equal."""
    users, catalogue = rng.integers(-3, 4, (USERS, WIDTH)), rng.integers(-3, 4, (items, WIDTH))
    return Vectors(users.astype(np.float32), catalogue.astype(np.float32))


def masks(rng: np.random.Generator, items: int = ITEMS) -> sparse.csr_matrix:
    """Of few items, of many, of all but three, and of all."""
    seen = rng.random((USERS, items)) < rng.choice([0.001, 0.01, 0.4], (USERS, 1))
    seen[0], seen[1, 3:], seen[1, :3] = True, True, False
    return sparse.csr_matrix(seen.astype(np.float32))


def exact(vectors: Vectors, seen: sparse.csr_matrix, k: int) -> npt.NDArray[np.int32]:
    return top_k(vectors.users @ vectors.items.T, seen, k)


def test_lists_of_a_small_catalogue_are_the_exact_ones() -> None:
    rng = np.random.default_rng(0)
    vectors = drawn(rng, items=60)
    vectors.items[40:50] = vectors.items[:10]  # the same scores: by item index
    seen = masks(rng, items=60)
    lists, scores = Candidates(vectors).top_k(np.arange(USERS), seen, 12)
    np.testing.assert_array_equal(lists, exact(vectors, seen, 12))
    assert recall(lists, exact(vectors, seen, 12)) == 1
    rows, places = np.nonzero(lists >= 0)
    products = vectors.users @ vectors.items.T
    np.testing.assert_array_equal(scores[rows, places], products[rows, lists[rows, places]])


def test_what_was_seen_is_never_listed_and_lists_are_full() -> None:
    rng = np.random.default_rng(1)
    vectors, seen = drawn(rng), masks(rng)
    lists, _ = Candidates(vectors).top_k(np.arange(USERS), seen, 10)
    dense = seen.toarray() > 0
    for row, items in enumerate(lists):
        kept = items[items >= 0]
        assert len(kept) == len(set(kept.tolist())) == min(10, int((~dense[row]).sum()))
        assert not dense[row, kept].any()
    np.testing.assert_array_equal(lists[1], exact(vectors, seen, 10)[1])  # three are left


def test_users_may_be_asked_for_in_any_order_and_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    vectors, seen = drawn(rng), masks(rng)
    index, users = Candidates(vectors), rng.permutation(USERS)
    whole = index.top_k(np.arange(USERS), seen, 10)[0]
    monkeypatch.setattr(candidates, "BLOCK_BYTES", 1)
    np.testing.assert_array_equal(index.top_k(users, seen[users], 10)[0], whole[users])


def test_too_narrow_a_search_is_widened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "NARROWEST", 1)
    monkeypatch.setattr(candidates, "NEIGHBOURS", 4)
    rng = np.random.default_rng(3)
    vectors = Vectors(*(rng.normal(size=(n, 32)).astype(np.float32) for n in (100, 5000)))
    nothing, users = sparse.csr_matrix((100, 5000), dtype=np.float32), np.arange(100)
    index, wanted = Candidates(vectors), exact(vectors, nothing, 10)
    before = recall(index.top_k(users, nothing, 10)[0], wanted)
    assert before < 0.9
    assert index.widen(wanted, users, nothing, 0.95)
    assert index.width > 1
    assert recall(index.top_k(users, nothing, 10)[0], wanted) == index.recall >= 0.95


def test_recall_is_a_share_of_places() -> None:
    found, wanted = np.array([[1, 2, -1], [4, 5, 6]]), np.array([[2, 1, -1], [6, 7, 8]])
    assert recall(found, wanted) == (2 + 1) / (2 + 3)
    assert recall(found[:, :0], wanted[:, :0]) == 0


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Say from how many items and users on ``auto`` takes an index."""

    def bounds(items: int, users: int) -> None:
        monkeypatch.setattr(candidates, "MANY_ITEMS", items)
        monkeypatch.setattr(candidates, "MANY_USERS", users)

    return bounds


def test_auto_takes_an_index_where_that_is_worth_it(
    dataset: Dataset, large: Callable[[int, int], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pipeline")
    model = fitted("als", dataset)
    assert index_of(model, dataset.seen, 10**9, 10) is None
    large(dataset.n_items, 50)
    assert index_of(model, dataset.seen, 49, 10) is None
    assert index_of(model, dataset.seen, None, 10, "exact") is None
    assert index_of(fitted("ease", dataset), dataset.seen, 50, 10) is None
    assert not caplog.messages
    for users in (50, None):
        index = index_of(model, dataset.seen, users, 10)
        assert index is not None
        assert index.recall == 1
    said = (
        f"index of {dataset.n_items} items, made in 0 s: it finds 1.0000 of the exact lists of 10"
    )
    assert caplog.messages[0].startswith(said)


def test_an_index_that_misses_too_much_is_not_taken(
    dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pipeline")
    assert index_of(fitted("als", dataset), dataset.seen, 10, 10, "hnsw", floor=1.01) is None
    assert caplog.messages[0].endswith(
        "1024 items in view; that is below 1.01, so items are ranked exactly"
    )


def test_no_index_without_vectors_or_without_faiss(
    dataset: Dataset,
    large: Callable[[int, int], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "pipeline")
    with pytest.raises(UserError, match="scores of EASE are no products of a user's and an item's"):
        index_of(fitted("ease", dataset), dataset.seen, 10, 10, "hnsw")
    large(10, 10)
    model = fitted("svd", dataset)
    for module in ("pipeline.extras", "pipeline.evaluation.candidates"):
        monkeypatch.setattr(f"{module}.find_spec", lambda name: None)
    assert index_of(model, dataset.seen, 10, 10) is None
    assert "pip install 'ncf-pipeline[ann]' would bring an index" in caplog.text
    with pytest.raises(UserError, match=r"index=hnsw needs faiss: pip install 'ncf-pipeline\[ann"):
        index_of(model, dataset.seen, 10, 10, "hnsw")


@pytest.mark.parametrize(("name", "hint"), [("ease", True), ("svd", False)])
def test_a_long_ranking_is_said(
    name: str, hint: bool, dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pipeline")
    model = fitted(name, dataset)
    say_cost_of_ranking(model, 1, dataset.n_items)
    assert not caplog.messages
    say_cost_of_ranking(model, 10**12, dataset.n_items)
    (said,) = caplog.messages
    assert said.startswith(f"Ranking {dataset.n_items} items exactly for 1,000,000,000,000 users")
    assert said.endswith("and ncf with layers=none.") == hint
