"""Registered models: one version per run, and a champion that only a better one replaces."""

from __future__ import annotations

from collections.abc import Iterator

import mlflow
import pandas as pd
import pytest

from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from pipeline.models import family
from pipeline.models.base import Recommender
from pipeline.tracking.models import log_model, run_of_model
from pipeline.tracking.registry import (
    Champion,
    appoint,
    beats,
    champion,
    compared_before,
    measured,
    register,
    registered_name,
)
from pipeline.tracking.runs import Run
from pipeline.tracking.track import track
from tests.steps.workplace import Workplace

WINDOWS = (0.7, 0.85)
TAGS = measured("val/ndcg_at_10", 0.28, "2a815320d2d896f6", WINDOWS)


@pytest.fixture(scope="module")
def here(shared: Workplace) -> Iterator[Workplace]:
    with shared.entered():
        yield shared


@pytest.fixture(scope="module")
def popular(dataset: Dataset) -> Recommender:
    kind = family("most_popular")
    return kind(kind.settings_class.read({}, "here"), seed=1).fit(dataset)


def made(popular: Recommender, dataset: Dataset, models: int = 1) -> Run:
    with track("mine", {"step": "train"}) as run:
        for _ in range(models):
            log_model(run, "most_popular", popular, dataset)
    return run


def test_a_run_is_registered_once(here: Workplace, popular: Recommender, dataset: Dataset) -> None:
    first, second = made(popular, dataset), made(popular, dataset)
    assert register(first, "once", TAGS) == "1"
    assert register(second, "once", {}) == "2"
    assert register(first, "once", {"metric": "other"}) == "1"
    versions = here.client.search_model_versions("name = 'once'")
    assert {str(each.version): each.tags for each in versions} == {"1": TAGS, "2": {}}
    assert register(second, "elsewhere", TAGS) == "1"


def test_the_champion_is_the_run_and_the_model_that_was_registered(
    here: Workplace, popular: Recommender, dataset: Dataset
) -> None:
    run, other = made(popular, dataset), made(popular, dataset)
    assert champion("films") is None
    version = register(run, "films", TAGS)
    assert champion("films") is None
    appoint("films", version, None, wins=True, tags={}, description="The first")
    assert champion("films") == Champion("1", run.id, TAGS)
    assert run_of_model("models:/films@champion").id == run.id
    model = mlflow.pyfunc.load_model("models:/films@champion")
    lists = model.predict(pd.DataFrame({"user": ["nobody"]}), params={"k": 3})
    assert lists["rank"].tolist() == [1, 2, 3]
    version = register(other, "films", TAGS)
    appoint("films", version, champion("films"), wins=True, tags={"a": "b"}, description="2nd")
    assert champion("films") == Champion("2", other.id, {**TAGS, "a": "b", "beat_version": "1"})
    assert run_of_model("models:/films@champion").id == other.id


def test_the_latest_model_of_a_run_is_registered(
    here: Workplace, popular: Recommender, dataset: Dataset
) -> None:
    run = made(popular, dataset, models=2)  # as of a run that was killed and resumed
    here.client.create_logged_model("0", name="model", source_run_id=run.id)  # not whole
    register(run, "resumed", TAGS)
    logged = here.client.search_logged_models(["0"], f"source_run_id = '{run.id}'")
    assert len(logged) == 3
    latest = sorted(logged, key=lambda model: model.creation_timestamp)[1]
    version = here.client.get_model_version("resumed", "1")
    assert version.source == f"models:/{latest.model_id}"
    assert version.run_id == run.id


def test_what_cannot_be_registered_is_told(
    here: Workplace, popular: Recommender, dataset: Dataset
) -> None:
    with track("mine", {"step": "train"}) as empty:
        pass
    with pytest.raises(UserError, match=f"Run {empty.id} has no model to register as nothing"):
        register(empty, "nothing", TAGS)
    assert here.client.search_registered_models("name = 'nothing'") == []
    with pytest.raises(UserError, match=r"Registered model a/b: sqlite:.*says: "):
        register(made(popular, dataset), "a/b", TAGS)
    with pytest.raises(UserError, match=r"Registered model a/b: sqlite:.*says: "):
        champion("a/b")
    with pytest.raises(UserError, match=r"Registered model unknown: sqlite:.*says: "):
        appoint("unknown", "1", None, wins=True, tags={}, description="")


