"""What a comparison looks like: trade-off, differences with intervals, every metric, users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

BEST, PLAIN, FAINT = "tab:blue", "0.55", "0.8"
WORSE = "tab:red"
ROW_INCHES, LETTER_INCHES = 0.26, 0.08  # of a name beside its bar
PANELS = 5  # metrics in a row of bars


def trade_off(names: Sequence[str], accuracy: Floats, coverage: Floats, metric: str) -> Figure:
    """Accuracy against coverage, both [n]; models that no other beats on both are the front.

    Names stand in a column beside the plot, so that they can be read where points coincide.
    Models with less than half of the best accuracy are listed below, not drawn: they would press
    the others together.
    """
    drawn = np.flatnonzero(accuracy >= accuracy.max() / 2)
    drawn = drawn[np.argsort(accuracy[drawn], kind="stable")]
    figure, axes = _figure(7 + _room(names), max(4.5, 0.8 + ROW_INCHES * len(drawn)))
    best = pareto_front(accuracy, coverage)
    colours = np.where(best[drawn], BEST, PLAIN).tolist()
    axes.scatter(coverage[drawn], accuracy[drawn], c=colours, s=40, zorder=3)
    axes.margins(0.06)
    limits = axes.axis()
    front = np.flatnonzero(best)[np.argsort(coverage[best])]
    axes.step(coverage[front], accuracy[front], where="pre", color=BEST, linewidth=1, zorder=1)
    axes.axis(limits)
    low, high = axes.get_ylim()
    places = _spread((accuracy[drawn] - low) / (high - low), min(0.06, 1 / len(drawn)))
    for index, place in zip(drawn.tolist(), places, strict=True):
        axes.annotate(
            names[index],
            (coverage[index], accuracy[index]),
            xytext=(1.04, place),
            textcoords="axes fraction",
            va="center",
            color=BEST if best[index] else "black",
            fontsize=9,
            arrowprops={
                "arrowstyle": "-", "color": FAINT, "linewidth": 0.7, "shrinkB": 4,
                "relpos": (0, 0.5),
            },
            zorder=2,
        )  # fmt: skip
    axes.set_title("Accuracy against coverage (blue: the Pareto front)")
    axes.set(xlabel="coverage: share of the catalogue that is recommended", ylabel=metric)
    below = np.flatnonzero(accuracy < accuracy.max() / 2).tolist()
    if below:
        lines = [f"{names[i]}: {accuracy[i]:.4f} at coverage {coverage[i]:.4f}" for i in below]
        figure.supxlabel("\n".join(["Below the plot:", *lines]), fontsize=9)
    return figure


def pareto_front(one: Floats, other: Floats) -> npt.NDArray[np.bool_]:
    """Which points, [n], no other point equals or exceeds on both and exceeds on one."""
    reaches = (one[:, None] >= one) & (other[:, None] >= other)
    exceeds = (one[:, None] > one) | (other[:, None] > other)
    return np.asarray(~(reaches & exceeds).any(axis=0))


def forest(
    names: Sequence[str],
    difference: Floats,
    low: Floats,
    high: Floats,
    significant: npt.NDArray[np.bool_],
    *,
    baseline: str,
    metric: str,
) -> Figure:
    """Differences to the baseline, [n], in the order given from the top, with their intervals."""
    figure, axes = _figure(6.5 + _room(names), 1.4 + ROW_INCHES * len(names))
    rows = np.arange(len(names))
    colours = np.where(significant, np.where(difference < 0, WORSE, BEST), PLAIN)
    axes.hlines(rows, low, high, colors=list(colours), linewidth=2)
    axes.scatter(difference, rows, c=list(colours), s=30, zorder=3)
    axes.axvline(0, color="black", linewidth=1)
    _name_rows(axes, names)
    axes.set(xlabel=f"difference in {metric}, with 95 % interval over users (grey: could be none)")
    axes.set_title(f"Compared with {baseline}")
    axes.grid(axis="x", color=FAINT, linewidth=0.5)
    return figure


def bars(names: Sequence[str], metrics: Mapping[str, tuple[Floats, Floats, Floats]]) -> Figure:
    """A panel per metric: its mean, low and high end of the interval, each [n].

    Ends that are NaN are not drawn.
    """
    n_rows = -(-len(metrics) // PANELS)
    figure = Figure(
        figsize=(13 + _room(names), n_rows * (1 + ROW_INCHES * len(names))), layout="constrained"
    )
    panels = figure.subplots(n_rows, min(PANELS, len(metrics)), sharey=True, squeeze=False).flat
    # Metrics first: where they end, zip has taken no panel yet, and the rest can go.
    for (metric, (mean, low, high)), axes in zip(metrics.items(), panels, strict=False):
        rows = np.arange(len(names))
        axes.barh(rows, mean, color=BEST, alpha=0.6, height=0.7)
        axes.hlines(rows, low, high, colors="black", linewidth=1.2)
        axes.set_title(metric.replace("_", " "), fontsize=10)
        axes.tick_params(axis="x", labelsize=8)
        axes.locator_params(axis="x", nbins=4)
        _name_rows(axes, names)
        axes.tick_params(labelleft=axes.get_subplotspec().is_first_col())
    for axes in list(panels):
        axes.remove()
    return figure


def user_differences(difference: Floats, one: str, other: str, metric: str) -> Figure:
    """How far apart two models are for each user: ``difference`` is [users], one minus other."""
    figure, axes = _figure(8, 4.5)
    reach = max(float(np.abs(difference).max()), 1e-3)
    # An odd number of bins, so that the middle one holds the users without a difference.
    axes.hist(difference, bins=np.linspace(-reach, reach, 42).tolist(), color=BEST, alpha=0.6)
    axes.axvline(0, color="black", linewidth=1)
    mean = float(difference.mean())
    axes.axvline(mean, color=WORSE, linestyle="--", label=f"mean {mean:+.4f}")
    better, worse = (difference > 0).mean(), (difference < 0).mean()
    axes.set_title(
        f"{one} minus {other}, per user\n"
        f"{better:.0%} of users have more with {one}, {worse:.0%} less, "
        f"{1 - better - worse:.0%} the same",
        fontsize=10,
    )
    axes.set(xlabel=f"difference in {metric}", ylabel="users")
    axes.legend()
    return figure


def over_time(
    names: Sequence[str],
    cuts: Sequence[str],
    mean: Floats,
    low: Floats,
    high: Floats,
    *,
    metric: str,
) -> Figure:
    """A line per model over cuts in time, with the intervals at each cut; all are [n, cuts].

    Models stand beside each other at a cut, so that no interval hides another.
    """
    figure, axes = _figure(7 + _room(names), max(4.5, 1.4 + ROW_INCHES * len(names)))
    places = np.arange(len(cuts))
    beside = np.linspace(-0.25, 0.25, len(names)) if len(names) > 1 else np.zeros(1)
    colours = colormaps["turbo"](np.linspace(0.05, 0.9, len(names)))
    for i, name in enumerate(names):
        axes.errorbar(
            places + beside[i],
            mean[i],
            yerr=np.stack([mean[i] - low[i], high[i] - mean[i]]),
            color=colours[i],
            label=name,
            marker="o",
            markersize=4,
            linewidth=1,
            capsize=2,
        )
    axes.set_xticks(places, cuts)
    axes.set_title("The same settings, refitted at each cut")
    axes.set(xlabel="cut: the share of all interactions that trains", ylabel=metric)
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    return figure


def _spread(wanted: Floats, height: float) -> Floats:
    """Places in [0, 1] at least ``height`` apart, near those ``wanted`` in ascending order."""
    rooms = height * np.arange(len(wanted))
    # What is left of each place without the room that those below need must not descend.
    free = np.clip(wanted - rooms, 0.0, max(0.0, 1 - rooms[-1]))
    blocks: list[list[float]] = []
    for value in free.tolist():
        blocks.append([value])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    levelled = np.concatenate([np.full(len(block), np.mean(block)) for block in blocks])
    return np.asarray(levelled + rooms)


def _room(names: Sequence[str]) -> float:
    """Inches that the longest name takes."""
    return LETTER_INCHES * max(map(len, names))


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.4, -0.6)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()
