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
from typing import Self

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file
from scipy import sparse

from pipeline.data.dataset import Dataset
from pipeline.errors import UserError, brief
from pipeline.models import family
from pipeline.models.base import Recommender
from pipeline.own import portable

ITEM_COLUMNS = ("item", "title", "genres", "popularity")


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

    @classmethod
    def of(cls, recommender: Recommender, dataset: Dataset) -> Self:
        """``recommender``, which was fitted to ``dataset``, with what it needs of that."""
        users = dataset.users[: dataset.n_users]
        items = dataset.items.assign(popularity=dataset.popularity)
        return cls(recommender, users, items, dataset.seen)


def save_model(name: str, recommender: Recommender, dataset: Dataset, folder: Path) -> None:
    """Write a fitted recommender of family ``name`` into an existing, empty folder."""
    recommender.save(folder)
    fitted = FittedModel.of(recommender, dataset)
    ends, items = fitted.seen.indptr.astype(np.int64), fitted.seen.indices.astype(np.int32)
    save_file({"ends": ends, "items": items}, folder / "seen.safetensors")
    fitted.users.to_parquet(folder / "users.parquet", index=False)
    fitted.items.to_parquet(folder / "items.parquet", index=False)
    (folder / "family.json").write_text(json.dumps({"model": portable(name)}) + "\n")


def load_model(folder: Path) -> FittedModel:
    """What ``save_model`` wrote.

    Raises:
        UserError: a file is missing or damaged, or the files do not fit together.
    """
    try:
        model = _read(folder)
        _require_fitting(model)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    except Exception as error:  # as many kinds as there are formats and families
        raise UserError(
            f"{folder}: this model is damaged ({type(error).__name__}: {brief(error)}). Get it "
            f"again, or train again."
        ) from None
    return model


def _read(folder: Path) -> FittedModel:
    name = str(json.loads((folder / "family.json").read_text())["model"])
    users = pd.read_parquet(folder / "users.parquet")
    items = pd.read_parquet(folder / "items.parquet")
    rows = load_file(folder / "seen.safetensors")
    values = np.ones(len(rows["items"]), dtype=np.float32)
    seen = sparse.csr_matrix((values, rows["items"], rows["ends"]), shape=(len(users), len(items)))
    return FittedModel(family(name).load(folder), users, items, seen)


def _require_fitting(model: FittedModel) -> None:
    """Refuse files of different models: what they cannot say later is said now.

    Raises:
        ValueError: something is missing, or there is not a row of scores for the last user.
    """
    model.seen.check_format(full_check=True)  # scipy follows every index, wherever it leads
    missing = {"user"} - set(model.users) | set(ITEM_COLUMNS) - set(model.items)
    if missing:
        raise ValueError(f"no {', '.join(sorted(missing))}")
    last = np.array([len(model.users) - 1], np.int32)
    if model.recommender.scores(last).shape != (1, len(model.items)):
        raise ValueError("scores of another catalogue")
