"""evaluate --register: a champion that only a better one replaces, and the comparison kept."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.pyfunc import scoring_server

from pipeline.compare.paired_tests import paired_tests
from tests.steps.workplace import Outcome, Workplace, make_workplace

NDCG = "ndcg_at_10"


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame, store: Path
) -> Workplace:
    return make_workplace(tmp_path_factory.mktemp("register"), ratings, store)


def trained(place: Workplace, model: str, *flags: str) -> str:
    (place.folder / f"{model}.yaml").write_text(f"model: {model}\n")
    words = ("--config", f"{model}.yaml", "--dataset", "ratings.csv", "--windows=none")
    outcome = place.cli("train", *words, *flags)
    assert outcome.status == 0, outcome.told
    return str(place.runs(step="train")[0].info.run_id)


def registered(place: Workplace, run_id: str, name: str = "films") -> Outcome:
    outcome = place.cli("evaluate", "--run_id", run_id, "--register", name)
    assert outcome.status == 0, outcome.told
    return outcome


def aliased(place: Workplace, name: str = "films") -> dict[str, str]:
    found = place.client.get_registered_model(name).aliases
    return {alias: str(version) for alias, version in found.items()}


def version(place: Workplace, number: str) -> ModelVersion:
    return place.client.get_model_version("films", number)


def per_user(place: Workplace, run_id: str) -> pd.Series:
    path = place.artifact(place.client.get_run(run_id), "test/per_user.parquet")
    return pd.read_parquet(path).set_index("user").sort_index()[NDCG]


@pytest.fixture(scope="module")
def story(place: Workplace) -> dict[str, str]:
    """A first champion, a better one, a worse one: the runs, and what was told of each."""
    told = {}
    for model, *flags in (("random",), ("most_popular",), ("random", "--seed=7")):
        run_id = trained(place, model, *flags)
        told[run_id] = registered(place, run_id).told
    return told


def test_the_first_is_champion_because_there_is_none(
    place: Workplace, story: dict[str, str]
) -> None:
    run_id, told = next(iter(story.items()))
    why = "there was no champion, so it was compared with none"
    assert f"Version 1 of `films` is the champion: {why}" in told
    first = version(place, "1")
    assert first.run_id == run_id
    assert first.tags["verdict"] == why
    assert "comparison_p_value" not in first.tags
    assert why in first.description
    assert f"Model card: artifact `model_card.md` of run `{run_id}`" in first.description


def test_a_better_one_wins_by_a_comparison_that_is_kept(
    place: Workplace, story: dict[str, str]
) -> None:
    (worse, better, _), told = story, list(story.values())[1]
    assert "Version 2 of `films` is the champion: it beats version 1, then the champion" in told
    values = np.stack([per_user(place, run_id) for run_id in (better, worse)], 1)
    tests = paired_tests(values[:, :, None], np.random.default_rng(0))
    assert tests.p_permutation[0, 1, 0] < 0.05
    tags = version(place, "2").tags
    run = place.client.get_run(better)
    expected = {
        "comparison_metric": f"test/{NDCG}",
        "comparison_version": "1",
        "comparison_run": worse,
        "comparison_dataset": "ratings",
        "comparison_fingerprint": run.data.tags["dataset_fingerprint"],
        "comparison_split": run.data.tags["split"],
        "comparison_mask": "seen",
        "comparison_users": str(len(values)),
        "comparison_number": "1",
        "beat_version": "1",
        "dataset_fingerprint": run.data.tags["dataset_fingerprint"],
    }
    assert expected.items() <= tags.items()
    numbers = {
        "value": values[:, 0].mean(),
        "champion_value": values[:, 1].mean(),
        "difference": (values[:, 0] - values[:, 1]).mean(),
        "difference_low": tests.difference_low[0, 1, 0],
        "difference_high": tests.difference_high[0, 1, 0],
        "p_value": tests.p_permutation[0, 1, 0],
    }
    for name, number in numbers.items():
        assert float(tags[f"comparison_{name}"]) == pytest.approx(number, abs=1e-12)
    assert version(place, "1").tags["beaten_by_version"] == "2"
    assert tags["verdict"] in version(place, "2").description


def test_a_version_shows_its_test_and_the_way_to_its_card(
    place: Workplace, story: dict[str, str]
) -> None:
    for number, run_id in zip("123", story, strict=True):
        run, found = place.client.get_run(run_id), version(place, number)
        for name in ("ndcg_at_10", "hit_rate_at_10", "coverage_at_10", "popularity_overlap_at_10"):
            value = run.data.metrics[f"test/{name}"]
            assert float(found.tags[f"test/{name}"]) == pytest.approx(value, abs=1e-6)
            assert f"| {name} |  | {value:.4f} |" in found.description
        for name in ("model", "dataset", "split", "mask"):
            assert found.tags[name] == run.data.tags[name]
        card = (
            f"#/experiments/0/runs/{run_id}/artifacts/model_card.md?workflowType=machine_learning"
        )
        assert f"([open it]({card}))" in found.description


def test_a_worse_one_is_the_challenger(place: Workplace, story: dict[str, str]) -> None:
    told = list(story.values())[2]
    assert "Version 3 of `films` is the challenger: it is worse than version 2, still" in told
    third = version(place, "3")
    assert third.tags["comparison_version"] == "2"
    assert float(third.tags["comparison_difference"]) < 0
    assert float(third.tags["comparison_p_value"]) < 0.05
    assert "beat_version" not in third.tags
    assert third.tags["comparison_number"] == "2"
    assert "This is challenger 2 on this test" in third.description


def test_one_that_is_no_different_does_not_win(place: Workplace, story: dict[str, str]) -> None:
    twin = trained(place, "most_popular", "--seed=9")
    registered(place, list(story)[1], "twins")
    told = registered(place, twin, "twins").told
    assert "is the challenger: it is not distinguishable from version 1" in told
    assert "difference +0.0000" in told
    assert aliased(place, "twins") == {"champion": "1", "challenger": "2"}


def test_once_more_changes_nothing(place: Workplace, story: dict[str, str]) -> None:
    first, champion, challenger = story
    before = [dict(version(place, number).tags) for number in "123"]
    assert "Version 2 of `films` is the champion, as before" in registered(place, champion).told
    assert "Version 3 of `films` is the challenger" in registered(place, challenger).told
    assert [dict(version(place, number).tags) for number in "123"] == before
    assert len(place.client.search_model_versions("name = 'films'")) == 3
    assert aliased(place) == {"champion": "2", "challenger": "3"}
    assert "it is worse than version 2" in registered(place, first).told


def test_other_data_are_not_comparable(place: Workplace, story: dict[str, str]) -> None:
    registered(place, next(iter(story)), "apart")
    told = registered(place, trained(place, "most_popular", "--test_cut=0.7"), "apart").told
    assert "is the challenger: not comparable, the champion, version 1, was evaluated on" in told
    assert "fingerprint" in told
    assert "split time-0.7-5-15-10" in told
    assert aliased(place, "apart") == {"champion": "1", "challenger": "2"}
    tags = place.client.get_model_version("apart", "2").tags
    assert "comparison_p_value" not in tags
    assert tags["verdict"].startswith("not comparable")


def test_a_champion_that_was_never_evaluated(place: Workplace, story: dict[str, str]) -> None:
    unknown = trained(place, "most_popular", "--seed=11")
    source = str(place.model(place.client.get_run(unknown)))
    with place.entered():
        place.client.create_registered_model("by-hand")
        place.client.create_model_version("by-hand", source, run_id=unknown)
        place.client.set_registered_model_alias("by-hand", "champion", "1")
    told = registered(place, list(story)[1], "by-hand").told
    assert "is the challenger: not comparable with the champion, version 1: Run" in told
    assert "has no test metrics" in told
    assert aliased(place, "by-hand")["champion"] == "1"


def test_the_champion_is_served_by_its_alias(place: Workplace, story: dict[str, str]) -> None:
    run = place.client.get_run(list(story)[1])
    lists = pd.read_parquet(place.artifact(run, "test/recommendations.parquet"))
    users = lists["user"].unique().tolist()
    with place.entered():
        registered(place, list(story)[2])
        model = mlflow.pyfunc.load_model("models:/films@champion")
        other = mlflow.pyfunc.load_model("models:/films@challenger")
    assert other.metadata.run_id == list(story)[2]
    asked = {"dataframe_records": [{"user": user} for user in users], "params": {"k": 10}}
    answer = TestClient(scoring_server.init(model)).post("/invocations", json=asked)
    served = pd.DataFrame(answer.json()["predictions"])
    assert served["item"].tolist() == lists["item"].astype(str).tolist()
    out = place.folder / "of_champion.csv"
    words = ("--model", "models:/films@champion", "--output", str(out))
    assert place.cli("recommend", *words).status == 0
    assert len(pd.read_csv(out)) >= len(lists)


def test_a_name_that_mlflow_refuses(place: Workplace, story: dict[str, str]) -> None:
    outcome = place.cli("evaluate", "--run_id", next(iter(story)), "--register", "a/b")
    assert outcome.status == 1
    assert "Registered model a/b: " in outcome.told
