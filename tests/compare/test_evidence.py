"""Edited results: compare names the run and what does not fit, and leaves it out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.compare.comparison import compare_runs
from pipeline.compare.tables import as_json
from pipeline.errors import UserError
from pipeline.tracking.search import find_evaluated
from tests.steps.workplace import Workplace, make_workplace

MODELS = {"svd": "components: 4", "most_popular": "", "random": ""}
PER_USER, LISTS = "per_user.parquet", "recommendations.parquet"


@pytest.fixture(scope="module")
def evaluated(
    tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame, store: Path
) -> Workplace:
    place = make_workplace(tmp_path_factory.mktemp("evidence"), ratings, store)
    for model, settings in MODELS.items():
        (place.folder / f"{model}.yaml").write_text(f"model: {model}\n{settings}\n")
        words = ("--config", f"{model}.yaml", "--dataset", "ratings.csv", "--windows=none")
        assert place.cli("train", *words).status == 0
        run_id = place.run(step="train", model=model).info.run_id
        assert place.cli("evaluate", "--run_id", run_id).status == 0
    return place


@pytest.fixture
def place(evaluated: Workplace) -> Iterator[Workplace]:
    """Restored after each test."""
    runs = [evaluated.run(step="train", model=model) for model in MODELS]
    folders = [evaluated.artifact(run, "test") for run in runs]
    for i, folder in enumerate(folders):
        shutil.copytree(folder, evaluated.folder / f"kept_{i}")
    yield evaluated
    for i, (run, folder) in enumerate(zip(runs, folders, strict=True)):
        shutil.rmtree(folder)
        (evaluated.folder / f"kept_{i}").rename(folder)
        now = evaluated.client.get_run(run.info.run_id).data.metrics
        for name, value in run.data.metrics.items():
            if now[name] != value:
                overwrite(evaluated, name, value)
        evaluated.client.set_tag(run.info.run_id, "test_evidence", run.data.tags["test_evidence"])


def overwrite(place: Workplace, name: str, value: float, model: str = "svd") -> None:
    run = place.run(step="train", model=model)
    moment = int(time.time() * 1000) + 3_600_000
    place.client.log_metric(run.info.run_id, name, value, moment)


def file(place: Workplace, name: str, model: str = "svd") -> Path:
    return place.artifact(place.run(step="train", model=model), f"test/{name}")


def rewrite(place: Workplace, name: str, change: Callable[[pd.DataFrame], None]) -> None:
    table = pd.read_parquet(file(place, name))
    change(table)
    table.to_parquet(file(place, name), index=False)


def forget_checksums(place: Workplace) -> None:
    """As if it had been evaluated before there were any."""
    run = place.run(step="train", model="svd")
    place.client.delete_tag(run.info.run_id, "test_evidence")


def compared(place: Workplace) -> dict[str, Any]:
    with place.entered():
        return as_json(compare_runs(find_evaluated(None, None), "ndcg_at_10", None))


def refusal(place: Workplace) -> str:
    """What is said of the run of svd, which has to be refused, and it alone."""
    found = compared(place)
    ranked = [row["name"] for row in found["rows"] if row["listed"] == "ranked"]
    assert sorted(ranked) == ["most_popular", "random"]
    (row,) = [row for row in found["rows"] if row["listed"] == "refused"]
    run_id = place.run(step="train", model="svd").info.run_id
    assert row["name"] == "svd"
    assert row["sentences"][0] == f"run {run_id} does not fit together"
    return "; ".join(row["sentences"])


def test_what_was_not_edited_is_ranked(place: Workplace) -> None:
    assert {row["listed"] for row in compared(place)["rows"]} == {"ranked"}


def test_what_was_evaluated_before_there_were_checksums_is_not_accused(place: Workplace) -> None:
    forget_checksums(place)
    file(place, LISTS).unlink()
    assert {row["listed"] for row in compared(place)["rows"]} == {"ranked"}


def test_a_metric_that_was_overwritten(place: Workplace) -> None:
    overwrite(place, "test/ndcg_at_10", 0.987)
    told = refusal(place)
    assert "ndcg_at_10 is 0.987, and the mean of its values of" in told


@pytest.mark.parametrize("known", [True, False])
def test_values_per_user_that_were_edited(place: Workplace, known: bool) -> None:
    def raise_one(table: pd.DataFrame) -> None:
        row = table["hit_rate_at_10"].to_numpy().argmin()
        table.loc[row, "ndcg_at_10"] = 0.9

    rewrite(place, PER_USER, raise_one)
    if not known:
        forget_checksums(place)
    told = refusal(place)
    assert ("test/per_user.parquet is not the file that evaluate wrote" in told) == known
    assert "and the mean of its values of" in told
    assert "is 0.9, and their list is worth" in told


@pytest.mark.parametrize("known", [True, False])
def test_a_hit_that_was_flipped_in_the_lists(place: Workplace, known: bool) -> None:
    def flip(table: pd.DataFrame) -> None:
        row = int((~table["hit"]).to_numpy().argmax())
        table.loc[row, "hit"] = True

    rewrite(place, LISTS, flip)
    if not known:
        forget_checksums(place)
    told = refusal(place)
    assert ("test/recommendations.parquet is not the file that evaluate wrote" in told) == known
    assert "precision_at_10 of user" in told
    assert "(1 users differ)" in told


def test_a_coverage_of_half_an_item(place: Workplace) -> None:
    coverage = place.run(step="train", model="svd").data.metrics["test/coverage_at_10"]
    overwrite(place, "test/coverage_at_10", coverage * 1.0123)
    told = refusal(place)
    assert "no whole number within the digits printed" in told
    assert "and of the lists it is" in told


def test_files_of_another_run(place: Workplace) -> None:
    for name in (PER_USER, LISTS):
        shutil.copy(file(place, name, "random"), file(place, name))
    told = refusal(place)
    assert "test/per_user.parquet is not the file that evaluate wrote" in told
    assert "test/recommendations.parquet is not the file that evaluate wrote" in told
    assert "ndcg_at_10 is " in told


def test_everything_of_another_run_fits_together_and_is_not_what_was_written(
    place: Workplace,
) -> None:
    for name in (PER_USER, LISTS):
        shutil.copy(file(place, name, "random"), file(place, name))
    for name, value in place.run(step="train", model="random").data.metrics.items():
        if name.startswith("test/"):
            overwrite(place, name, value)
    told = refusal(place).split("; ")
    assert told[1:] == [
        "test/per_user.parquet is not the file that evaluate wrote",
        "test/recommendations.parquet is not the file that evaluate wrote",
    ]


def test_a_metric_that_is_out_of_its_bounds(place: Workplace) -> None:
    overwrite(place, "test/map_at_10", 1.25)
    assert "map_at_10 1.25 is outside of 0 to 1" in refusal(place)


def test_lists_that_are_missing_or_no_table(place: Workplace) -> None:
    file(place, LISTS).write_text("no table")
    assert "test/recommendations.parquet cannot be read" in refusal(place)
    file(place, LISTS).unlink()
    assert "test/recommendations.parquet is missing" in refusal(place)


def test_values_per_user_that_are_missing(place: Workplace) -> None:
    file(place, PER_USER).unlink()
    assert "test/per_user.parquet is missing" in refusal(place)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        (PER_USER, lambda table: table.drop(columns="user"), "has no column user"),
        (PER_USER, lambda table: table[:0], "has no user"),
        (PER_USER, lambda table: pd.concat([table, table[:3]]), "has users twice"),
        (PER_USER, lambda table: table.assign(map_at_10="high"), "has str in the column map"),
        (LISTS, lambda table: table.assign(rank="first"), "has str in the column rank"),
        (LISTS, lambda table: table.assign(rank=table["rank"].where(table["rank"] > 2)),
         "has float64 in the column rank"),
        (LISTS, lambda table: table.assign(hit=1), "has int64 in the column hit"),
        (LISTS, lambda table: table.drop(columns="hit"), "cannot be read"),
    ],
)  # fmt: skip
def test_tables_that_evaluate_cannot_have_written(
    place: Workplace, name: str, change: Callable[[pd.DataFrame], pd.DataFrame], told: str
) -> None:
    forget_checksums(place)
    change(pd.read_parquet(file(place, name))).to_parquet(file(place, name), index=False)
    assert f"test/{name} {told}" in refusal(place)


@pytest.mark.parametrize("text", ["{", "[]", '{"n_items": -5}', '{"sha256": ["a"]}'])
def test_a_tag_that_is_no_evidence(place: Workplace, text: str) -> None:
    run_id = place.run(step="train", model="svd").info.run_id
    place.client.set_tag(run_id, "test_evidence", text)
    assert "the tag test_evidence cannot be read" in refusal(place)


def test_where_all_are_edited_nothing_is_compared(place: Workplace) -> None:
    for model in MODELS:
        overwrite(place, "test/map_at_10", 1.25, model)
    with pytest.raises(UserError, match=r"No run can be compared, .* most_popular: run \w+ does"):
        compared(place)
    for model in ("most_popular", "random"):
        run = place.run(step="train", model=model)
        values = pd.read_parquet(file(place, PER_USER, model))["map_at_10"]
        overwrite(place, "test/map_at_10", values.mean(), model)
        assert run.info.run_id


def test_it_is_told_and_kept(place: Workplace) -> None:
    overwrite(place, "test/ndcg_at_10", 0.987)
    told = place.cli("compare").told
    assert "Left out: results that were edited, or are not those of the run" in told
    assert "does not fit together; ndcg_at_10 is 0.987" in " ".join(told.split())
    run = place.runs(step="compare")[0]
    assert "ndcg_at_10 is 0.987" in place.artifact(run, "comparison.md").read_text()


def test_an_edited_challenger_does_not_win(place: Workplace) -> None:
    ids = [place.run(step="train", model=model).info.run_id for model in ("random", "svd")]
    assert place.cli("evaluate", "--run_id", ids[0], "--register", "edited").status == 0
    overwrite(place, "test/ndcg_at_10", 0.987)
    told = place.cli("evaluate", "--run_id", ids[1], "--register", "edited").told
    assert f"is the challenger: not comparable with the champion, version 1: run {ids[1]}" in told
    assert "ndcg_at_10 is 0.987" in told
