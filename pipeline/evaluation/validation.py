"""Validation on rolling windows inside the training part; the test is not looked at here.

    train |============|--window--|                       cut at 0.55
          |==================|--window--|                 cut at 0.7
          |========================|--window--|           cut at 0.85
                                                 | test, unknown here

A window is the same split made of the training interactions alone; where that is not in time, each
window is a draw of its own. A model is fitted on each window's own training part and evaluated on
its held-out part. What is chosen is chosen on the mean over windows, because a single one picks
badly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property, partial, reduce
from operator import add
from statistics import fmean

import numpy as np
import numpy.typing as npt

from pipeline.data.dataset import Dataset
from pipeline.data.windows import window_of
from pipeline.evaluation.evaluate import FullRanking, Ranked
from pipeline.evaluation.lists import Evaluation
from pipeline.evaluation.metrics import Metric
from pipeline.evaluation.significance import Gain
from pipeline.models.base import Recommender
from pipeline.models.fitting import EpochDone, fit
from pipeline.training.checkpoint import EpochMetrics, Journal

OVER_POPULAR, OVER_STRANGERS = "over_popular", "over_strangers"
"""A user's own list against the user's most popular unseen items, and another user's list."""
DEEP = 10
"""Times the length of a list: so far down own and strangers' lists are compared, by recall. On the
first places alone, what a personal model is worth more drowns in chance where users are few."""
MOSTLY = 0.5
"""The share from which on lists are what they share it with rather than anything else: the
popularity list, or one list for everybody."""


@dataclass(frozen=True)
class Validation:
    """What validation found."""

    epochs: int | None
    """The number of epochs with the best mean over windows; None for models without epochs."""
    windows: dict[float, EpochMetrics]
    """What each window's fit recorded at that number of epochs, by quantile."""
    repeats: float = 1.0
    """How many times users are among the windows' users, the mean over these."""

    @property
    def mean(self) -> EpochMetrics:
        """The mean over windows of each metric of the lists; empty without windows."""
        records = list(self.windows.values())
        names = [name for name in records[0] if "_at_" in name] if records else []
        return {name: sum(record[name] for record in records) / len(records) for name in names}

    @property
    def popularity(self) -> float | None:
        """The mean over windows of what the popularity lists are worth; None as in ``gain``."""
        if self.gain(OVER_POPULAR) is None:
            return None
        sums = (
            (each[f"{OVER_POPULAR}/other"], each[f"{OVER_POPULAR}/users"])
            for each in self.windows.values()
        )
        return fmean(total / users for total, users in sums)

    def gain(self, over: str) -> Gain | None:
        """How much more users have than by ``over``, over all windows.

        None where a window's record does not have it: the model is not meant to be personal, the
        record is of before, or, for ``OVER_STRANGERS``, its lists are mostly the users' own.
        """
        names = [f"{over}/{part.name}" for part in fields(Gain)]
        records = list(self.windows.values())
        if not records or not all(name in record for record in records for name in names):
            return None
        return reduce(add, (Gain(*(record[name] for name in names)) for record in records))


def window_name(quantile: float) -> str:
    """What a window's fit is called in journals and metric names."""
    return f"window_{quantile:g}"


@dataclass(frozen=True)
class Window:
    """A time split inside the training part of ``whole``; made when first used, then kept."""

    whole: Dataset
    quantile: float
    ks: Sequence[int]
    own: Sequence[Metric] = ()
    """Metrics of one's own, beside the usual ones."""
    sample: int | None = None
    """Users who are ranked for; None: all."""

    @property
    def name(self) -> str:
        """What its fit is called."""
        return window_name(self.quantile)

    @cached_property
    def dataset(self) -> Dataset:
        """The split: what is fitted on."""
        return window_of(self.whole, self.quantile)

    @cached_property
    def ranking(self) -> FullRanking:
        """How models are evaluated on it."""
        return FullRanking(self.dataset, self.ks, own=self.own, sample=self.sample)

    @cached_property
    def deep(self) -> FullRanking:
        """The same with lists that are ``DEEP`` times as long as the first of ``ks``."""
        return FullRanking(self.dataset, [DEEP * self.ks[0]], sample=self.sample)

    @cached_property
    def popular(self) -> Evaluation:
        """The popularity lists, evaluated on it: what a personal model has to beat."""
        return self.ranking.evaluate_popularity().evaluation

    @property
    def popularity(self) -> EpochMetrics:
        """What the popularity lists are worth in the mean."""
        return self.popular.summary

    @property
    def users(self) -> npt.NDArray[np.generic]:
        """The ids of the users who are ranked for."""
        return self.dataset.users["user"].to_numpy()[self.ranking.users]


