"""A fitted recommender with what it needs to answer in people's terms, as a folder of files.

    family.json          which model it is
    model.json           its settings and seed
    weights.safetensors  what was learned
    seen.safetensors     what each user has in training (row ends, item indices)
    users.parquet        the id of each user index
    items.parquet        the id, title, genres and popularity of each item index

No pickle, and nothing of the checkout that it was trained in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file
from scipy import sparse

from pipeline.data.dataset import Dataset
from pipeline.models import family
from pipeline.models.base import Recommender


@dataclass(frozen=True)
class FittedModel:
    """A recommender, its catalogue, and what its users have seen."""

    recommender: Recommender
    users: pd.DataFrame
    """user: the id of each index."""
    items: pd.DataFrame
    """item, title, genres, popularity (training users)."""
    seen: sparse.csr_matrix
    """float32 [n_users, n_items]."""


def save_model(name: str, recommender: Recommender, dataset: Dataset, folder: Path) -> None:
    """Write a fitted recommender of family ``name`` into an existing, empty folder."""
    recommender.save(folder)
    seen = dataset.seen
    ends, items = seen.indptr.astype(np.int64), seen.indices.astype(np.int32)
    save_file({"ends": ends, "items": items}, folder / "seen.safetensors")
    dataset.users[: dataset.n_users].to_parquet(folder / "users.parquet", index=False)
    catalogue = dataset.items.assign(popularity=dataset.popularity)
    catalogue.to_parquet(folder / "items.parquet", index=False)
    (folder / "family.json").write_text(json.dumps({"model": name}) + "\n")


def load_model(folder: Path) -> FittedModel:
    """What ``save_model`` wrote."""
    name = json.loads((folder / "family.json").read_text())["model"]
    users = pd.read_parquet(folder / "users.parquet")
    items = pd.read_parquet(folder / "items.parquet")
    rows = load_file(folder / "seen.safetensors")
    values = np.ones(len(rows["items"]), dtype=np.float32)
    seen = sparse.csr_matrix((values, rows["items"], rows["ends"]), shape=(len(users), len(items)))
    return FittedModel(family(name).load(folder), users, items, seen)
