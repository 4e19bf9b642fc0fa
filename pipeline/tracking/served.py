"""The model that MLflow serves: this file is run by MLflow when a logged model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from pipeline.evaluation.ranking import rank
from pipeline.models.folder import load_model

DEFAULT_K = 10


class ServedRecommender(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined,misc]
    """Top-k lists for user ids; users that training never saw get the most popular items."""

    def load_context(self, context: Any) -> None:
        """Load the recommender and its catalogue."""
        self.model = load_model(Path(context.artifacts["recommender"]))
        self.index = pd.Index(self.model.users["user"].astype(str))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Lists for the ids in column ``user``: user, rank, item, title, fallback; best first."""
        k = int((params or {}).get("k", DEFAULT_K))
        asked = model_input["user"].astype(str)
        places = self.index.get_indexer(pd.Index(asked))
        known = places >= 0
        n_items = len(self.model.items)
        lists = np.empty((len(asked), k), dtype=np.int32)
        users = places[known].astype(np.int32)
        seen = self.model.seen if self.model.recommender.masks_seen else None
        lists[known] = rank(self.model.recommender, users, seen, k, n_items)
        lists[~known] = self._popular(k)
        rows, columns = np.nonzero(lists >= 0)
        chosen = self.model.items.iloc[lists[rows, columns]]
        return pd.DataFrame(
            {
                "user": asked.to_numpy()[rows],
                "rank": columns + 1,
                "item": chosen["item"].astype(str).to_numpy(),
                "title": chosen["title"].to_numpy(),
                "fallback": np.where(known[rows], "", "popularity"),
            }
        )

    def _popular(self, k: int) -> Any:
        popularity = self.model.items["popularity"].to_numpy()
        order = np.argsort(-popularity, kind="stable")[:k].astype(np.int32)
        return np.pad(order, (0, k - len(order)), constant_values=-1)


mlflow.models.set_model(ServedRecommender())
