"""What a run is warned of: three reasons, each for itself, and advice that the model can follow."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.significance import Gain
from pipeline.evaluation.validation import OVER_POPULAR, OVER_STRANGERS, Validation
from pipeline.evaluation.warnings import recommends_popularity, warnings

USERS = 400


def validation(
    popular: float = 0.0, strangers: float | None = None, overlap: float = 0.6
) -> Validation:
    """Windows whose users have .2 in the mean, and so much more than by other lists."""
    own = np.random.default_rng(0).beta(1, 4, USERS)
    noise = np.random.default_rng(1).normal(0, 0.02, USERS)
    gains = {OVER_POPULAR: Gain.of(own, own - popular + noise)}
    if strangers is not None:
        gains[OVER_STRANGERS] = Gain.of(own, own - strangers + noise)
    record = {"ndcg_at_10": 0.2, "popularity_overlap_at_10": overlap}
    record["personalization_at_10"] = 0.3
    for over, gain in gains.items():
        record |= {f"{over}/{part}": value for part, value in asdict(gain).items()}
    return Validation(1, {0.55: record, 0.7: record}, repeats=2.0)


def words(
    found: Validation, norms: str | None = None, **settings: Any
) -> tuple[list[str], list[str]]:
    """Words and notes of what is warned of."""
    warned = warnings("ndcg_at_10", settings, found, norms)
    return [each.word for each in warned], [each.note for each in warned]


def test_a_healthy_model_is_warned_of_nothing() -> None:
    assert words(validation(popular=0.05)) == ([], [])
    assert words(validation(popular=0.05, strangers=0.05)) == ([], [])
    assert words(Validation(None, {})) == ([], [])


def test_lists_that_are_worth_the_same_to_strangers() -> None:
    told, (note,) = words(validation(popular=0.05, strangers=0.0))
    assert told == ["collapsed-to-popularity"]
    assert "60% of its validation lists are the user's most popular unseen items" in note
    assert "worth no more than another user's (recall_at_100 0.2" in note


def test_one_list_for_everybody_that_is_not_the_popular_one() -> None:
    told, (note,) = words(validation(popular=0.05, strangers=0.0, overlap=0.45))
    assert told == ["collapsed-to-one-list"]
    assert "nothing personal: two users share 70% of their validation lists, and a user's" in note
    assert "most popular" not in note


def test_a_doubt_is_no_warning() -> None:
    """Two users in each window: whether strangers are served as well nobody can know."""
    own, other = np.array([0.3, 0.1]), np.array([0.1, 0.3])
    gain = asdict(Gain.of(own, other))
    record = {"popularity_overlap_at_10": 0.9}
    record |= {f"{OVER_STRANGERS}/{part}": value for part, value in gain.items()}
    assert words(Validation(1, {0.5: record, 0.7: record})) == ([], [])


def test_parameters_that_have_collapsed() -> None:
    told, (note,) = words(validation(popular=0.05), norms="all norms are 0")
    assert told == ["collapsed-parameters"]
    assert note.startswith("Its parameters have collapsed: all norms are 0. ")
    assert words(Validation(None, {}), norms="all norms are 0")[0] == ["collapsed-parameters"]


def test_a_model_that_is_worse_than_what_is_popular() -> None:
    told, (note,) = words(validation(popular=-0.02))
    assert told == ["worse-than-most-popular"]
    assert "is worse than most_popular on validation: ndcg_at_10 0.2" in note
    assert " against 0.2" in note
    assert "one-sided p < .001, 800 users of all windows" in note
    assert words(validation(popular=-0.0005)) == ([], [])


@pytest.mark.parametrize(("error", "told"), [(-1.8, ["worse-than-most-popular"]), (-1.5, [])])
def test_whether_it_is_worse_is_asked_of_one_side(error: float, told: list[str]) -> None:
    """Two-sided, so many standard errors below are p = .075 and .14."""
    around = np.tile([-0.1, 0.1], USERS // 2)
    own = 0.2 + around + error * 0.1 / np.sqrt(USERS - 1)
    gain = asdict(Gain.of(own, np.full(USERS, 0.2)))
    record = {f"{OVER_POPULAR}/{part}": value for part, value in gain.items()}
    assert words(Validation(1, {0.85: record}))[0] == told


def test_all_three_at_once_have_the_advice_once() -> None:
    told, notes = words(validation(-0.02, 0.0), norms="all norms are 0", learning_rate=0.1)
    assert told == ["collapsed-to-popularity", "collapsed-parameters", "worse-than-most-popular"]
    assert sum("learning_rate" in note for note in notes) == 1


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"weight_decay": 0.1, "l2": 0.5, "learning_rate": 1.0}, "weight_decay (now 0.1)"),
        ({"weight_decay": 0.0, "l2": 0.5, "learning_rate": 1.0}, "l2 (now 0.5)"),
        ({"weight_decay": 0.0, "l2": 0.0, "learning_rate": 1.0}, "learning_rate (now 1)"),
        ({"regularization": None, "penalty": 500.0}, "penalty (now 500)"),
        ({"components": 5}, "tune looks for them"),
    ],
)
def test_advice_is_about_settings_that_the_model_has(settings: dict[str, Any], advice: str) -> None:
    _, (note,) = words(validation(0.05, 0.0), **settings)
    assert advice in note
    others = {"weight_decay", "l2", "learning_rate", "regularization"} - {advice.split()[0]}
    assert not any(f"Look for {other}" in note for other in others)


def test_who_recommends_what_is_popular() -> None:
    """Validation knows; where there was none, the overlap must do."""
    validated = {"val/ndcg_at_10": 0.2}
    warned = {"warning": "collapsed-to-popularity, collapsed-parameters"}
    assert recommends_popularity(warned, validated, 0.6)
    assert not recommends_popularity(warned, validated, 0.37)
    assert not recommends_popularity({}, validated, 0.97)
    assert not recommends_popularity({"warning": "collapsed-parameters"}, validated, 0.97)
    assert recommends_popularity({}, {}, 0.97)
    assert not recommends_popularity({}, {}, 0.85)
