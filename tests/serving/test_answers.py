"""Requests in people's terms, and answers that say how they came about."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from pipeline.evaluation.ranking import top_k
from pipeline.models import FAMILIES, family
from pipeline.models.folder import FittedModel
from pipeline.serving import answers
from pipeline.serving.answers import Answers, Request, read_requests
from tests.conftest import make_dataset

CAN_FOLD_IN = {"item_knn", "ease", "slim", "svd", "ncf"}


def fitted(dataset: Dataset, name: str = "ease", **params: Any) -> FittedModel:
    kind = family(name)
    recommender = kind(kind.settings_class.read(params, "here"), seed=1).fit(dataset)
    items = dataset.items.assign(popularity=dataset.popularity)
    return FittedModel(recommender, dataset.users[: dataset.n_users], items, dataset.seen)


@pytest.fixture(scope="module")
def model(dataset: Dataset) -> FittedModel:
    return fitted(dataset, regularization=10)


@pytest.fixture(scope="module")
def ids(dataset: Dataset) -> list[str]:
    return dataset.items["item"].astype(str).tolist()


def asked(
    user: str | None = None,
    items: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    allowed: tuple[str, ...] | None = None,
) -> Request:
    return Request(user, items, exclude, allowed)


def listed(answer: pd.DataFrame) -> list[str]:
    return answer["item"].tolist()


def test_requests_are_read_from_text_and_from_numbers() -> None:
    table = pd.DataFrame(
        {
            "user": [1, 2.0, None],
            "items": [["a", " b "], [1, np.int64(2)], np.array([3.0])],
            "exclude": [None, float("nan"), []],
            "allowed": [None, [], ["x", None]],
        }
    )
    assert read_requests(table) == [
        asked("1", ("a", "b")),
        asked("2", ("1", "2"), allowed=()),
        asked(None, ("3",), allowed=("x",)),
    ]
    assert read_requests(pd.DataFrame({"items": [["a"]]})) == [asked(items=("a",))]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"film": ["a"]}, "The request has the columns film: expected user"),
        ({"user": ["a", 1.5]}, "Row 1, user: 1.5 is no id"),
        ({"user": [True]}, "Row 0, user: True is no id"),
        ({"items": ["a"]}, "Row 0, items: 'a' is no list"),
        ({"user": ["a"], "allowed": [[{}]]}, "Row 0, allowed: {} is no id"),
    ],
)
def test_what_is_no_request_is_refused(table: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_requests(pd.DataFrame(table))


def test_a_list_needs_a_place(model: FittedModel) -> None:
    with pytest.raises(UserError, match="k is 0"):
        Answers(model).answer([asked("1")], 0)


def test_more_places_than_items_take_no_memory(model: FittedModel, ids: list[str]) -> None:
    made = Answers(model)
    tracemalloc.start()
    answer = made.answer([asked("nobody")], 10**8)
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20  # the places alone would be 400 MB
    tracemalloc.stop()
    assert sorted(listed(answer)) == sorted(ids)


def test_a_long_id_is_not_repeated_on_every_line(model: FittedModel) -> None:
    answer = Answers(model).answer([asked("u" * 10_000, ("i" * 10_000,))], 2)
    assert answer["reason"].str.len().max() < 200


def test_users_who_trained_get_the_models_list(model: FittedModel, dataset: Dataset) -> None:
    users = np.arange(dataset.n_users, dtype=np.int32)
    scores = model.recommender.scores(users)
    lists = top_k(scores, dataset.seen, 5)
    answer = Answers(model).answer([asked(str(one)) for one in dataset.users["user"][users]], 5)
    assert answer["item"].tolist() == model.items["item"].astype(str)[lists.ravel()].tolist()
    np.testing.assert_array_equal(answer["score"], scores[users[:, None], lists].ravel())
    assert answer["rank"].tolist() == [1, 2, 3, 4, 5] * dataset.n_users
    assert set(answer["fallback"]) == set(answer["reason"]) == {""}


@pytest.mark.parametrize("name", sorted(CAN_FOLD_IN - {"ncf"}))
def test_folding_in_what_a_user_has_gives_their_own_scores(dataset: Dataset, name: str) -> None:
    params = {"values": "binary"} | ({"regularization": 10} if name == "ease" else {})
    recommender = fitted(dataset, name, **params).recommender
    users = np.arange(dataset.n_users, dtype=np.int32)
    np.testing.assert_allclose(
        recommender.fold_in(dataset.seen), recommender.scores(users), atol=1e-3
    )


@pytest.mark.parametrize("name", ["ease", "svd", "item_knn"])
def test_exposure_lifts_nothing_for_who_did_not_train(dataset: Dataset, name: str) -> None:
    plain, lifted = (
        fitted(dataset, name, values="binary", exposure_users=users).recommender for users in (0, 3)
    )
    np.testing.assert_allclose(lifted.fold_in(dataset.seen), plain.fold_in(dataset.seen), atol=1e-4)


@pytest.mark.parametrize("layers", ["none", "16,8", "8,4,2"])
def test_a_network_fits_a_column_to_what_somebody_likes(dataset: Dataset, layers: str) -> None:
    params = {"epochs": 30, "learning_rate": 0.01, "layers": layers, "bias": True}
    recommender = fitted(dataset, "ncf", **params).recommender
    before = recommender.arrays()
    seen = dataset.seen[:6]
    scores = recommender.fold_in(seen)
    has = seen.toarray() > 0
    gain = [scores[row, has[row]].mean() - scores[row, ~has[row]].mean() for row in range(6)]
    assert min(gain) > 0.2
    # Nobody's column depends on who else asks, and nothing of the network has moved.
    np.testing.assert_allclose(recommender.fold_in(seen[2:3])[0], scores[2], rtol=1e-3, atol=1e-3)
    for name, array in recommender.arrays().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("name", FAMILIES)
def test_every_model_answers_everybody(dataset: Dataset, ids: list[str], name: str) -> None:
    params = {"epochs": 1} if name in ("ncf", "two_tower") else {}
    made = Answers(fitted(dataset, name, **params))
    known = str(dataset.users["user"][0])
    requests = [asked(known), asked("nobody", tuple(ids[:2])), asked("nobody")]
    answer = made.answer(requests, 3)
    assert answer["rank"].tolist() == [1, 2, 3] * 3
    way = "folded in" if name in CAN_FOLD_IN else "popularity"
    assert answer["fallback"].tolist() == [""] * 3 + [way] * 3 + ["popularity"] * 3
    assert not set(listed(answer)[3:6]) & set(ids[:2])


def test_what_is_popular_is_told_and_why(
    model: FittedModel, dataset: Dataset, ids: list[str]
) -> None:
    answer = Answers(model).answer([asked("x"), asked(items=("?",)), asked("x", (ids[0], "?"))], 2)
    best = [ids[item] for item in np.argsort(-dataset.popularity, kind="stable")[:2]]
    assert listed(answer)[:4] == best * 2
    assert answer["reason"][::2].tolist() == [
        "user x is not known; no liked items are given",
        "not in the catalogue: ?",
        "user x is not known; not in the catalogue: ?",
    ]
    assert answer["user"].tolist() == ["x", "x", "", "", "x", "x"]


def test_a_model_that_cannot_fold_in_says_so(dataset: Dataset, ids: list[str]) -> None:
    answer = Answers(fitted(dataset, "random")).answer([asked("x", (ids[0],))], 1)
    assert answer["reason"].tolist() == ["user x is not known; Random cannot take in liked items"]


def test_exclude_and_allowed(model: FittedModel, dataset: Dataset, ids: list[str]) -> None:
    made, user = Answers(model), str(dataset.users["user"][0])
    first = listed(made.answer([asked(user)], 4))
    seen = [ids[item] for item in dataset.seen[0].indices]
    assert listed(made.answer([asked(user, exclude=(first[0], first[2]))], 2)) == first[1:4:2]
    allowed = (first[3], first[1], seen[0], "?")
    assert listed(made.answer([asked(user, allowed=allowed)], 9)) == [first[1], first[3]]
    answer = made.answer([asked("x", allowed=(ids[4],)), asked(user), asked("x", allowed=())], 4)
    assert answer["item"].tolist() == [ids[4], *first, ""]
    assert answer["rank"].tolist() == [1, 1, 2, 3, 4, 0]
    assert (
        answer["reason"].iloc[-1].endswith("no liked items are given; nothing is left to recommend")
    )


@pytest.mark.parametrize("name", sorted({*FAMILIES} - {"most_popular_unmasked"}))
def test_who_has_seen_everything(name: str) -> None:
    """In training, and in what they say that they like: there is nothing left to recommend."""
    data = make_dataset((user, item) for user in range(12) for item in range(6))
    params = {"epochs": 1} if name in ("ncf", "two_tower") else {}
    everything = tuple(str(item) for item in data.items["item"])
    requests = [asked(str(data.users["user"][0])), asked(items=everything)]
    answer = Answers(fitted(data, name, **params)).answer(requests, 3)
    assert answer["rank"].tolist() == [0, 0]
    assert answer["reason"].str.endswith("nothing is left to recommend").all()


def test_no_requests_no_answers(model: FittedModel) -> None:
    assert len(Answers(model).answer([], 3)) == 0


def test_blocks_change_no_answer(
    model: FittedModel, dataset: Dataset, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [asked(str(one)) for one in dataset.users["user"][:7]]
    requests[2:4] = [asked("x", tuple(ids[:3])), asked("y")]
    expected = Answers(model).answer(requests, 4)
    monkeypatch.setattr(answers, "MEMORY_BUDGET", 1)
    pd.testing.assert_frame_equal(Answers(model).answer(requests, 4), expected)


CELL = st.one_of(
    st.none(), st.integers(), st.floats(), st.text(), st.booleans(), st.lists(st.text()),
    st.lists(st.one_of(st.none(), st.integers(), st.floats(), st.lists(st.integers()))),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.fixed_dictionaries(dict.fromkeys(answers.REQUEST_COLUMNS, CELL)), max_size=4),
    st.integers(-2, 50),
)
def test_whatever_is_asked_is_answered_or_refused(
    model: FittedModel, rows: list[dict[str, Any]], k: int
) -> None:
    table = pd.DataFrame(rows, columns=list(answers.REQUEST_COLUMNS), dtype=object)
    try:
        answer = Answers(model).answer(read_requests(table), k)
    except UserError:
        return
    assert np.isfinite(answer["score"]).all()
    assert set(answer["fallback"]) <= {"", "folded in", "popularity"}


@pytest.mark.parametrize("name", ["als", "most_popular_unmasked"])
def test_answers_by_an_index_are_those_without(dataset: Dataset, ids: list[str], name: str) -> None:
    model = fitted(dataset, name)
    users = model.users["user"].astype(str).tolist()
    requests = [
        *(asked(user) for user in users),
        asked(users[3], items=tuple(ids[:40])),
        asked(users[4], exclude=tuple(ids[10:])),
        asked(users[5], allowed=tuple(ids[:20])),
        asked("nobody"),
        asked(items=tuple(ids[:3])),
        asked(users[6], exclude=tuple(ids)),
    ]
    exact, by_index = Answers(model), Answers(model)
    by_index.index_items("hnsw" if name == "als" else "auto", None, 10)
    assert (by_index.index is not None) == (name == "als")
    pd.testing.assert_frame_equal(
        by_index.answer(requests, 10), exact.answer(requests, 10), check_exact=False, rtol=1e-5
    )
