"""What a comparison looks like: differences with intervals, every metric, users, cuts in time.

Each title says what is found; each figure comes with the numbers that it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from pipeline.drawing import (
    BEST,
    COLOURS,
    MARKERS,
    ORANGE,
    PLAIN,
    WORSE,
    Drawn,
    headline,
    in_style,
    new_figure,
    new_panels,
)

Floats = npt.NDArray[np.float64]

ROW_INCHES, LETTER_INCHES = 0.26, 0.08  # of a name beside its bar
PANELS = 4  # metrics in a row of bars
FAR = 4.0  # times as far from nothing as the others typically are: an outlier is cut off there


@in_style
def forest(
    names: Sequence[str],
    difference: Floats,
    low: Floats,
    high: Floats,
    significant: npt.NDArray[np.bool_],
    *,
    baseline: str,
    metric: str,
) -> Drawn:
    """Differences to the baseline, [n], in the order given from the top, with their intervals.

    What lies far outside stands at the edge with its number, so that the rest can be distinguished.
    """
    figure, axes = new_figure(6.5 + room(names), 1.6 + ROW_INCHES * len(names))
    rows = np.arange(len(names))
    colours = np.where(significant, np.where(difference < 0, WORSE, BEST), PLAIN)
    edge = _edge(difference, low, high)
    far = np.abs(difference) > edge
    near = np.flatnonzero(~far)
    axes.hlines(rows[near], low[near], high[near], colors=list(colours[near]), linewidth=2)
    axes.scatter(difference[near], rows[near], c=list(colours[near]), s=36, zorder=3)
    axes.axvline(0, color="black", linewidth=1)
    reach = 1.08 * edge
    for row in np.flatnonzero(far).tolist():
        side = np.sign(difference[row])
        text = f"{difference[row]:+.3f}, beyond this scale"
        axes.scatter(side * reach, row, c=[str(colours[row])], marker="<" if side < 0 else ">")
        axes.annotate(
            text, (side * reach, row), xytext=(-8 * side, 0), textcoords="offset points",
            ha="left" if side < 0 else "right", va="center", fontsize=8, color=str(colours[row]),
        )  # fmt: skip
    if far.any():
        axes.set_xlim(*_limits(low[near], high[near], difference[far], reach))
    _name_rows(axes, names)
    axes.set(
        xlabel=f"difference in {metric} to {baseline}\n"
        f"with 95 % interval over users (grey: could be none)"
    )
    better, worse = (int((significant & side).sum()) for side in (difference > 0, difference < 0))
    says = _of_differences(better, worse, len(names), baseline)
    headline(figure, says)
    data = {"experiment": names, "difference": difference, "low": low, "high": high}
    return Drawn(figure, pd.DataFrame({**data, "significant": significant}), says)


@in_style
def bars(
    names: Sequence[str], metrics: Mapping[str, tuple[Floats, Floats, Floats]], baseline: int
) -> Drawn:
    """A panel per metric: its mean, low and high end of the interval, each [n].

    Ends that are NaN are not drawn. The first row of a metric is the best model, blue; the
    baseline, by its place, is orange.
    """
    columns = min(PANELS, len(metrics))
    n_rows = -(-len(metrics) // PANELS)
    height = 0.6 + n_rows * (1 + ROW_INCHES * len(names))
    figure, panels = new_panels(2.6 * columns + room(names), height, n_rows, columns)
    colours = [BEST, *[ORANGE if i == baseline else PLAIN for i in range(1, len(names))]]
    lines = []
    for place, (metric, (mean, low, high)) in enumerate(metrics.items()):
        axes, rows = panels[place], np.arange(len(names))
        axes.barh(rows, mean, color=colours, alpha=0.7, height=0.7)
        axes.hlines(rows, low, high, colors="black", linewidth=1.2)
        axes.set_title(metric.replace("_", " "), fontsize=10)
        axes.tick_params(axis="x", labelsize=8)
        axes.locator_params(axis="x", nbins=4)
        _name_rows(axes, names)
        axes.grid(axis="y", visible=False)
        axes.tick_params(labelleft=axes.get_subplotspec().is_first_col())  # type: ignore[union-attr]
        of_metric = {"experiment": names, "metric": metric, "mean": mean, "low": low, "high": high}
        lines.append(pd.DataFrame(of_metric))
    for axes in panels[len(metrics) :]:
        axes.remove()
    first = next(iter(metrics))
    says = f"{names[0]} has the most {first}, {metrics[first][0][0]:.4f}"
    says += "" if baseline == 0 else f" (blue); the baseline, {names[baseline]}, is orange"
    headline(figure, says)
    return Drawn(figure, pd.concat(lines, ignore_index=True), says)


@in_style
def user_differences(difference: Floats, one: str, other: str, metric: str) -> Drawn:
    """How far apart two models are for each user: ``difference`` is [users], one minus other."""
    figure, axes = new_figure()
    reach = max(float(np.abs(difference).max()), 1e-3)
    # An odd number of bins, so that the middle one holds the users without a difference.
    edges = np.linspace(-reach, reach, 42)
    counts, _, patches = axes.hist(difference, bins=edges.tolist(), color=BEST, alpha=0.7)
    for place, patch in enumerate(patches):  # type: ignore[arg-type]
        patch.set_facecolor(WORSE if place < 20 else PLAIN if place == 20 else BEST)
    axes.axvline(0, color="black", linewidth=1)
    mean = float(difference.mean())
    axes.axvline(mean, color="black", linestyle="--", label=f"mean {mean:+.4f}")
    better, worse = (difference > 0).mean(), (difference < 0).mean()
    same = 1 - better - worse
    says = f"{better:.0%} of users have more with {one}, {worse:.0%} less, {same:.0%} the same"
    says = f"{one} against {other}: {says}"
    headline(figure, says)
    axes.set(xlabel=f"difference in {metric} of a user, {one} minus {other}")
    axes.set(ylabel="users")
    axes.legend()
    data = {"from": edges[:-1], "to": edges[1:], "users": np.asarray(counts, np.int64)}
    return Drawn(figure, pd.DataFrame(data), says)


@in_style
def over_time(
    names: Sequence[str],
    cuts: Sequence[str],
    mean: Floats,
    low: Floats,
    high: Floats,
    *,
    metric: str,
    baseline: int,
) -> Drawn:
    """A line per model over cuts in time, with the intervals at each cut; all are [n, cuts].

    Models stand beside each other at a cut, so that no interval hides another. The first, the best
    on average, has a thick line; the baseline, by its place, is called so.
    """
    figure, axes = new_figure(7 + room(names), max(4.5, 1.4 + ROW_INCHES * len(names)))
    places = np.arange(len(cuts))
    beside = np.linspace(-0.25, 0.25, len(names)) if len(names) > 1 else np.zeros(1)
    for i, name in enumerate(names):
        again = i // len(COLOURS)
        axes.errorbar(
            places + beside[i],
            mean[i],
            yerr=np.stack([mean[i] - low[i], high[i] - mean[i]]),
            color=COLOURS[i % len(COLOURS)],
            label=f"{name} (baseline)" if i == baseline else name,
            marker=MARKERS[(i + again) % len(MARKERS)],
            markersize=5,
            linestyle="-" if not again else "--",
            linewidth=1 if i else 2.5,
            elinewidth=1,
            capsize=2,
        )
    axes.set_xticks(places, cuts)
    ahead = int((mean.argmax(axis=0) == 0).sum())
    says = f"{names[0]}, best on average, is ahead at {ahead} of {len(cuts)} cuts"
    headline(figure, says)
    axes.set(xlabel="cut: the share of all interactions that trains", ylabel=metric)
    axes.grid(axis="x", visible=False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    index = pd.MultiIndex.from_product([names, [c.split("\n")[0] for c in cuts]])
    data = pd.DataFrame({"mean": mean.ravel(), "low": low.ravel(), "high": high.ravel()}, index)
    return Drawn(figure, data.rename_axis(["experiment", "cut"]).reset_index(), says)


def _of_differences(better: int, worse: int, n: int, baseline: str) -> str:
    equal = n - better - worse
    parts = [(better, "better"), (worse, "worse"), (equal, "not distinguishable")]
    counts = ", ".join(f"{count} {word}" for count, word in parts if count)
    return f"Of {n}, compared with {baseline}: {counts}"


def _edge(difference: Floats, low: Floats, high: Floats) -> float:
    """How far from nothing differences are drawn; those beyond are outliers."""
    reach = np.maximum(np.abs(low), np.abs(high))
    typical = FAR * float(np.median(reach))
    inside = np.abs(difference) <= typical
    return float(reach[inside].max()) if inside.any() else float(reach.max())


def _limits(low: Floats, high: Floats, far: Floats, reach: float) -> tuple[float, float]:
    """The ends of an axis on which what is ``far`` has its place at the edge."""
    margin = 0.06 * reach
    left = -reach if (far < 0).any() else min(float(low.min()), 0.0)
    right = reach if (far > 0).any() else max(float(high.max()), 0.0)
    return left - margin, right + margin


def room(names: Sequence[str]) -> float:
    """Inches that the longest name takes."""
    return LETTER_INCHES * max(map(len, names))


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.4, -0.6)