def rolling_windows(
    dataset: Dataset,
    quantiles: Sequence[float],
    ks: Sequence[int],
    own: Sequence[Metric] = (),
    sample: int | None = None,
) -> list[Window]:
    """The windows of ``dataset`` cut at ``quantiles``, for lists of the lengths ``ks``.

    Models that are validated on the same windows share what does not depend on the model.
    """
    return [Window(dataset, quantile, ks, own, sample) for quantile in quantiles]


def validate(
    make: Callable[[], Recommender],
    windows: Sequence[Window],
    *,
    metric: str,
    journal: Journal,
    patience: int | None = None,
    on_epoch: EpochDone | None = None,
) -> Validation:
    """Fit and evaluate a model per window.

    Models that learn in epochs are evaluated after each; with ``patience``, a window stops after
    so many epochs without a better ``metric``, and the number of epochs with the best mean over
    windows is chosen (all windows having reached it). Without patience it is the last.
    Fits that ``journal`` has finished are not done again, one in progress goes on. What
    ``on_epoch`` raises ends the validation. The journal's records also hold the sums behind
    ``Validation.gain``, which are no metrics and which ``on_epoch`` is not given.
    """

    def is_stale(curve: list[EpochMetrics]) -> bool:
        return patience is not None and _stale(curve, metric) >= patience

    for window in windows:
        if window.name in journal.finished:
            continue
        curve = journal.records.get(window.name, [])
        if not curve or not is_stale(curve):
            model = make()
            fit(
                model,
                window.dataset,
                window.name,
                journal,
                on_epoch=on_epoch,
                measure=partial(_measured, model, window, metric),
                stop=is_stale,
            )
        journal.finish(window.name)
    curves = {window.quantile: journal.records[window.name] for window in windows}
    if not curves:
        return Validation(None, {})
    length = min(len(curve) for curve in curves.values())
    chosen = length - 1
    if patience is not None:
        means = [sum(curve[epoch][metric] for curve in curves.values()) for epoch in range(length)]
        chosen = means.index(max(means))
    in_epochs = "loss" in next(iter(curves.values()))[0]
    records = {quantile: curve[chosen] for quantile, curve in curves.items()}
    return Validation(chosen + 1 if in_epochs else None, records, _repeats(windows))


def _measured(model: Recommender, window: Window, metric: str) -> tuple[EpochMetrics, EpochMetrics]:
    ranked = window.ranking.evaluate(model)
    return ranked.evaluation.summary, _gains(model, window, ranked, metric)


def _gains(model: Recommender, window: Window, ranked: Ranked, metric: str) -> EpochMetrics:
    """Sums by which a model's own lists are compared with those that are not personal.

    Strangers' lists take two more rankings, so they are made where there is a doubt: where most
    of the own lists are what is popular, or what other users get, too.
    """
    if not model.personal:
        return {}
    own = ranked.evaluation
    gains = {OVER_POPULAR: _gain(own, window.popular, metric)}
    k = window.ks[0]
    overlap, apart = (own.summary[f"{x}_at_{k}"] for x in ("popularity_overlap", "personalization"))
    if overlap > MOSTLY or 1 - apart > MOSTLY:
        deep = window.deep
        further, strangers = deep.evaluate(model), deep.evaluate_for_strangers(model)
        recall = f"recall_at_{deep.ks[0]}"
        gains[OVER_STRANGERS] = _gain(further.evaluation, strangers.evaluation, recall)
    return {
        f"{over}/{part}": value
        for over, gain in gains.items()
        for part, value in asdict(gain).items()
    }


def _gain(one: Evaluation, other: Evaluation, metric: str) -> Gain:
    return Gain.of(one.per_user[metric].to_numpy(), other.per_user[metric].to_numpy())


def _repeats(windows: Sequence[Window]) -> float:
    _, times = np.unique(np.concatenate([each.users for each in windows]), return_counts=True)
    return float((times**2).sum() / times.sum())


def _stale(curve: list[EpochMetrics], metric: str) -> int:
    """Epochs since the best one."""
    values = [record[metric] for record in curve]
    return len(values) - 1 - values.index(max(values))
