"""The plots that a person looks at first: ratings, time and its cuts, the long tail."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.dates import date2num

from pipeline.data.dataset import Dataset
from pipeline.data.protocols import Times, cut_moment
from pipeline.drawing import Drawn, headline, in_style, new_figure

BINS = 80  # of time
HEAD = 0.1  # the share of items that are called the most popular


def dataset_figures(dataset: Dataset, windows: Sequence[float]) -> dict[str, Drawn]:
    """Figures by file name; ``windows`` are quantiles of the training part to mark."""
    return {
        "ratings.png": _ratings(dataset),
        "time.png": _time(dataset, windows),
        "long_tail.png": _long_tail(dataset),
    }


@in_style
def _ratings(dataset: Dataset) -> Drawn:
    figure, axes = new_figure()
    shares, means = [], []
    for label, rows in (("training", dataset.train), ("after the cut", dataset.later)):
        counts = rows["rating"].value_counts(normalize=True).sort_index()
        axes.plot(counts.index, counts.to_numpy(), marker="o", label=f"{label} ({len(rows):,})")
        shares.append(pd.DataFrame({"part": label, "rating": counts.index, "share": counts}))
        means += [f"{rows['rating'].mean():.2f} {label}"] if len(rows) else []
    says = f"Ratings are {', '.join(means)} on average" if means else "No ratings"
    headline(figure, says)
    axes.set(xlabel="rating", ylabel="share of interactions", ylim=(0, None))
    axes.legend()
    return Drawn(figure, pd.concat(shares, ignore_index=True), says)


@in_style
def _time(dataset: Dataset, windows: Sequence[float]) -> Drawn:
    figure, axes = new_figure()
    moments = dataset.train_rows["timestamp"].to_numpy()
    times = [pd.to_datetime(rows["timestamp"], unit="s") for rows in (dataset.train, dataset.later)]
    counts, edges, _ = axes.hist(
        times, bins=BINS, stacked=True, label=["training", "after the cut"]
    )
    axes.axvline(_day(int(moments.max())), color="black", label="end of training")
    for quantile in windows if dataset.split.protocol == "time" else ():
        cut = cut_moment(Times(moments), quantile)
        axes.axvline(
            _day(cut), color="grey", linestyle=":", label=f"validation window {quantile:g}"
        )
    end = pd.Timestamp(int(moments.max()), unit="s")
    says = f"Training ends on {end:%Y-%m-%d}, with {len(dataset.later):,} interactions to come"
    if dataset.split.protocol != "time":
        says = f"{len(dataset.train):,} interactions train, {len(dataset.later):,} are held out"
    headline(figure, says)
    axes.set(ylabel="interactions", yscale="log")
    axes.legend()
    figure.autofmt_xdate()
    below, all_of_them = (np.asarray(each, np.int64) for each in counts)
    begins = pd.to_datetime(edges[:-1], unit="D")  # since 1970, as matplotlib counts
    data = {"from": begins, "training": below, "after the cut": all_of_them - below}
    return Drawn(figure, pd.DataFrame(data), says)


@in_style
def _long_tail(dataset: Dataset) -> Drawn:
    figure, axes = new_figure()
    tables = []
    for label, column in (("items", "item"), ("users", "user")):
        counts = np.sort(np.bincount(dataset.train[column]))[::-1]
        ranks = np.arange(1, len(counts) + 1)
        axes.loglog(ranks, counts, label=f"{len(counts):,} {label}")
        tables.append(pd.DataFrame({"of": label, "rank": ranks, "interactions": counts}))
    items = tables[0]["interactions"].to_numpy()
    share = items[: max(1, round(HEAD * len(items)))].sum() / items.sum()
    says = f"The most popular {HEAD:.0%} of items have {share:.0%} of the training interactions"
    headline(figure, says)
    axes.set(xlabel="rank by number of interactions", ylabel="interactions")
    axes.legend()
    return Drawn(figure, pd.concat(tables, ignore_index=True), says)


def _day(timestamp: int) -> float:
    return float(date2num(pd.Timestamp(timestamp, unit="s")))  # type: ignore[no-untyped-call]
