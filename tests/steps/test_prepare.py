"""prepare: what a run of it holds, and that it is found again."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from mlflow.entities import Run as MlflowRun

from pipeline.evaluation.significance import smallest_difference
from tests.steps.workplace import Outcome, Workplace


@pytest.fixture(scope="module")
def outcome(shared: Workplace) -> Outcome:
    outcome = shared.cli("prepare", "--dataset", "ratings.csv", "--windows=0.7,0.85")
    assert outcome.status == 0, outcome.told
    return outcome


@pytest.fixture(scope="module")
def run(shared: Workplace, outcome: Outcome) -> MlflowRun:
    return shared.run(step="prepare")


def test_tags_name_the_data_and_the_split(shared: Workplace, run: MlflowRun) -> None:
    (folder,) = (shared.folder / "data" / "prepared").iterdir()
    wanted = {
        "step": "prepare",
        "model": "none",
        "dataset": "ratings",
        "dataset_fingerprint": folder.name,
        "split": "time-0.8-5-15-10",
    }
    assert {name: run.data.tags[name] for name in wanted} == wanted
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "prepare ratings"


def test_the_run_keeps_the_tables(shared: Workplace, run: MlflowRun, ratings: pd.DataFrame) -> None:
    train, later, users, items = (
        pd.read_parquet(shared.artifact(run, f"dataset/{name}.parquet"))
        for name in ("train", "later", "users", "items")
    )
    cut = ratings["timestamp"].quantile(0.8, interpolation="nearest")
    assert len(later) == (ratings["timestamp"] > cut).sum()
    early = ratings[ratings["timestamp"] <= cut]
    activity = early.groupby("user")["item"].transform("size")
    assert set(zip(users["user"][train["user"]], items["item"][train["item"]], strict=True)) == set(
        early[activity >= 5][["user", "item"]].itertuples(index=False, name=None)
    )
    assert shared.json(run, "dataset/meta.json")["counts"]["rows_read"] == len(ratings)


@pytest.mark.parametrize("name", ["ratings", "time", "long_tail"])
def test_plots_can_be_seen(shared: Workplace, run: MlflowRun, name: str) -> None:
    image = imread(shared.artifact(run, f"figures/{name}.png"))
    assert image.shape[0] > 300
    assert image.shape[1] > 600
    assert image.std() > 0.05  # something is drawn


def test_the_dataset_is_an_input_under_its_fingerprint(run: MlflowRun) -> None:
    (logged,) = run.inputs.dataset_inputs
    assert logged.dataset.digest == run.data.tags["dataset_fingerprint"]
    assert logged.dataset.name == "ratings"
    assert {tag.key: tag.value for tag in logged.tags} == {"mlflow.data.context": "preparation"}


def test_statistics_are_metrics(run: MlflowRun, ratings: pd.DataFrame, shared: Workplace) -> None:
    metrics = run.data.metrics
    train = pd.read_parquet(shared.artifact(run, "dataset/train.parquet"))
    assert metrics["data/rows_read"] == len(ratings)
    assert metrics["data/bad_rows_dropped"] == 0
    assert metrics["data/train_interactions"] == len(train)
    assert metrics["data/train_users"] == train["user"].nunique()
    assert metrics["data/catalogue_items"] == train["item"].nunique()
    assert metrics["data/test_users"] > 0
    assert f"| train interactions | {len(train)} |" in run.data.tags["mlflow.note.content"]


def test_parameters_are_the_settings(run: MlflowRun) -> None:
    assert run.data.params == {
        "dataset": "ratings.csv",
        "columns": "none",
        "table": "none",
        "items": "none",
        "on_bad_rows": "error",
        "accept_split": "false",
        "test_cut": "0.8",
        "min_training": "5",
        "min_warm_training": "15",
        "min_held_out": "10",
        "protocol": "time",
        "repeats": "drop",
        "split_seed": "0",
    }


def test_a_second_prepare_finds_folder_and_run(shared: Workplace, run: MlflowRun) -> None:
    before = {path: path.stat().st_mtime_ns for path in (shared.folder / "data").rglob("*.parquet")}
    again = shared.cli("prepare", "--dataset", "ratings.csv", "--windows=0.7,0.85")
    assert f"prepare: reused run {run.info.run_id}" in again.told
    assert "Found prepared ratings" in again.told
    assert shared.run(step="prepare").info.run_id == run.info.run_id
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_reuse_false_makes_a_new_run_of_the_same_data(workplace: Workplace) -> None:
    for _ in range(2):
        assert workplace.cli("prepare", "--dataset", "ratings.csv", "--reuse", "false").status == 0
    one, other = workplace.runs(step="prepare")
    assert one.data.tags["dataset_fingerprint"] == other.data.tags["dataset_fingerprint"]


def test_another_split_is_another_dataset(workplace: Workplace) -> None:
    for cut in ("0.8", "0.75"):
        outcome = workplace.cli("prepare", "--dataset", "ratings.csv", "--test_cut", cut)
        assert outcome.status == 0, outcome.told
    late, early = workplace.runs(step="prepare")
    assert late.data.tags["dataset_fingerprint"] != early.data.tags["dataset_fingerprint"]
    assert late.data.tags["split"] == "time-0.75-5-15-10"


def test_bad_rows_are_refused_or_counted(workplace: Workplace) -> None:
    file = workplace.folder / "ratings.csv"
    lines = file.read_text().splitlines()
    lines[3] = lines[3].replace(",", ",x", 3)
    lines[5] = "1,2,nan,978300000"
    file.write_text("\n".join(lines) + "\n")
    refused = workplace.cli("prepare", "--dataset", "ratings.csv")
    assert refused.status == 1
    assert "ratings.csv: 2 of" in refused.told
    assert "line 4" in refused.told
    assert "on_bad_rows" in refused.told
    assert not (workplace.folder / "data").exists()
    assert workplace.runs() == []
    taken = workplace.cli("prepare", "--dataset", "ratings.csv", "--on_bad_rows=drop")
    assert taken.status == 0
    assert "bad rows dropped: 2" in taken.told
    run = workplace.run(step="prepare")
    assert run.data.metrics["data/bad_rows_dropped"] == 2
    assert run.data.params["on_bad_rows"] == "drop"
    assert "| bad rows dropped | 2 |" in run.data.tags["mlflow.note.content"]


def test_duplicates_are_told_and_counted(workplace: Workplace) -> None:
    file = workplace.folder / "ratings.csv"
    content = file.read_text()
    file.write_text(content + content.splitlines()[-1] + "\n")
    assert "duplicates dropped: 1" in workplace.cli("prepare", "--dataset", "ratings.csv").told
    assert workplace.run(step="prepare").data.metrics["data/duplicates_dropped"] == 1


def test_what_is_no_rating_is_said(shared: Workplace, ratings: pd.DataFrame) -> None:
    hours = ratings.assign(rating=np.random.default_rng(0).lognormal(2, 2, len(ratings)))
    hours.to_csv(shared.folder / "hours.csv", index=False)
    told = shared.cli("prepare", "--dataset", "hours.csv").told
    assert "hours: ratings range from 0" in told
    assert "these are counts, not ratings" in told
    ratings.assign(rating=1).to_csv(shared.folder / "ones.csv", index=False)
    told = shared.cli("prepare", "--dataset", "ones.csv").told
    assert "ones: every rating is 1: every interaction counts one" in told
    assert "ratings range" not in shared.cli("prepare", "--dataset", "ratings.csv").told


def test_repeats_are_told_and_counted(workplace: Workplace) -> None:
    file = workplace.folder / "ratings.csv"
    lines = file.read_text().splitlines()
    user, item, rating, _ = lines[1].split(",")
    latest = max(int(line.rpartition(",")[2]) for line in lines[1:])
    file.write_text("\n".join([*lines, f"{user},{item},{rating},{latest + 1}"]) + "\n")
    assert "repeats left out: 1" in workplace.cli("prepare", "--dataset", "ratings.csv").told
    assert workplace.run(step="prepare").data.metrics["data/repeats_left_out"] == 1


def test_the_sizes_of_windows_are_logged(outcome: Outcome, run: MlflowRun) -> None:
    metrics = run.data.metrics
    for window in ("window_0.7", "window_0.85"):
        users, held_out = (metrics[f"data/{window}_{of}"] for of in ("users", "interactions"))
        assert f"{window}: {users:.0f} users, {held_out:.0f} held out" in " ".join(
            outcome.told.split()
        )
        assert f"| {window} | {users:.0f} users" in run.data.tags["mlflow.note.content"].replace(
            "window 0", "window_0"
        )


def test_too_few_users_are_told_with_what_would_give_more(outcome: Outcome) -> None:
    told = " ".join(outcome.told.split())
    assert "Less than 100 users can hardly distinguish models" in told
    assert "--min_held_out=5 would give" in told
    few = re.search(r"the test has (\d+) users", told)
    assert few is not None
    smallest = smallest_difference(0.15, int(few[1]))
    assert f"In a test of {few[1]} users a difference in NDCG below about {smallest:.2f} " in told


def test_the_same_window_twice_is_refused(workplace: Workplace) -> None:
    outcome = workplace.cli("prepare", "--dataset", "ratings.csv", "--windows=0.7,0.85,0.7")
    assert outcome.status == 1
    assert "of the windows 0.7,0.85,0.7 some are the same split" in outcome.told
    assert "Give --windows=0.7,0.85." in outcome.told


def test_data_without_times_are_split_at_random_and_it_is_told(workplace: Workplace) -> None:
    """A split in time, where it is asked for, is refused with a word on what to do."""
    file = workplace.folder / "ratings.csv"
    rows = pd.read_csv(file).assign(timestamp=978300000)
    rows.to_csv(file, index=False)
    refused = workplace.cli("prepare", "--dataset", "ratings.csv", "--protocol", "time")
    assert refused.status == 1
    assert "--protocol random" in refused.told
    for flags in ([], ["--protocol", "random"]):
        taken = workplace.cli("prepare", "--dataset", "ratings.csv", *flags)
        assert taken.status == 0, taken.told
        assert "knows the future" in taken.told
        assert ("ratings has no times" in taken.told) == (not flags)
    run = workplace.run(step="prepare")  # of both: it is the same split
    assert run.data.params["protocol"] == "random"
    assert run.data.tags["split"] == "random-0.8-5-15-10"
    assert "knows the future" in run.data.tags["protocol_note"]
    assert "knows the future" in run.data.tags["mlflow.note.content"]


def test_a_contaminated_split_is_refused_or_accepted(
    workplace: Workplace, ratings: pd.DataFrame
) -> None:
    folder = workplace.folder / "given"
    folder.mkdir()
    ratings[::2].to_csv(folder / "train.csv", index=False)
    ratings[1::2].to_csv(folder / "test.csv", index=False)
    (folder / "meta.json").write_text("{}")
    refused = workplace.cli("prepare", "--dataset", "given")
    assert refused.status == 1
    assert "is contaminated" in refused.told
    assert "--accept_split takes the split as it is" in " ".join(refused.told.split())
    for flag in (["--accept_split"], ["--accept_split", "true", "--reuse", "false"]):
        taken = workplace.cli("prepare", "--dataset", "given", *flag)
        assert taken.status == 0, taken.told
        assert "come after the user's first test row" in " ".join(taken.told.split())
    run, _ = workplace.runs(step="prepare")
    assert "come after the user's first test row" in run.data.tags["split_check"]
