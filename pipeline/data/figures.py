"""The plots that a person looks at first: ratings, time and its cuts, the long tail."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.dates import date2num

from pipeline.data.dataset import Dataset
from pipeline.data.protocols import StreamedTimes, cut_moment
from pipeline.data.sizes import span
from pipeline.drawing import Drawn, headline, in_style, new_figure

BINS = 80  # of time
DAY = 86_400  # seconds
PARTS = {"training": "train", "after the cut": "later"}  # tables, as they are called
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
    for label, table in PARTS.items():
        counts = _values(dataset, table)
        n_rows = int(counts.sum())
        if not n_rows:
            continue
        share = counts / n_rows
        axes.plot(share.index, share.to_numpy(), marker="o", label=f"{label} ({n_rows:,})")
        shares.append(pd.DataFrame({"part": label, "rating": share.index, "share": share}))
        means.append(f"{(share * share.index).sum():.2f} {label}")
    says = f"Ratings are {', '.join(means)} on average"
    headline(figure, says)
    axes.set(xlabel="rating", ylabel="share of interactions", ylim=(0, None))
    axes.legend()
    return Drawn(figure, pd.concat(shares, ignore_index=True), says)


def _values(dataset: Dataset, table: str) -> pd.Series[int]:
    """How often each rating is there."""
    pieces = dataset.chunks(table, ["rating"])
    counts = pd.concat([piece["rating"].value_counts() for piece in pieces])
    return counts.groupby(level=0).sum()


@in_style
def _time(dataset: Dataset, windows: Sequence[float]) -> Drawn:
    figure, axes = new_figure()
    tables = ["train", *(["superseded"] if dataset.has_superseded else [])]
    moments = StreamedTimes(
        lambda: (
            rows["timestamp"].to_numpy()
            for table in tables
            for rows in dataset.chunks(table, ["timestamp"])
        )
    )
    last = moments.at(len(moments) - 1)
    counts, edges = _over_time(dataset)
    axes.hist(
        [edges[:-1]] * 2, bins=edges.tolist(), weights=list(counts), stacked=True, label=list(PARTS)
    )
    axes.axvline(_day(last), color="black", label="end of training")
    for quantile in windows if dataset.split.protocol == "time" else ():
        cut = cut_moment(moments, quantile)
        axes.axvline(
            _day(cut), color="grey", linestyle=":", label=f"validation window {quantile:g}"
        )
    axes.xaxis_date()
    end = pd.Timestamp(last, unit="s")
    n_train, n_later = counts.sum(axis=1)
    says = f"Training ends on {end:%Y-%m-%d}, with {n_later:,} interactions to come"
    if dataset.split.protocol != "time":
        says = f"{n_train:,} interactions train, {n_later:,} are held out"
    headline(figure, says)
    axes.set(ylabel="interactions", yscale="log")
    axes.legend()
    figure.autofmt_xdate()
    days = pd.to_datetime(edges[:-1], unit="D")  # since 1970, as matplotlib counts
    data = {"from": days, "training": counts[0], "after the cut": counts[1]}
    return Drawn(figure, pd.DataFrame(data), says)


def _over_time(dataset: Dataset) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Interactions of both parts in each of ``BINS`` spans, [2, BINS], and the ends of these in
    days since 1970, [BINS + 1]."""
    ends = [span(dataset, table) for table in PARTS.values()]
    reach = [moment / DAY for both in ends if both is not None for moment in both]
    edges = np.histogram_bin_edges(np.array(reach), BINS)
    counts = np.zeros((len(PARTS), BINS), np.int64)
    for place, table in enumerate(PARTS.values()):
        for rows in dataset.chunks(table, ["timestamp"]):
            counts[place] += np.histogram(rows["timestamp"].to_numpy() / DAY, edges)[0]
    return counts, edges


@in_style
def _long_tail(dataset: Dataset) -> Drawn:
    figure, axes = new_figure()
    tables = []
    for label, of_each in (("items", dataset.popularity), ("users", dataset.activity)):
        counts = np.sort(of_each)[::-1]
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
