"""recommend: the lists of the evaluation for everybody, whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pandas as pd
import pytest

from pipeline.steps import recommend as step
from pipeline.tracking.models import fetch_model
from pipeline.tracking.runs import Run
from tests.steps.workplace import Outcome, Workplace

TRAIN = ("train", "--config", "small.yaml", "--dataset", "ratings.csv", "--validate=false")


@pytest.fixture(scope="module")
def run_id(shared: Workplace) -> str:
    assert shared.cli(*TRAIN, "--epochs=2", "--k=10").status == 0
    run_id = str(shared.run(step="train").info.run_id)
    assert shared.cli("evaluate", "--run_id", run_id).status == 0
    return run_id


def recommend(shared: Workplace, run_id: str, *words: str) -> Outcome:
    return shared.cli("recommend", "--run_id", run_id, *words)


@pytest.fixture(scope="module")
def everybody(shared: Workplace, run_id: str) -> pd.DataFrame:
    outcome = recommend(shared, run_id, "--output", "everybody.parquet")
    assert outcome.status == 0, outcome.told
    lists = pd.read_parquet(shared.folder / "everybody.parquet")
    assert f"lists of {lists['user'].nunique()} users: " in outcome.told
    return lists


def test_everybody_gets_the_lists_of_the_evaluation(
    shared: Workplace, run_id: str, everybody: pd.DataFrame
) -> None:
    kept = shared.artifact(shared.run(step="train"), "test/recommendations.parquet")
    evaluated = pd.read_parquet(kept).astype({"user": str, "item": str})
    columns = ["user", "rank", "item", "title"]
    assert list(everybody.columns) == [*columns, "score", "fallback", "reason"]
    ours = everybody[everybody["user"].isin(evaluated["user"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(ours[columns], evaluated[columns], check_dtype=False)
    assert everybody["user"].nunique() > evaluated["user"].nunique()
    assert set(everybody["fallback"]) == {""}
    with shared.entered():
        known = fetch_model(Run(run_id)).users["user"].astype(str)
    assert everybody["user"].unique().tolist() == known.tolist()


def test_csv_has_the_same_rows(shared: Workplace, run_id: str, everybody: pd.DataFrame) -> None:
    outcome = recommend(shared, run_id, "--users", "all", "--output", "everybody.csv")
    assert outcome.status == 0, outcome.told
    text = {"user": str, "item": str}
    read = pd.read_csv(shared.folder / "everybody.csv", dtype=text, keep_default_na=False)
    pd.testing.assert_frame_equal(read, everybody, check_dtype=False)


def test_blocks_change_nothing(
    shared: Workplace, run_id: str, everybody: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "ROWS", 70)
    outcome = recommend(shared, run_id, "--output", "blocks.parquet")
    assert outcome.status == 0, outcome.told
    pd.testing.assert_frame_equal(pd.read_parquet(shared.folder / "blocks.parquet"), everybody)


def test_people_of_a_file_and_how_they_were_answered(
    shared: Workplace, run_id: str, everybody: pd.DataFrame
) -> None:
    user, items = everybody["user"][0], everybody["item"][:2].tolist()
    rows = ["user,items,allowed", f"{user},,", f"new,{'|'.join(items)},", "stranger,,", "x,,?"]
    (shared.folder / "some.csv").write_text("\n".join(rows))
    words = ("--users", "some.csv", "--k", "3", "--output", "some.parquet")
    outcome = recommend(shared, run_id, *words)
    assert outcome.status == 0, outcome.told
    told = " ".join(outcome.told.split())
    assert "lists of 4 users: 2 what is popular, 1 by the model, 1 folded in" in told
    lists = pd.read_parquet(shared.folder / "some.parquet")
    assert lists["user"].tolist() == [user] * 3 + ["new"] * 3 + ["stranger"] * 3 + ["x"]
    assert lists["rank"].tolist() == [1, 2, 3] * 3 + [0]
    assert lists["item"][:3].tolist() == everybody["item"][:3].tolist()
    assert not set(lists["item"][3:6]) & set(items)
    assert lists["reason"].iloc[-1].endswith("nothing is left to recommend")


def test_what_is_there_is_not_overwritten(
    shared: Workplace, run_id: str, everybody: pd.DataFrame
) -> None:
    output = shared.folder / "mine.csv"
    output.write_text("mine")
    outcome = recommend(shared, run_id, "--output", "mine.csv")
    assert outcome.status == 1
    assert "mine.csv: is there already. Give another name, or --overwrite true" in outcome.told
    assert output.read_text() == "mine"
    outcome = recommend(shared, run_id, "--k=1", "--output=mine.csv", "--overwrite=true")
    assert outcome.status == 0, outcome.told
    assert len(output.read_text().splitlines()) == 1 + everybody["user"].nunique()


def test_what_came_meanwhile_is_not_overwritten(
    shared: Workplace, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = shared.folder / "late.csv"
    monkeypatch.setattr(os, "fsync", lambda _: output.write_text("theirs"))
    outcome = recommend(shared, run_id, "--output", "late.csv")
    assert outcome.status == 1
    assert "is there already" in outcome.told
    assert output.read_text() == "theirs"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--output", "lists.txt"), "lists.txt: expected a file to write that ends in .parquet or"),
        (("--output", "no/lists.csv"), "no/lists.csv: cannot be written (No such file"),
        (("--output", "folder.csv"), "folder.csv: is a folder"),
        (("--output", "folder.csv", "--overwrite=true"), "folder.csv: is a folder"),
        (("--output", "a.csv", "--k", "0"), "k is 0"),
        (("--output", "a.csv", "--users", "no.csv"), "no.csv: cannot be read"),
        (("--output", "a.csv", "--users", "ratings.csv"), "unknown column 'item', 'rating'"),
        (("--output", "ratings.csv", "--users", "ratings.csv", "--overwrite=1"), "holds the users"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_are_told_and_leave_nothing(
    shared: Workplace, run_id: str, words: tuple[str, ...], told: str
) -> None:
    (shared.folder / "folder.csv").mkdir(exist_ok=True)
    before = sorted(shared.folder.iterdir())
    outcome = recommend(shared, run_id, *words)
    assert outcome.status == 1
    assert told in outcome.told
    assert sorted(shared.folder.iterdir()) == before


def test_a_full_disk_leaves_nothing(
    shared: Workplace, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    before = sorted(shared.folder.iterdir())
    outcome = recommend(shared, run_id, "--output", "lists.parquet")
    assert outcome.status == 1
    assert "lists.parquet: cannot be written (No space left on device)" in outcome.told
    assert sorted(shared.folder.iterdir()) == before


def test_a_bad_row_far_into_the_file_leaves_nothing(
    shared: Workplace, run_id: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(step, "ROWS", 10)
    pd.DataFrame({"user": [1.0] * 30 + [1.5]}).to_parquet(tmp_path / "users.parquet")
    before = sorted(shared.folder.iterdir())
    users = str(tmp_path / "users.parquet")
    outcome = recommend(shared, run_id, "--users", users, "--output", "lists.csv")
    assert outcome.status == 1
    assert "Row 31, user: 1.5 is no id" in outcome.told
    assert sorted(shared.folder.iterdir()) == before


def test_a_model_is_wanted(shared: Workplace) -> None:
    outcome = shared.cli("recommend", "--output", "lists.csv")
    assert outcome.status == 1
    assert "Give either --run_id RUN_ID or --model models:/NAME@ALIAS" in outcome.told


def test_an_index_needs_products_and_its_recall_is_on_the_run(
    shared: Workplace, run_id: str
) -> None:
    outcome = recommend(shared, run_id, "--output", "hnsw.parquet", "--index", "hnsw")
    assert outcome.status == 1
    assert "index=hnsw: scores of NCF are no products" in outcome.told
    assert not (shared.folder / "hnsw.parquet").exists()
    train = ("train", "--model", "als", "--dataset", "ratings.csv", "--validate=false")
    assert shared.cli(*train).status == 0
    als = shared.run(step="train", model="als").info.run_id
    for index in ("hnsw", "exact"):
        words = ("--output", f"als-{index}.parquet", "--index", index)
        outcome = recommend(shared, als, *words)
        assert outcome.status == 0, outcome.told
        assert ("it finds 1.0000 of the exact lists" in outcome.told) == (index == "hnsw")
    pd.testing.assert_frame_equal(
        *(pd.read_parquet(shared.folder / f"als-{index}.parquet") for index in ("hnsw", "exact")),
        rtol=1e-5,
    )
    assert shared.run(step="train", model="als").data.metrics["recommend/index_recall_at_10"] == 1
