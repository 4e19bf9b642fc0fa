"""Every generated user is answered, and the memory of many is that of few."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks import recommend
from benchmarks.serving import logged_model
from tests.steps.workplace import Workplace

N = 30_000
GROWTH_MIB = 40  # what 3 N users more take where their lists are kept is twice that


def test_memory_does_not_grow_with_the_users(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", workplace.uri)
    monkeypatch.setattr(recommend, "FILES", (N, 4 * N))
    monkeypatch.setattr(recommend, "ROUNDS", 1)
    with workplace.entered():
        uri, known, _ = logged_model("ratings.csv", 1)
        run_id = recommend._run_id(uri)
        few, many = recommend.memory(run_id, known, workplace.folder)
        assert recommend.command(run_id, workplace.folder) > 0
    assert (few["users"], many["users"]) == (N, 4 * N)
    assert many["peak memory [MiB]"] - few["peak memory [MiB]"] < GROWTH_MIB
    everybody = pd.read_parquet(workplace.folder / "all.parquet")
    assert everybody["user"].unique().tolist() == known
    lists = pd.read_parquet(workplace.folder / "lists.parquet", columns=["user", "fallback"])
    strange = lists["user"].str.startswith("stranger")
    assert strange.mean() == pytest.approx(1 / recommend.STRANGERS, abs=0.01)
    assert set(lists["fallback"][strange]) == {"popularity"}
    assert set(lists["fallback"][~strange]) == {""}


def test_users_of_a_file_are_as_many_as_asked_for(tmp_path: Path) -> None:
    recommend.users_file(tmp_path / "few.csv", 50, ["a", "b"])
    users = pd.read_csv(tmp_path / "few.csv")["user"]
    assert len(users) == 50
    assert {"a", "b"} <= set(users)
