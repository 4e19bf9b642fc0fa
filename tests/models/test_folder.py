"""A fitted recommender as a folder: the same answers, and plain files only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from pipeline.data.dataset import Dataset
from pipeline.data.split import SplitSettings
from pipeline.models import FAMILIES, family
from pipeline.models.base import Recommender
from pipeline.models.folder import load_model, save_model


def fitted(name: str, dataset: Dataset) -> Recommender:
    settings = {"epochs": 1, "bias": True} if name == "ncf" else {}
    kind = family(name)
    return kind(kind.settings_class.read(settings, "here"), seed=7).fit(dataset)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_comes_back(dataset: Dataset, tmp_path: Path, name: str) -> None:
    recommender = fitted(name, dataset)
    save_model(name, recommender, dataset, tmp_path)
    again = load_model(tmp_path)
    users = np.arange(dataset.n_users, dtype=np.int32)
    assert type(again.recommender) is family(name)
    assert again.recommender.settings == recommender.settings
    assert again.recommender.seed == 7
    assert np.array_equal(again.recommender.scores(users), recommender.scores(users))


def test_users_items_and_what_was_seen_come_back(dataset: Dataset, tmp_path: Path) -> None:
    save_model("most_popular", fitted("most_popular", dataset), dataset, tmp_path)
    again = load_model(tmp_path)
    assert again.users["user"].tolist() == dataset.users["user"][: dataset.n_users].tolist()
    assert again.items["item"].tolist() == dataset.items["item"].tolist()
    assert again.items["title"].tolist() == dataset.items["title"].tolist()
    assert again.items["popularity"].tolist() == dataset.popularity.tolist()
    assert again.seen.shape == (dataset.n_users, dataset.n_items)
    assert again.seen.dtype == np.float32
    assert (again.seen != dataset.seen).nnz == 0


def test_only_plain_files(dataset: Dataset, tmp_path: Path) -> None:
    save_model("ncf", fitted("ncf", dataset), dataset, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "family.json",
        "items.parquet",
        "model.json",
        "seen.safetensors",
        "users.parquet",
        "weights.safetensors",
    ]
    assert "user_rows" in load_file(tmp_path / "weights.safetensors")


def test_ids_that_are_text(ratings: pd.DataFrame, tmp_path: Path) -> None:
    names = ratings.astype({"user": str, "item": str})
    names = names.assign(user="ü" + names["user"], item="i" + names["item"])
    metadata = pd.DataFrame({"item": [], "title": [], "genres": []}, dtype=str)
    dataset = Dataset.from_ratings("names", names, metadata, SplitSettings())
    save_model("most_popular", fitted("most_popular", dataset), dataset, tmp_path)
    again = load_model(tmp_path)
    assert again.users["user"].tolist() == dataset.users["user"][: dataset.n_users].tolist()
    assert again.items["item"].tolist() == dataset.items["item"].tolist()
