"""Validation windows: the split of a dataset made once more, inside its training part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from pipeline.data.dataset import AS_GIVEN, Dataset
from pipeline.data.raw.numbering import Numbered
from pipeline.data.split import split_ratings
from pipeline.data.split_settings import SplitSettings
from pipeline.errors import UserError


def window_of(dataset: Dataset, quantile: float) -> Dataset:
    """The same split made inside the training part: a validation window of its own catalogue.

    In time it is cut at ``quantile``; otherwise that names a repetition with a draw of its own.
    Nothing of ``later`` is in it, so nothing chosen on it knows the test. Beside a split that is
    given, users are evaluated who are as active as those of its test, if that asks for less than
    the settings do.

    Raises:
        UserError: it has nothing to train on or to evaluate, or there are no times to cut at.
    """
    ids = pd.Index(dataset.users["user"]), pd.Index(dataset.items["item"])
    rows = Numbered(dataset.train_rows, *ids)
    rules = _rules_of_test(dataset) if dataset.protocol == AS_GIVEN else dataset.split
    name, protocol = (f"{of}/window-{quantile:g}" for of in (dataset.name, dataset.protocol))
    parts = split_ratings(name, rows.rows, rules, quantile)
    return Dataset.from_split(name, protocol, parts, rows, dataset.items)


def _rules_of_test(dataset: Dataset) -> SplitSettings:
    """The settings, with the least of what the test's users have in both parts."""
    found = {
        "min_warm_training": dataset.activity[dataset.test_users],
        "min_held_out": np.diff(dataset.held_out.indptr),
    }
    least = {
        name: int(counts.min(initial=getattr(dataset.split, name)))
        for name, counts in found.items()
    }
    return dataset.split.model_copy(update=least)


def windows_of(dataset: Dataset, quantiles: Sequence[float]) -> dict[float, Dataset]:
    """The windows at ``quantiles``, each another split.

    Raises:
        UserError: two of them are the same, or one cannot be made.
    """
    made = {quantile: window_of(dataset, quantile) for quantile in quantiles}
    first = _distinct(made)
    if len(first) < len(quantiles):
        given, others = (
            ",".join(f"{quantile:g}" for quantile in each) for each in (quantiles, first)
        )
        why = (
            "a quantile stands there twice. Give" if len(made) < len(quantiles)
            else "too many rows share a moment. Give --protocol random, or"
        )  # fmt: skip
        raise UserError(
            f"{dataset.name}: of the windows {given} some are the same split: {why} "
            f"--windows={others}."
        )
    return made


def possible_windows(
    dataset: Dataset, quantiles: Sequence[float]
) -> tuple[dict[float, Dataset], str]:
    """Those of the windows that can be made and differ, and why there are no others, if so.

    Raises:
        UserError: none can be made.
    """
    made, why = dict[float, Dataset](), list[str]()
    for quantile in quantiles:
        try:
            made[quantile] = window_of(dataset, quantile)
        except UserError as error:
            why.append(str(error))
    if not made:
        raise UserError(why[0])
    kept = _distinct(made)
    why += [
        f"{dataset.name}: too many rows share a moment: the window {quantile:g} is the same as "
        f"another and is left out."
        for quantile in made.keys() - kept.keys()
    ]
    return kept, " ".join(why)


def _distinct(windows: Mapping[float, Dataset]) -> dict[float, Dataset]:
    """The first of those that are the same split."""
    first: dict[str, float] = {}
    for quantile, window in windows.items():
        first.setdefault(replace(window, protocol="").fingerprint, quantile)
    return {quantile: windows[quantile] for quantile in first.values()}
