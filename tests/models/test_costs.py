from __future__ import annotations

import tracemalloc
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.data.dataset import Dataset
from pipeline.data.split_settings import SplitSettings
from pipeline.errors import UserError
from pipeline.models import FAMILIES, costs, family
from pipeline.models.costs import Cost

GIB = 2**30


@pytest.mark.parametrize(
    ("seconds", "memory", "said"),
    [
        (59, 1000, []),
        (61, 1000, ["EASE: a fit takes about 0.0 GiB of memory and 61 s"]),
        (None, 3 * GIB, ["EASE: a fit takes about 3.0 GiB of memory"]),
        (1, 3 * GIB, ["EASE: a fit takes about 3.0 GiB of memory and 1 s"]),
        (300, 3 * GIB, ["EASE: a fit takes about 3.0 GiB of memory and 5 minutes"]),
        (9000, 3 * GIB, ["EASE: a fit takes about 3.0 GiB of memory and 2 hours"]),
    ],
)
def test_what_is_not_small_is_said(
    seconds: float | None,
    memory: float,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(costs, "available_memory", lambda: 4.0 * GIB)
    costs._say.cache_clear()
    for _ in range(2):
        costs.announce(Cost("EASE", seconds, memory, "Take less."))
    assert caplog.messages == said


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "available_memory", lambda: 4.0 * GIB)
    with pytest.raises(UserError) as caught:
        costs.announce(Cost("EASE of 90,000 items", 9000, 121 * GIB, "Take less."))
    assert str(caught.value) == (
        "EASE of 90,000 items: a fit takes about 121.0 GiB of memory and 2 hours, and 4.0 GiB of "
        "memory are left here. Take less."
    )


def test_days_in_one_piece_are_refused() -> None:
    slim = Cost("SLIM of 1,000,000 items", 100 * 3600, 1000, "Take als.")
    with pytest.raises(UserError) as caught:
        costs.announce(slim)
    assert str(caught.value) == (
        "SLIM of 1,000,000 items: a fit takes about 0.0 GiB of memory and 100 hours, in one piece "
        "that a kill would undo. Take als."
    )
    costs.announce(replace(slim, goes_on=True))


def test_memory_is_that_of_where_the_fit_takes_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "available_memory", lambda: 4.0 * GIB)
    on_gpu = Cost("ncf", None, 8 * GIB, "Take less.", available=10.0 * GIB)
    costs.announce(on_gpu)
    with pytest.raises(UserError, match=r"8\.0 GiB of memory, and 7\.0 GiB of memory are left"):
        costs.announce(replace(on_gpu, available=7.0 * GIB))


def test_pairs_of_interactions() -> None:
    assert costs.pairs_of_interactions(np.array([2, 0, 3])) == 4 + 9


def sized(users: int, items: int, each: int) -> Dataset:
    """Of so many items, of which every user has ``each``, another one after another."""
    taken = np.arange(users * each)
    train = pd.DataFrame(
        {
            "user": (taken // each).astype(np.int32),
            "item": np.sort((taken % items).astype(np.int32).reshape(users, each), axis=1).ravel(),
            "rating": np.float32(1),
            "timestamp": taken,
        }
    )
    named = pd.DataFrame({"item": np.arange(items), "title": "", "genres": ""})
    people = pd.DataFrame({"user": np.arange(users)})
    return Dataset("sized", SplitSettings(), "time", people, named, train, train.iloc[:0])


@pytest.mark.parametrize(
    ("model", "fields", "said"),
    [
        ("ease", {}, r"EASE of 1,000,000 items and 600,000 users: .* Take als, svd or two_tower"),
        (
            "slim",
            {"top_weights": 20},
            r"SLIM of 1,000,000 items and 1,800,000 interactions: .* hours, in one piece",
        ),
        ("item_knn", {}, r"item_knn of 1,000,000 items with 312 neighbours each: .* Lower neigh"),
        (
            "als",
            {"factors": 500},
            r"ALS of 600,000 users, 1,000,000 items .* Take vectors of fewer",
        ),
        ("ncf", {"embedding_dim": 500}, r"ncf of 600,000 users, .* \(now 508\): tables grow"),
        (
            "ncf",
            {"wide": "svd"},
            r"ncf of 600,000 users, 1,000,000 items .* 2,235\.\d GiB .* Use wide=none",
        ),
        ("two_tower", {"dimension": 1500}, r"two_tower of 600,000 users, .* \(now 1500\): tables"),
        (
            "sequential_ridge",
            {"components": 300},
            r"sequential_ridge of 600,000 .* Take als or svd",
        ),
    ],
)
def test_a_catalogue_of_a_million_is_refused_before_anything_is_allocated(
    model: str, fields: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "available_memory", lambda: 4.0 * GIB)
    family_ = family(model)
    fresh = family_(family_.settings_class.read(fields, model), seed=0)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=said):
            fresh.fit(million())
        assert tracemalloc.get_traced_memory()[1] < 128 * 2**20  # what the dataset counts
    finally:
        tracemalloc.stop()


@cache
def million() -> Dataset:
    return sized(600_000, 1_000_000, 3)


@pytest.mark.parametrize("model", FAMILIES)
def test_small_fits_are_said_to_be_small(model: str, dataset: Dataset) -> None:
    family_ = family(model)
    cost = family_(family_.settings_class.read({}, model), seed=0).cost(dataset)
    if cost is None:
        assert not family_.personal  # popularity and chance
    else:
        assert 0 < cost.memory < 64 * 2**20
        assert cost.seconds is None or cost.seconds < 60


@pytest.mark.parametrize(
    ("model", "fields"),
    [("ease", {}), ("als", {"factors": 64, "iterations": 1}), ("svd", {"components": 64}),
     ("item_knn", {"neighbours": 312})],
)  # fmt: skip
def test_memory_is_about_what_numpy_takes(model: str, fields: dict[str, Any]) -> None:
    """Of what NumPy and SciPy allocate, which is nearly all of it."""
    family_ = family(model)
    fresh = family_(family_.settings_class.read(fields, model), seed=0)
    data = sized(6_000, 3_000, 60)
    fresh.fit(sized(50, 100, 5))  # imports
    tracemalloc.start()
    try:
        fresh.fit(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    cost = fresh.cost(data)
    assert cost is not None
    assert peak / 2 < cost.memory < 2 * peak