def test_a_challenger_has_the_alias_until_it_wins(
    here: Workplace, popular: Recommender, dataset: Dataset
) -> None:
    def aliases() -> dict[str, str]:
        found = here.client.get_registered_model("cup").aliases
        return {alias: str(version) for alias, version in found.items()}

    for number in "123":
        assert register(made(popular, dataset), "cup", TAGS) == number
    appoint("cup", "1", None, wins=True, tags={}, description="")
    met = {"comparison_fingerprint": "ab12"}
    appoint("cup", "2", champion("cup"), wins=False, tags=met, description="worse")
    assert aliases() == {"champion": "1", "challenger": "2"}
    appoint("cup", "3", champion("cup"), wins=False, tags=met, description=9000 * "x")
    assert aliases() == {"champion": "1", "challenger": "3"}
    appoint("cup", "2", champion("cup"), wins=True, tags={}, description="better")
    assert aliases() == {"champion": "2", "challenger": "3"}
    appoint("cup", "3", champion("cup"), wins=True, tags={}, description="best")
    assert aliases() == {"champion": "3"}
    first, second, third = (here.client.get_model_version("cup", number) for number in "123")
    assert first.tags == {**TAGS, "beaten_by_version": "2"}
    assert second.tags == {**TAGS, **met, "beat_version": "1", "beaten_by_version": "3"}
    assert second.description == "better"
    assert third.tags["beat_version"] == "2"
    assert compared_before("cup", "3", "ab12") == 1
    assert compared_before("cup", "1", "ab12") == 2
    assert compared_before("cup", "1", "cd34") == 0


def test_a_description_is_as_long_as_postgresql_takes(
    here: Workplace, popular: Recommender, dataset: Dataset
) -> None:
    version = register(made(popular, dataset), "long", TAGS)
    appoint("long", version, None, wins=True, tags={}, description=9000 * "x")
    assert len(here.client.get_model_version("long", version).description) == 5000


@pytest.mark.parametrize(
    ("theirs", "wins", "told"),
    [
        ({}, False, "the champion, version 3, has 0.2800 on validation, this one 0.2800"),
        ({"val/ndcg_at_10": "0.27"}, True, "has 0.2700 on validation, this one 0.2800"),
        ({"val/ndcg_at_10": "0.2801"}, False, "has 0.2801 on validation, this one 0.2800"),
        ({"dataset_fingerprint": "ab12"}, False, "on other data (ab12, here 2a815320d2d896f6)"),
        ({"windows": "0.5"}, False, "chosen on other windows (0.5, here 0.7,0.85): not comp"),
        ({"metric": "val/map_at_10"}, False, "chosen on other metric (val/map_at_10, here val/nd"),
    ],
)
def test_only_a_better_version_on_the_same_data_wins(
    theirs: dict[str, str], wins: bool, told: str
) -> None:
    won, why = beats(TAGS, Champion("3", "run", {**TAGS, **theirs}))
    assert won is wins
    assert told in why


def test_values_are_compared_as_numbers_to_the_last_digit() -> None:
    tiny = measured("val/ndcg_at_10", 9e-5, "2a815320d2d896f6", WINDOWS)
    assert not beats(tiny, Champion("3", "run", TAGS))[0]
    above = measured("val/ndcg_at_10", 0.28 + 1e-15, "2a815320d2d896f6", WINDOWS)
    assert beats(above, Champion("3", "run", TAGS))[0]


def test_a_first_champion_and_one_without_tags() -> None:
    assert beats(TAGS, None) == (True, "there is no champion yet")
    by_hand = Champion("3", "run", {})
    assert beats(TAGS, by_hand)[1].startswith("the champion, version 3, was chosen on other data (")
    kept = {name: value for name, value in TAGS.items() if name != "val/ndcg_at_10"}
    won, why = beats(TAGS, Champion("3", "run", kept))
    assert not won
    assert "has no tag val/ndcg_at_10" in why


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("ncf", "ml-1m"), "ncf-ml-1m"),
        (("my study", "a/b: c"), "my-study-a-b-c"),
        (("étude", "données.2"), "étude-données.2"),
        (("ease", "//"), "ease"),
    ],
)
def test_a_name_that_mlflow_takes(parts: tuple[str, ...], name: str) -> None:
    assert registered_name(*parts) == name
