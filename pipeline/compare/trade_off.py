"""Accuracy against coverage, and the models that no other beats on both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.compare.figures import ROW_INCHES, Floats, room
from pipeline.drawing import BEST, FAINT, ORANGE, PLAIN, Drawn, headline, in_style, new_figure


@in_style
def trade_off(
    names: Sequence[str], accuracy: Floats, coverage: Floats, metric: str, baseline: int
) -> Drawn:
    """Accuracy against coverage, both [n]; models that no other beats on both are the front.

    Names stand in a column beside the plot, so that they can be read where points coincide.
    Models with less than half of the best accuracy are told below, not drawn: they would press
    the others together. The baseline, by its place, has a ring.
    """
    drawn = np.flatnonzero(accuracy >= accuracy.max() / 2)
    drawn = drawn[np.argsort(accuracy[drawn], kind="stable")]
    figure, axes = new_figure(7 + room(names), max(4.5, 0.8 + ROW_INCHES * len(drawn)))
    best = pareto_front(accuracy, coverage)
    colours = np.where(best[drawn], BEST, PLAIN).tolist()
    axes.scatter(coverage[drawn], accuracy[drawn], c=colours, s=50, zorder=3)
    axes.margins(0.06)
    limits = axes.axis()
    if baseline in drawn:
        ring = coverage[baseline], accuracy[baseline]
        axes.scatter(*ring, s=160, facecolors="none", edgecolors=ORANGE, linewidths=2, zorder=4)
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
            color=ORANGE if index == baseline else BEST if best[index] else "black",
            fontsize=9,
            arrowprops={
                "arrowstyle": "-", "color": FAINT, "linewidth": 0.7, "shrinkB": 4,
                "relpos": (0, 0.5),
            },
            zorder=2,
        )  # fmt: skip
    says = _of_front([names[i] for i in front[::-1]], len(names))
    headline(figure, says)
    axes.set(
        xlabel="coverage: share of the catalogue that is recommended\n"
        "(blue: nothing beats it on both; ring: the baseline)",
        ylabel=metric,
    )
    below = np.flatnonzero(accuracy < accuracy.max() / 2).tolist()
    if below:
        told = [f"{names[i]}: {accuracy[i]:.4f} at coverage {coverage[i]:.4f}" for i in below]
        figure.supxlabel("\n".join(["Below the plot:", *told]), fontsize=9)
    data = {"experiment": names, metric: accuracy, "coverage": coverage, "on_front": best}
    return Drawn(figure, pd.DataFrame(data), says)


def pareto_front(one: Floats, other: Floats) -> npt.NDArray[np.bool_]:
    """Which points, [n], no other point equals or exceeds on both and exceeds on one."""
    reaches = (one[:, None] >= one) & (other[:, None] >= other)
    exceeds = (one[:, None] > one) | (other[:, None] > other)
    return np.asarray(~(reaches & exceeds).any(axis=0))


def _of_front(front: Sequence[str], n: int) -> str:
    """What the Pareto front says; its models from the broadest on."""
    if n == 1:
        return "One model: nothing to weigh it against"
    if len(front) == 1:
        return f"{front[0]} is best on both accuracy and coverage"
    if len(front) > 3:
        return f"{len(front)} of {n} models are beaten by nothing on both accuracy and coverage"
    told = f"{', '.join(front[:-1])} and {front[-1]}"
    return f"Nothing beats {told} on both accuracy and coverage"


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
