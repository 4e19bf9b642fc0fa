"""Figures of comparisons: what is drawn, and that it can be read."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from pipeline.compare.figures import bars, forest, over_time, user_differences
from pipeline.drawing import BEST, ORANGE

METRICS = ("ndcg_at_10", "hit_rate_at_10", "coverage_at_10")


def boxes(figure: Figure, names: list[str]) -> list[Bbox]:
    """Where the texts ``names`` stand, once drawn."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [text for text in figure.findobj(Text) if text.get_text() in names]
    renderer = canvas.get_renderer()
    shown = [text for text in texts if text.get_visible()]
    found = [Text.get_window_extent(text, renderer) for text in shown]  # without its line
    width, height = canvas.get_width_height()
    assert all(box.x0 >= 0 and box.x1 <= width for box in found)
    assert all(box.y0 >= 0 and box.y1 <= height for box in found)
    return found


def overlaps(found: list[Bbox]) -> int:
    return sum(one.overlaps(other) for i, one in enumerate(found) for other in found[:i])


def names_of(n: int) -> list[str]:
    settings = "embedding_dim=16, learning_rate=0.0001, layers=64,32,16"
    return [f"experiment_{i} {settings}, dropout=0.{i}" for i in range(n)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [1, 2, 25])
def test_names_beside_bars_and_differences_do_not_overlap(n: int) -> None:
    names, values = names_of(n), np.linspace(0.4, 0.3, n)
    nothing = np.full(n, np.nan)
    metrics = dict.fromkeys(METRICS, (values, nothing, nothing))
    assert overlaps(boxes(bars(names, metrics, n - 1).figure, names)) == 0
    grey = np.zeros(n, np.bool_)
    drawn = forest(names, -values, values, values, grey, baseline="svd", metric="ndcg_at_10")
    found = boxes(drawn.figure, names)
    assert len(found) == n
    assert overlaps(found) == 0


def test_the_forest_colours_what_is_significant() -> None:
    difference = np.array([-0.05, 0.04, -0.001])
    drawn = forest(
        ["worse", "better", "same"],
        difference,
        difference - 0.01,
        difference + 0.01,
        np.array([True, True, False]),
        baseline="svd",
        metric="ndcg_at_10",
    )
    (axes,) = drawn.figure.axes
    colours = axes.collections[1].get_facecolors()
    assert len({tuple(colour) for colour in colours}) == 3
    said = "Of 3, compared with svd: 1 better, 1 worse, 1 not distinguishable"
    assert drawn.figure.get_suptitle() == said == drawn.says
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first on top


def test_an_outlier_does_not_press_the_others_together() -> None:
    difference = np.array([-0.005, -0.012, 0.004, -0.35])
    low, high = difference - 0.006, difference + 0.006
    significant = np.abs(difference) > 0.01
    names = ["one", "two", "three", "random"]
    drawn = forest(names, difference, low, high, significant, baseline="svd", metric="map_at_10")
    (axes,) = drawn.figure.axes
    left, right = axes.get_xlim()
    assert -0.05 < left < -0.018
    assert 0.0 < right < 0.05
    (told,) = axes.texts
    assert told.get_text() == "-0.350, beyond this scale"
    assert len(boxes(drawn.figure, [told.get_text()])) == 1
    assert drawn.data["difference"].tolist() == difference.tolist()


def test_the_best_and_the_baseline_have_colours_of_their_own() -> None:
    values = np.array([0.4, 0.3, 0.2])
    drawn = bars(["one", "two", "three"], {"ndcg_at_10": (values, values, values)}, 1)
    colours = [to_hex(patch.get_facecolor()) for patch in drawn.figure.axes[0].patches]
    assert colours[:2] == [BEST.lower(), ORANGE.lower()]
    assert colours[2] not in colours[:2]
    assert "one has the most ndcg_at_10, 0.4000 (blue); the baseline, two" in drawn.says


def test_bars_have_a_panel_per_metric() -> None:
    values = np.array([0.3, 0.2])
    metrics = {f"{name}_{i}": (values, values, values) for i in range(4) for name in METRICS[:2]}
    figure = bars(["one", "two"], metrics, 0).figure
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        name.replace("_", " ") for name in metrics
    ]


def test_user_differences_tell_shares() -> None:
    drawn = user_differences(np.array([0.5, 0.5, -0.5, 0.0]), "svd", "ease", "ndcg_at_10")
    (axes,) = drawn.figure.axes
    said = "50% of users have more with svd, 25% less, 25% the same"
    assert drawn.says == drawn.figure.get_suptitle() == f"svd against ease: {said}"
    assert sum(patch.get_height() for patch in axes.patches) == drawn.data["users"].sum() == 4
    assert user_differences(np.zeros(3), "a", "b", "ndcg_at_10").figure.axes  # no difference


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [1, 4, 14])
def test_models_over_time_can_all_be_read(n: int) -> None:
    names, mean = names_of(n), np.linspace(0.3, 0.4, 3 * n).reshape(n, 3)
    drawn = over_time(
        names, ["0.8", "0.85", "0.9"], mean, mean - 0.02, mean + 0.03, metric="ndcg_at_10",
        baseline=n - 1,
    )  # fmt: skip
    found = boxes(drawn.figure, [*names[:-1], f"{names[-1]} (baseline)"])
    assert len(found) == n
    assert overlaps(found) == 0
    (axes,) = drawn.figure.axes
    assert len(axes.containers) == n
    looks = {(bar[0].get_color(), bar[0].get_marker()) for bar in axes.containers}
    assert len(looks) == n  # in print, colours alone do not do
    assert len(drawn.data) == 3 * n
    # The bars of a cut stand beside each other.
    starts = {line.get_path().vertices[0, 0] for line in axes.lines if line.get_linewidth() >= 1}
    assert len(starts) == n
