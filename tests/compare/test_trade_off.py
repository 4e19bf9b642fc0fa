"""The trade-off of accuracy and coverage: who is on the front, and that names can be read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.compare.trade_off import _spread, pareto_front, trade_off
from tests.compare.test_figures import boxes, names_of, overlaps


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [1, 2, 11, 25])
def test_names_beside_the_trade_off_do_not_overlap(n: int) -> None:
    """Even where all points but one coincide."""
    accuracy, coverage = np.full(n, 0.3256), np.full(n, 0.0369)
    accuracy[0], coverage[0] = 0.36, 0.09
    drawn = trade_off(names_of(n), accuracy, coverage, "ndcg_at_10", n - 1)
    found = boxes(drawn.figure, names_of(n))
    assert len(found) == n
    assert overlaps(found) == 0


def test_a_model_far_below_is_told_instead_of_drawn() -> None:
    accuracy, coverage = np.array([0.36, 0.33, 0.02]), np.array([0.09, 0.04, 1.0])
    drawn = trade_off(["svd", "most_popular", "random"], accuracy, coverage, "ndcg_at_10", 0)
    (axes,) = drawn.figure.axes
    assert axes.get_ylim()[0] > 0.3
    assert axes.get_xlim()[1] < 0.2
    assert "random: 0.0200 at coverage 1.0000" in drawn.figure.get_supxlabel()
    assert drawn.says == "Nothing beats random and svd on both accuracy and coverage"
    assert drawn.data["experiment"].tolist() == ["svd", "most_popular", "random"]


def test_the_front_holds_what_nothing_beats() -> None:
    accuracy = np.array([0.4, 0.3, 0.3, 0.2, 0.4])
    coverage = np.array([0.1, 0.2, 0.1, 0.3, 0.1])
    assert pareto_front(accuracy, coverage).tolist() == [True, True, False, True, True]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_a_point_is_off_the_front_if_and_only_if_another_beats_it(
    points: list[tuple[int, int]],
) -> None:
    one, other = np.array(points, np.float64).T
    front = pareto_front(one, other)
    for (x, y), best in zip(points, front, strict=True):
        beaten = any(a >= x and b >= y and (a, b) != (x, y) for a, b in points)
        assert best == (not beaten)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=25))
def test_labels_are_spread_in_order_and_inside(wanted: list[float]) -> None:
    height = min(0.06, 1 / len(wanted))
    places = _spread(np.sort(wanted), height)
    assert (np.diff(places) >= height - 1e-9).all()
    assert places[0] >= 0
    assert places[-1] <= 1 + 1e-9


def test_labels_with_room_stay_where_their_points_are() -> None:
    assert _spread(np.array([0.1, 0.5, 0.8]), 0.05) == pytest.approx([0.1, 0.5, 0.8])
