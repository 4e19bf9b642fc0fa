"""What is wrong with a model that is meant to be personal, each warning for a reason of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.evaluation.significance import ALPHA, p_words
from pipeline.evaluation.validation import (
    DEEP,
    MOSTLY,
    OVER_POPULAR,
    OVER_STRANGERS,
    Validation,
)

NOT_PERSONAL = "collapsed-to-popularity"
ONE_LIST = "collapsed-to-one-list"
COLLAPSED = "collapsed-parameters"
WORSE = "worse-than-most-popular"
POPULAR = 0.9  # overlap above which a model that was not validated recommends the popularity list
NO_MORE = 0.05  # of an own list: a personal model's is worth .08 to .2 more, at the upper end
WARNING, WARNING_NOTE = "warning", "warning_note"
BACKTEST_HOLDS = "backtest_holds"  # what a backtest of a run's settings found, in words


@dataclass(frozen=True)
class Warned:
    """Something that whoever uses a model has to know: a word for a tag, and it in sentences."""

    word: str
    note: str


def warnings(
    metric: str, settings: Mapping[str, Any], validation: Validation, norms: str | None
) -> list[Warned]:
    """What is wrong with a model that is meant to be personal, each for a reason of its own.

    Args:
        metric: what it was validated by, as in ndcg_at_10.
        settings: the model's, by name; what is advised is one of them.
        validation: what its lists are worth on the windows, if there are any.
        norms: why its parameters have collapsed, if they have.
    """
    found = []
    strangers = validation.gain(OVER_STRANGERS)
    if strangers is not None:
        k = int(metric.rpartition("_")[2])
        most = strangers.most(validation.repeats) * strangers.users
        if most < NO_MORE * strangers.one:
            word, lists = _shared(validation, k)
            note = (
                f"This model has learned nothing personal: {lists}, and a user's own list is worth "
                f"no more than another user's (recall_at_{DEEP * k} {strangers.words})."
            )
            found.append(Warned(word, note))
    if norms:
        found.append(Warned(COLLAPSED, f"Its parameters have collapsed: {norms}."))
    if found:
        found[-1] = replace(found[-1], note=f"{found[-1].note} {_advice(settings)}")
    popular = validation.gain(OVER_POPULAR)
    if popular is not None and popular.mean < 0:
        p = popular.p(validation.repeats) / 2  # who asks whether it is worse asks for one side
        if p < ALPHA:
            note = (
                f"This model is worse than most_popular on validation: {metric} {popular.words} "
                f"(one-sided {p_words(p)}, {popular.users:,.0f} users of all windows). Its "
                f"settings do not suit these data: tune looks for others."
            )
            found.append(Warned(WORSE, note))
    return found


def _shared(validation: Validation, k: int) -> tuple[str, str]:
    """What the lists of a model are that has learned nothing personal: a word, and it in words."""
    overlap = validation.mean[f"popularity_overlap_at_{k}"]
    if overlap > MOSTLY:
        note = f"{overlap:.0%} of its validation lists are the user's most popular unseen items"
        return NOT_PERSONAL, note
    shared = 1 - validation.mean[f"personalization_at_{k}"]
    return ONE_LIST, f"two users share {shared:.0%} of their validation lists"


def _advice(settings: Mapping[str, Any]) -> str:
    """What may be the cause of a collapse, among the settings that the model has."""
    if settings.get("weight_decay"):
        return (
            f"Look for weight_decay (now {settings['weight_decay']:g}), which shrinks rows that a "
            f"batch does not use (l2 does not), or a loss that stopped falling early."
        )
    if settings.get("l2"):
        return f"Look for l2 (now {settings['l2']:g}), or a loss that stopped falling early."
    if "learning_rate" in settings:
        return f"Look for learning_rate (now {settings['learning_rate']:g}) and epochs: too little?"
    for name in ("regularization", "penalty"):
        if settings.get(name):
            return f"Look for {name} (now {settings[name]:g}): the more, the more popular."
    return "Other settings may learn more: tune looks for them."


def recommends_popularity(
    tags: Mapping[str, str], metrics: Mapping[str, float], overlap: float
) -> bool:
    """Whether a run's lists, which overlap so much with the popular, are the popularity list.

    Validation has found out, and its warning says so; without it, the overlap alone must do.
    """
    if any(name.startswith("val/") for name in metrics):
        return NOT_PERSONAL in tags.get(WARNING, "") and overlap > MOSTLY
    return overlap > POPULAR
