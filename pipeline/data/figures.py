"""The plots that a person looks at first: ratings, time and its cuts, the long tail."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.figure import Figure

from pipeline.data.dataset import Dataset
from pipeline.data.protocols import cut_moment


def dataset_figures(dataset: Dataset, windows: Sequence[float]) -> dict[str, Figure]:
    """Figures by file name; ``windows`` are quantiles of the training part to mark."""
    return {
        "ratings.png": _ratings(dataset),
        "time.png": _time(dataset, windows),
        "long_tail.png": _long_tail(dataset),
    }


def _ratings(dataset: Dataset) -> Figure:
    figure, axes = _figure("Ratings")
    for label, rows in (("training", dataset.train), ("after the cut", dataset.later)):
        counts = rows["rating"].value_counts(normalize=True).sort_index()
        axes.plot(counts.index, counts.to_numpy(), marker="o", label=f"{label} ({len(rows):,})")
    axes.set(xlabel="rating", ylabel="share of interactions", ylim=(0, None))
    axes.legend()
    return figure


def _time(dataset: Dataset, windows: Sequence[float]) -> Figure:
    figure, axes = _figure("Interactions over time")
    moments = dataset.train_rows["timestamp"].to_numpy()
    times = [pd.to_datetime(rows["timestamp"], unit="s") for rows in (dataset.train, dataset.later)]
    axes.hist(times, bins=80, stacked=True, label=["training", "after the cut"])
    axes.axvline(_day(int(moments.max())), color="black", label="end of training")
    for quantile in windows if dataset.split.protocol == "time" else ():
        cut = cut_moment(moments, quantile)
        axes.axvline(
            _day(cut), color="grey", linestyle=":", label=f"validation window {quantile:g}"
        )
    axes.set(ylabel="interactions", yscale="log")
    axes.legend()
    figure.autofmt_xdate()
    return figure


def _long_tail(dataset: Dataset) -> Figure:
    figure, axes = _figure("Long tail in training")
    for label, column in (("items", "item"), ("users", "user")):
        counts = np.sort(np.bincount(dataset.train[column]))[::-1]
        axes.loglog(np.arange(1, len(counts) + 1), counts, label=f"{len(counts):,} {label}")
    axes.set(xlabel="rank by number of interactions", ylabel="interactions")
    axes.legend()
    return figure


def _day(timestamp: int) -> float:
    return float(date2num(pd.Timestamp(timestamp, unit="s")))  # type: ignore[no-untyped-call]


def _figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    return figure, axes
