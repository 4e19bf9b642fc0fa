"""The saved views of an experiment, as MLflow's own page would have written them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import mlflow
import pytest

from pipeline.tracking.leaderboard import TITLE
from pipeline.tracking.links import leaderboard_address
from pipeline.tracking.track import track
from pipeline.tracking.views import current_experiment, show_experiment
from tests.steps.workplace import Workplace

NOTE = "mlflow.note.content"
DATA = {"step": "train", "dataset": "ratings", "dataset_fingerprint": "f" * 16, "mask": "seen"}
TESTED = {"coverage": 0.1, "hit_rate": 0.8, "popularity_overlap": 0.4}


@pytest.fixture
def here(workplace: Workplace) -> Iterator[Workplace]:
    with workplace.entered():
        yield workplace


def add(name: str, ndcg: float, params: dict[str, Any], **tags: str) -> str:
    """The run of a tested model."""
    with track(name, {**DATA, "split": "time-0.8-5-15-10", **tags}) as run:
        run.log_params(params)
        values = {"ndcg": ndcg, **TESTED}
        run.log_metrics({f"test/{metric}_at_10": value for metric, value in values.items()})
    return run.id


def tags_of(here: Workplace) -> dict[str, str]:
    return dict(here.client.get_experiment("0").tags)


def state(here: Workplace, view: str) -> dict[str, Any]:
    kept = json.loads(tags_of(here)[f"mlflow.sharedViewState.{view}"])
    assert isinstance(kept["createdAt"], int)  # without it the page does not list the view
    found: dict[str, Any] = json.loads(kept["state"])
    return found


def test_the_leaderboard_shows_what_differs_sorted_by_ndcg(here: Workplace) -> None:
    add("svd components=3", 0.3, {"model": "svd", "components": 3, "seed": 1, "alpha": "None"})
    add("svd components=5", 0.4, {"model": "svd", "components": 5, "seed": 1, "device": "cpu"})
    add("ncf", 0.2, {"model": "ncf", "layers": "[8, 4]", "seed": 2, "device": "cuda"})
    show_experiment("0")
    view = state(here, "leaderboard")
    assert view["searchFilter"] == "tags.step = 'train'"
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`test/ndcg_at_10`", False)
    names = ("ndcg", "hit_rate", "coverage", "popularity_overlap")
    assert view["selectedColumns"] == [
        *(f"metrics.`test/{name}_at_10`" for name in names),
        "tags.`dataset`", "tags.`split`", "params.`model`", "params.`components`", "params.`seed`",
    ]  # fmt: skip
    assert view["columnOrder"] == view["selectedColumns"]  # NDCG comes first
    tags = tags_of(here)
    assert tags["mlflow.experiment.primaryMetric.name"] == "test/ndcg_at_10"
    # The filter and the order are ones that the store takes.
    found = here.client.search_runs(
        ["0"], view["searchFilter"], order_by=[f"{view['orderByKey']} DESC"]
    )
    assert [run.info.run_name for run in found] == ["svd components=5", "svd components=3", "ncf"]


def test_the_description_is_a_leaderboard_of_what_can_be_ranked(here: Workplace) -> None:
    add("elsewhere", 0.9, {}, dataset_fingerprint="e" * 16)
    for number in range(12):
        add(f"svd components={number}", number / 100, {})
    show_experiment("0")
    first, *lines = tags_of(here)[NOTE].splitlines()
    assert first.startswith(f"{TITLE}: ratings, time-0.8-5-15-10, test, at 10 (1 with other data")
    rows = [line for line in lines if line.startswith("| svd")]
    assert len(rows) == 10
    assert rows[0] == "| svd components=11 | 0.1100 | 0.1000 | 0.4000 |"
    assert "elsewhere" not in "".join(lines)


def test_what_a_person_has_written_stays(here: Workplace) -> None:
    add("svd", 0.3, {})
    here.client.set_experiment_tag("0", NOTE, "Our films.")
    show_experiment("0")
    assert tags_of(here)[NOTE] == "Our films."
    assert state(here, "comparisons")["searchFilter"] == "tags.step = 'compare'"


def test_the_latest_studies_are_open_on_their_trials(here: Workplace) -> None:
    with track("tune a", {"step": "tune", "study": "a"}) as study:
        study.log_metrics({"best/ndcg_at_10": 0.3})
        with track("trial 0", {"step": "trial", "study": "a"}, parent=study) as trial:
            pass
    show_experiment("0")
    view = state(here, "studies")
    assert next(iter(view["runsExpanded"].items())) == (study.id, True)
    found = here.client.search_runs(
        ["0"], view["searchFilter"], order_by=[f"{view['orderByKey']} DESC"]
    )
    assert [run.info.run_id for run in found] == [study.id, trial.id]


def test_a_store_that_is_away_is_no_matter(
    here: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("svd", 0.3, {})
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    show_experiment("0")


def test_the_link_names_the_view_of_the_experiment_in_use(
    here: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = here.client.create_experiment("films")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", films)
    found = current_experiment()
    assert found == films
    assert leaderboard_address(found, 5001) == (
        f"http://127.0.0.1:5001/#/experiments/{found}/runs"
        "?workflowType=machine_learning&viewStateShareKey=leaderboard"
    )
    tags = here.client.get_experiment(found).tags
    assert "mlflow.sharedViewState.leaderboard" in tags
