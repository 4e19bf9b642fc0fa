"""The wide part of NCF: a linear model beside the network, frozen, and nothing lost of it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from pipeline.evaluation.ranking import top_k
from pipeline.models import wide as module
from pipeline.models.ncf import NCF, NCFSettings
from pipeline.models.neumf import NCFNetwork
from pipeline.models.wide import Wide

LINEAR = ("item_knn neighbours=5", "user_knn", "svd components=3", "als", "ease regularization=50",
          "slim alpha=0.1", "sequential_ridge components=3")  # fmt: skip


def settings(**given: Any) -> NCFSettings:
    return NCFSettings(device="cpu", batch_size=64, **given)


@pytest.mark.parametrize("text", LINEAR)
def test_a_network_that_adds_nothing_ranks_as_the_linear_model(dataset: Dataset, text: str) -> None:
    linear = Wide.named(text, scale=1.0, seed=3).model.fit(dataset)
    still = settings(wide=text, wide_scale=100, epochs=1, learning_rate=1e-12)
    model = NCF(still, seed=3).fit(dataset)
    users = np.arange(dataset.n_users, dtype=np.int32)
    np.testing.assert_array_equal(
        *(top_k(each.scores(users), dataset.seen, 5) for each in (model, linear))
    )


def test_logits_are_the_scores_in_standard_deviations(dataset: Dataset) -> None:
    wide = Wide.named("ease regularization=50", scale=2.0, seed=0).fit(dataset)
    users = np.array([4, 0], np.int32)
    scores = wide.model.scores(users)
    logits = wide.logits(users)
    np.testing.assert_allclose(logits.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(logits.std(1), 2, rtol=1e-5)
    np.testing.assert_array_equal(np.argsort(logits, 1), np.argsort(scores, 1))
    table = wide.table(dataset)
    np.testing.assert_allclose(table[users], logits, rtol=1e-5)


def test_a_linear_model_is_fitted_once_to_the_same_data(dataset: Dataset) -> None:
    texts = ("ease regularization=50", "ease regularization=50", "ease regularization=51")
    one, again, other = (Wide.named(text, 1.0, seed=0).fit(dataset).model for text in texts)
    assert one is again
    assert one is not other
    assert Wide.named(texts[0], 1.0, seed=1).fit(dataset).model is not one


def test_a_user_whose_scores_are_all_the_same_has_none(dataset: Dataset) -> None:
    wide = Wide.named("ease", scale=1.0, seed=0).fit(dataset)
    wide.model = copy.copy(wide.model)
    wide.model.left = wide.model.left * 0
    assert (wide.logits(np.array([1], np.int32)) == 0).all()


def test_training_sees_the_logits_of_both() -> None:
    network = NCFNetwork(5, 7, settings(embedding_dim=3, layers=(4, 2)))
    users, items = torch.tensor([1, 4]), torch.tensor([[0, 6], [3, 3], [2, 5]])
    alone, _ = network(users, items)
    network.wide = torch.arange(35.0).view(5, 7)
    together, _ = network(users, items)
    expected = [[7.0, 34.0], [10.0, 31.0], [9.0, 33.0]]
    np.testing.assert_allclose((together - alone).detach(), expected, atol=1e-5)


def test_it_is_kept_out_of_what_is_trained(dataset: Dataset) -> None:
    model = NCF(settings(wide="item_knn", epochs=2), seed=0).fit(dataset)
    assert model.network.wide is None, "as large as all scores: not kept after the fit"
    assert "wide" not in model.network.state_dict()


def test_saved_and_loaded_it_scores_the_same(dataset: Dataset, tmp_path: Path) -> None:
    given = settings(wide="item_knn similarity=bm25", epochs=2, exposure_users=2)
    model = NCF(given, seed=0).fit(dataset)
    model.save(tmp_path)
    again = NCF.load(tmp_path)
    users = np.arange(dataset.n_users, dtype=np.int32)
    np.testing.assert_array_equal(model.scores(users), again.scores(users))
    liked = dataset.seen[:3]
    np.testing.assert_allclose(model.fold_in(liked), again.fold_in(liked))


def test_people_who_did_not_train_have_a_wide_part_where_the_model_can_tell(
    dataset: Dataset,
) -> None:
    still = {"wide_scale": 100.0, "epochs": 1, "learning_rate": 1e-12}
    liked = dataset.seen[:4]
    model = NCF(settings(wide="ease", **still), seed=0).fit(dataset)
    assert model.wide is not None
    wide = model.wide.fold_in(liked)
    assert wide is not None
    np.testing.assert_array_equal(*(top_k(each, liked, 5) for each in (model.fold_in(liked), wide)))
    alone = NCF(settings(wide="user_knn", **still), seed=0).fit(dataset).fold_in(liked)
    assert np.isfinite(alone).all()


def test_a_fit_that_was_broken_off_goes_on_to_the_same_bits(dataset: Dataset) -> None:
    given = settings(wide="ease", epochs=4, learning_rate=0.01)
    states = []
    whole = NCF(given, seed=0).fit(
        dataset, lambda e: states.append(copy.deepcopy(e.state())) or False
    )
    again = NCF(given, seed=0).fit(dataset, state=states[1])
    users = np.arange(dataset.n_users, dtype=np.int32)
    np.testing.assert_array_equal(whole.scores(users), again.scores(users))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("eas", "unknown model 'eas' (did you mean 'ease'?)"),
        ("two_tower", "two_tower is no linear model; these are: item_knn, user_knn, svd"),
        ("ease 5", "'5': expected settings as in ease key=value"),
        ("ease lambda=5", "ease: unknown field 'lambda'"),
        ("svd components=0", "svd: components='0': Input should be greater than or equal to 1"),
    ],
)
def test_what_is_no_linear_model_is_refused(text: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        NCFSettings.read({"wide": text}, "mine.yaml")
    assert "mine.yaml: wide=" in str(caught.value)
    assert told in str(caught.value)
    with pytest.raises(ValidationError):
        NCFSettings(wide=text)


def test_more_scores_than_memory_are_refused(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MEMORY_SHARE", 0.0)
    with pytest.raises(UserError, match="Use wide=none, or train where there is more"):
        NCF(settings(wide="ease", epochs=1), seed=0).fit(dataset)
