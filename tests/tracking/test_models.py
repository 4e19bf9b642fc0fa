"""Models of runs: logged, fetched again, served by MLflow, and without pickle."""

from __future__ import annotations

from collections.abc import Iterator

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from pipeline.evaluation.ranking import rank
from pipeline.models import FAMILIES, family
from pipeline.models.base import Recommender
from pipeline.tracking.models import fetch_model, log_model, run_of_model
from pipeline.tracking.runs import Run
from pipeline.tracking.track import track
from tests.steps.workplace import Workplace


@pytest.fixture(scope="module")
def here(shared: Workplace) -> Iterator[Workplace]:
    with shared.entered():
        yield shared


def fitted(name: str, dataset: Dataset) -> Recommender:
    settings = {"epochs": 1} if name == "ncf" else {}
    kind = family(name)
    return kind(kind.settings_class.read(settings, "here"), seed=1).fit(dataset)


def logged(name: str, recommender: Recommender, dataset: Dataset) -> Run:
    with track("mine", {"step": "train"}) as run:
        log_model(run, name, recommender, dataset)
    return run


@pytest.fixture(scope="module")
def network(dataset: Dataset) -> Recommender:
    return fitted("ncf", dataset)


@pytest.fixture(scope="module")
def run(here: Workplace, network: Recommender, dataset: Dataset) -> Run:
    return logged("ncf", network, dataset)


@pytest.fixture(scope="module")
def served(run: Run) -> mlflow.pyfunc.PyFuncModel:
    return mlflow.pyfunc.load_model(f"runs:/{run.id}/model")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_fetched_model_scores_as_the_logged_one(
    here: Workplace, dataset: Dataset, name: str
) -> None:
    recommender = fitted(name, dataset)
    again = fetch_model(logged(name, recommender, dataset))
    users = np.arange(dataset.n_users, dtype=np.int32)
    assert np.array_equal(again.recommender.scores(users), recommender.scores(users))
    assert again.recommender.settings == recommender.settings
    assert (again.seen != dataset.seen).nnz == 0


@pytest.mark.parametrize("k", [1, 10, 1000])
def test_served_lists_are_the_ranking(
    served: mlflow.pyfunc.PyFuncModel, network: Recommender, dataset: Dataset, k: int
) -> None:
    indices = np.array([5, 0, 7], np.int32)
    ids = dataset.users["user"].to_numpy()[indices].astype(str)
    answer = served.predict(pd.DataFrame({"user": ids}), params={"k": k})
    lists = rank(network, indices, dataset.seen, k, dataset.n_items)
    wanted = [
        (user, place + 1, str(dataset.items["item"][item]), dataset.items["title"][item])
        for user, items in zip(ids, lists, strict=True)
        for place, item in enumerate(items)
        if item >= 0
    ]
    told = answer[["user", "rank", "item", "title"]]
    assert list(told.itertuples(index=False, name=None)) == wanted
    assert set(answer["fallback"]) == set(answer["reason"]) == {""}


def test_ids_may_be_whole_numbers(served: mlflow.pyfunc.PyFuncModel, dataset: Dataset) -> None:
    ids = dataset.users["user"][:3]
    expected = served.predict(pd.DataFrame({"user": ids.astype(str)}))
    pd.testing.assert_frame_equal(served.predict(pd.DataFrame({"user": ids})), expected)


def test_who_is_not_known_is_answered_by_what_they_like(
    served: mlflow.pyfunc.PyFuncModel, dataset: Dataset
) -> None:
    liked = dataset.items["item"][[3, 4]].tolist()
    table = pd.DataFrame({"user": ["nobody", "nobody"], "items": [liked, None]})
    answer = served.predict(table, params={"k": 4})
    assert answer["fallback"].tolist() == ["folded in"] * 4 + ["popularity"] * 4
    assert not set(answer["item"][:4]) & set(map(str, liked))


def test_a_request_that_is_none_is_refused_with_status_400(
    served: mlflow.pyfunc.PyFuncModel,
) -> None:
    with pytest.raises(MlflowException, match="Row 0, items: 'film' is no list") as refused:
        served.predict(pd.DataFrame({"items": ["film"]}))
    assert refused.value.get_http_status_code() == 400


def test_ten_places_are_the_default(served: mlflow.pyfunc.PyFuncModel, dataset: Dataset) -> None:
    user = str(dataset.users["user"][0])
    assert served.predict(pd.DataFrame({"user": [user]}))["rank"].tolist() == list(range(1, 11))


def test_a_model_of_a_run_that_has_none(here: Workplace) -> None:
    with track("mine", {"step": "train"}) as run:
        pass
    with pytest.raises(UserError, match=f"Run {run.id} has no model that can be loaded"):
        fetch_model(run)


def test_the_run_of_a_registered_model(here: Workplace, run: Run) -> None:
    mlflow.register_model(f"runs:/{run.id}/model", "films")
    here.client.set_registered_model_alias("films", "champion", "1")
    assert run_of_model("models:/films@champion").id == run.id
    assert run_of_model("models:/films/1").id == run.id
    with pytest.raises(UserError, match=r"models:/films/2: .*Expected models:/NAME@ALIAS"):
        run_of_model("models:/films/2")
    here.client.create_registered_model("bought")
    here.client.create_model_version("bought", f"{here.folder}/small.yaml")
    with pytest.raises(UserError, match="models:/bought/1: this model was made by no run"):
        run_of_model("models:/bought/1")
