"""Evaluated runs in a real store, to compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.entities import Metric, Param, RunTag

from pipeline.compare.comparison import compare_runs
from pipeline.compare.tables import as_json
from pipeline.tracking.search import find_evaluated
from tests.steps.workplace import Workplace

N_USERS = 250
FINGERPRINT = "f" * 16
DATASET = {"dataset": "ml-1m", "dataset_fingerprint": FINGERPRINT, "split": "time 0.8"}


@dataclass
class Store:
    """A tracking store to fill with runs that look like evaluated ones."""

    workplace: Workplace
    users: npt.NDArray[np.float64]
    """Of the users, how easy each is."""
    started: int = 1_700_000_000_000

    def run(
        self,
        name: str,
        skill: float = 0.0,
        *,
        seed: int = 42,
        k: int = 10,
        overlap: float = 0.4,
        coverage: float = 0.1,
        users: range = range(N_USERS),
        per_user: bool = True,
        noise: int | None = None,
        experiment: str = "0",
        params: dict[str, str] | None = None,
        **tags: str,
    ) -> str:
        """An evaluated run whose lists have more hits with more ``skill``; its id."""
        rng = np.random.default_rng([seed, sum(map(ord, name))] if noise is None else noise)
        chance = 1 / (1 + np.exp(0.5 - skill - self.users))
        hits = rng.random((N_USERS, k)) < chance[:, None]
        precision = hits.mean(axis=1)
        table = pd.DataFrame(
            {
                "user": list(users),
                f"ndcg_at_{k}": precision**1.1,
                f"hit_rate_at_{k}": hits.any(axis=1).astype(float),
                f"precision_at_{k}": precision,
                f"popularity_overlap_at_{k}": np.full(N_USERS, overlap),
            }
        )
        metrics = {name: table[name].mean() for name in table if name != "user"}
        metrics[f"coverage_at_{k}"] = coverage
        return self.write(
            name,
            {f"test/{name}": value for name, value in metrics.items()},
            {"seed": str(seed), "embedding_dim": "8", **(params or {})},
            {"step": "train", "model": name, "experiment": name, **DATASET, **tags},
            table if per_user else None,
            experiment,
        )

    def write(
        self,
        name: str,
        metrics: dict[str, float],
        params: dict[str, str],
        tags: dict[str, str],
        table: pd.DataFrame | None = None,
        experiment: str = "0",
    ) -> str:
        """A finished run, later than all before it."""
        client = mlflow.MlflowClient()
        self.started += 1000
        run = client.create_run(experiment, run_name=name, start_time=self.started)
        client.log_batch(
            run.info.run_id,
            [Metric(key, value, self.started, 0) for key, value in metrics.items()],
            [Param(key, value) for key, value in params.items()],
            [RunTag(key, value) for key, value in tags.items()],
        )
        if table is not None:
            path = self.workplace.folder / "per_user.parquet"
            table.to_parquet(path, index=False)
            client.log_artifact(run.info.run_id, str(path), "test")
        client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    def compared(self, baseline: str | None = None) -> dict[str, Any]:
        """What there is to find, without figures and a run."""
        return as_json(compare_runs(find_evaluated(None, None), "ndcg_at_10", baseline))


def ranked(found: dict[str, Any]) -> list[str]:
    return [row["name"] for row in found["rows"] if row["listed"] == "ranked"]


def row_of(found: dict[str, Any], name: str) -> dict[str, Any]:
    (row,) = [row for row in found["rows"] if row["name"] == name]
    return dict(row)


def alike(found: dict[str, Any]) -> list[str]:
    """The lines on what cannot be told apart."""
    return [line for line in found["sentences"] if line.startswith("not distinguishable from ")]
