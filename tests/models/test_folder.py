"""A fitted recommender as a folder: the same answers, and plain files only."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from pipeline.data.dataset import Dataset
from pipeline.data.split_settings import SplitSettings
from pipeline.errors import UserError
from pipeline.models import FAMILIES, family
from pipeline.models.base import Recommender
from pipeline.models.folder import load_model, save_model
from tests.conftest import make_dataset


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


def damaged(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_model(folder)
    assert str(caught.value).startswith(f"{folder}")
    return str(caught.value)


@pytest.fixture
def saved(dataset: Dataset, tmp_path: Path) -> Path:
    save_model("svd", fitted("svd", dataset), dataset, tmp_path)
    return tmp_path


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"[" * 100_000, b"\xff" * 99])
def test_no_file_may_be_damaged(saved: Path, content: bytes | None) -> None:
    for file in saved.iterdir():
        whole = file.read_bytes()
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        assert "this model is damaged" in damaged(saved)
        file.write_bytes(whole)
    load_model(saved)


def test_what_was_seen_lies_in_the_catalogue(saved: Path) -> None:
    """scipy would read and write wherever such an index leads."""
    rows = load_file(saved / "seen.safetensors")
    rows["items"][3] = 1 << 30
    save_file(rows, saved / "seen.safetensors")
    assert "this model is damaged (ValueError: indices" in damaged(saved)


def test_sparse_weights_lie_in_the_catalogue(dataset: Dataset, tmp_path: Path) -> None:
    save_model("item_knn", fitted("item_knn", dataset), dataset, tmp_path)
    weights = load_file(tmp_path / "weights.safetensors")
    weights["right.indices"][3] = 1 << 30
    save_file(weights, tmp_path / "weights.safetensors")
    assert "this model is damaged (ValueError: indices" in damaged(tmp_path)


@pytest.mark.parametrize("file", ["weights.safetensors", "users.parquet", "items.parquet"])
def test_files_of_another_model_are_refused(
    saved: Path, tmp_path_factory: pytest.TempPathFactory, file: str
) -> None:
    other, small = tmp_path_factory.mktemp("other"), make_dataset([(1, 2), (3, 4), (3, 2)])
    save_model("svd", fitted("svd", small), small, other)
    shutil.copy(other / file, saved / file)
    assert "this model is damaged" in damaged(saved)


def test_a_model_of_no_known_family(saved: Path) -> None:
    (saved / "family.json").write_text('{"model": "svdd"}')
    assert "unknown model 'svdd'" in damaged(saved)
