"""The model card says what was measured, and the figures are those of the run and of compare."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run as MlflowRun

from pipeline.compare.paired_tests import paired_tests
from tests.steps.workplace import Workplace, make_workplace

MODELS = {"svd": "components: 8", "most_popular": "", "most_popular_unmasked": ""}
NDCG = "ndcg_at_10"


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame, store: Path
) -> Workplace:
    made = make_workplace(tmp_path_factory.mktemp("card"), ratings, store)
    for model, settings in MODELS.items():
        (made.folder / f"{model}.yaml").write_text(f"model: {model}\nseed: 5\n{settings}\n")
        words = ("--config", f"{model}.yaml", "--dataset", "ratings.csv", "--windows=0.7,0.85")
        assert made.cli("train", *words).status == 0
        run_id = made.run(step="train", model=model).info.run_id
        assert made.cli("evaluate", "--run_id", run_id).status == 0
    return made


def card(place: Workplace, model: str) -> tuple[MlflowRun, str]:
    run = place.run(step="train", model=model)
    return run, place.artifact(run, "model_card.md").read_text()


def values(place: Workplace, model: str) -> pd.Series:
    run = place.run(step="train", model=model)
    table = pd.read_parquet(place.artifact(run, "test/per_user.parquet"))
    return table.set_index("user").sort_index()[NDCG]


def row(text: str, name: str) -> list[str]:
    (found,) = re.findall(rf"^\| {re.escape(name)} \| (.*) \|$", text, re.MULTILINE)
    return [cell.strip() for cell in found.split("|")]


def test_it_has_every_part_and_where_it_comes_from(place: Workplace) -> None:
    run, text = card(place, "svd")
    assert re.findall(r"^#+ (.*)$", text, re.MULTILINE) == [
        "svd, a recommender of family `svd`",
        "Data", "Protocol", "Metrics", "Compared with popularity", "Users and items",
        "Training", "Limits", "Use",
    ]  # fmt: skip
    tags = run.data.tags
    for told in (
        f"ratings, fingerprint `{tags['dataset_fingerprint']}`",
        f"Split `{tags['split']}`. One moment for all users, the 0.8 quantile",
        "in windows at the quantiles 0.7, 0.85.",
        f"Run `{run.info.run_id}` on cpu, code at commit `{tags['git_commit']}`",
        f"val/{NDCG} {run.data.metrics[f'val/{NDCG}']:.4g}",
        "`components=8`",
        "`seed=5`",
        f'load_model("runs:/{run.info.run_id}/model")',
    ):
        assert told in text
    # Eight components are too many for so few users, and it says so: no more than that.
    assert "**Warning:** This model is worse than most_popular on validation" in text
    assert "collapsed" not in text
    assert "of `svd`, 1 configuration (1 run) so far, with this one" in text


def test_intervals_and_the_comparison_with_popularity(place: Workplace) -> None:
    run, text = card(place, "svd")
    pair = np.stack([values(place, "svd"), values(place, "most_popular")], 1)
    tests = paired_tests(pair[:, :, None], np.random.default_rng(0))
    mean, interval, _ = row(text, NDCG)
    assert mean == f"{run.data.metrics[f'test/{NDCG}']:.4f}"
    assert interval == f"{tests.low[0, 0]:.4f} to {tests.high[0, 0]:.4f}"
    overlap = run.data.metrics["test/popularity_overlap_at_10"]
    assert f"{overlap:.0%} of a list are the user's most popular unseen items" in text
    assert f"{NDCG} {pair[:, 1].mean():.4f}: this model has {np.diff(-pair).mean():+.4f}" in text
    assert row(text, "coverage_at_10")[0] == f"{run.data.metrics['test/coverage_at_10']:.4f}"


def test_users_and_items(place: Workplace) -> None:
    run, text = card(place, "svd")
    metrics = run.data.metrics
    warm = [f"{metrics[f'test/{name}_at_10']:.4f}" for name in ("ndcg", "hit_rate")]
    assert row(text, "warm") == [str(len(values(place, "svd"))), *warm]
    for segment in ("low_activity", "cold"):
        told = row(text, segment.replace("_", " "))
        assert told[1] == f"{metrics[f'test/{segment}/{NDCG}']:.4f}"
    groups = pd.DataFrame(**place.json(run, "test/breakdown.json"))
    assert len(groups) == 7
    for group in groups.itertuples():
        told = row(text, f"{group.by}: {group.group}")
        assert told == [str(group.users), f"{group.ndcg:.4f}", ""]


def test_what_is_popular_says_so(place: Workplace) -> None:
    _, text = card(place, "most_popular")
    assert "This model is not personal: it is what others are compared with." in text
    assert "items that a user has in training are not recommended again" in text
    assert (
        "items that a user has in training may be recommended"
        in (card(place, "most_popular_unmasked")[1])
    )


def test_a_collapsed_model_is_warned_of(workplace: Workplace) -> None:
    words = ("--config", "small.yaml", "--dataset", "ratings.csv", "--validate=false")
    assert workplace.cli("train", *words, "--epochs=3", "--weight_decay=1.0").status == 0
    run = workplace.run(step="train")
    assert workplace.cli("evaluate", "--run_id", run.info.run_id).status == 0
    text = workplace.artifact(run, "model_card.md").read_text()
    assert f"**Warning:** {workplace.run(step='train').data.tags['warning_note']}" in text
    assert "The run was not validated." in text


def test_a_protocol_that_knows_the_future_and_keeps_repeats_says_so(
    tmp_path: Path, ratings: pd.DataFrame, store: Path
) -> None:
    place = make_workplace(tmp_path, ratings.assign(timestamp=978300000), store)
    (place.folder / "popular.yaml").write_text("model: most_popular\nwindows: []\n")
    flags = ("--protocol=random", "--repeats=keep")
    taken = place.cli("train", "--config", "popular.yaml", "--dataset", "ratings.csv", *flags)
    assert taken.status == 0, taken.told
    run = place.run(step="train", model="most_popular")
    assert place.cli("evaluate", "--run_id", run.info.run_id).status == 0
    run, text = card(place, "most_popular")
    assert run.data.tags["mask"] == "none"
    assert run.data.tags["split"] == "random-0.8-5-15-10-repeats"
    assert "Of each user a share of 0.8 trains, drawn; the rest is held out." in text
    assert run.data.tags["protocol_note"] in text
    assert "items that a user has in training may be recommended again" in text
    lists = pd.read_parquet(place.artifact(run, "test/recommendations.parquet"))
    assert (lists.groupby("rank")["item"].nunique() == 1).all()  # one list for everybody
