"""Search spaces as they stand in files, and the values that are spread over them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.models import FAMILIES, family
from pipeline.space import Choice, Range, Space, read_space, short, spread

NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)


@st.composite
def ranges(draw: st.DrawFn, step: bool = False) -> Range:
    if step:
        low, width = draw(st.floats(-100, 100)), draw(st.floats(1e-3, 10))
        return Range(low=low, high=low + width * draw(st.floats(0.5, 50)), step=width)
    log = draw(st.booleans())
    numbers = st.floats(1e-9, 1e6) if log else NUMBERS
    low, high = sorted(draw(st.lists(numbers, min_size=2, max_size=2, unique=True)))
    return Range(low=low, high=high, log=log)


def read(text: str) -> Space:
    return read_space(yaml.safe_load(text), "study.yaml: space")


def message(text: str) -> str:
    with pytest.raises(UserError) as caught:
        read(text)
    return str(caught.value)


def test_a_list_is_a_choice_and_a_mapping_a_range() -> None:
    assert read(
        """
        loss: [bpr, bce]
        learning_rate: {low: 1.0e-6, high: 1.0e-3, log: true}
        embedding_dim: {low: 8, high: 64, step: 8}
        patience: {choices: [null, 5]}
        """
    ) == {
        "loss": Choice(choices=("bpr", "bce")),
        "learning_rate": Range(low=1e-6, high=1e-3, log=True),
        "embedding_dim": Range(low=8, high=64, step=8),
        "patience": Choice(choices=(None, 5)),
    }


def test_a_list_among_choices_becomes_the_word_that_a_flag_would_be() -> None:
    found = read("layers: [[16, 8], [], '64,32,16']")
    assert found == {"layers": Choice(choices=("16,8", "none", "64,32,16"))}


@pytest.mark.parametrize("value", [True, 1, 1.0, "1", None])
def test_choices_keep_their_kind(value: Any) -> None:
    (found,) = Choice.read({"choices": [value]}, "here").choices
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("loss: bpr", "space: loss: 'bpr' is one value: expected a list of choices"),
        ("epochs: 20", "space: epochs: 20 is one value"),
        ("loss: []", "loss: choices=[]: Tuple should have at least 1 item"),
        ("l2: {low: 1}", "l2: high is missing"),
        ("l2: {low: 1, hihg: 2}", "did you mean 'high'?"),
        ("l2: {low: a, high: 2}", "low='a'"),
        ("l2: {low: .nan, high: 2}", "low=nan"),
        ("l2: {low: 2, high: 1}", "low is 2, high is 1: expected low < high"),
        ("l2: {low: 1, high: 1}", "expected low < high"),
        ("l2: {low: 0, high: 1, log: true}", "with log, low must be above 0"),
        ("l2: {low: 1, high: 9, log: true, step: 2}", "there is no step"),
        ("l2: {low: 0, high: 1, step: 0}", "step=0: Input should be greater than 0"),
        ("l2: {low: 0, high: 1, step: 1.0e-9}", "step is 1e-09: expected at most 10,000 steps"),
        ("l2: {low: 0, high: 1, step: 1.0e-320}", "expected at most 10,000 steps"),
        ("l2: {low: -1.0e+308, high: 1.0e+308}", "from -1e+308 to 1e+308 is too far"),
        ("l2: {choices: null}", "choices=None"),
    ],
)
def test_what_is_no_space(text: str, content: str) -> None:
    found = message(text)
    assert found.startswith("study.yaml: space: ")
    assert content in found


@given(ranges(), st.integers(2, 40))
def test_values_are_spread_from_end_to_end(entry: Range, points: int) -> None:
    values = spread(entry, points)
    assert len(values) == points
    assert (values[0], values[-1]) == (entry.low, entry.high)
    assert all(one <= other for one, other in pairwise(values))
    places = np.array(values, float)
    distances = np.diff(np.log(places) if entry.log else places)
    assert np.allclose(distances, distances.mean(), atol=1e-9 * abs(places).max() + 1e-12)


@given(ranges(step=True), st.integers(2, 9))
def test_a_step_gives_all_its_values_and_none_beyond(entry: Range, points: int) -> None:
    assert entry.step is not None
    values = np.array(spread(entry, points), float)
    assert values[0] == entry.low
    assert entry.high - entry.step * (1 + 1e-6) < values[-1] <= entry.high
    assert np.allclose(np.diff(values), entry.step)


def test_a_step_that_floating_point_does_not_reach() -> None:
    assert spread(Range(low=0.1, high=0.3, step=0.1), 2) == pytest.approx([0.1, 0.2, 0.3])
    assert max(spread(Range(low=0.1, high=0.3, step=0.1), 2)) <= 0.3


def test_all_of_a_choice() -> None:
    assert spread(Choice(choices=("a", None, 3)), 2) == ["a", None, 3]


@pytest.mark.parametrize("model", FAMILIES)
def test_a_default_space_can_be_written_and_read_again(model: str) -> None:
    space = family(model).space
    written = yaml.safe_dump({name: entry.model_dump(mode="json") for name, entry in space.items()})
    assert read(written) == space


@given(st.floats(-0.5, 1.5), st.booleans())
def test_a_place_and_its_value(place: float, log: bool) -> None:
    entry = Range(low=0.5, high=32, log=log)
    assert entry.place(entry.at(place)) == pytest.approx(place, abs=1e-9)
    assert (entry.at(0), entry.at(1)) == pytest.approx((0.5, 32))


def test_the_middle_on_its_own_scale() -> None:
    assert Range(low=1, high=100, log=True).at(0.5) == pytest.approx(10)
    assert Range(low=1, high=100).at(0.5) == 50.5
    assert Range(low=1e-300, high=1e300, log=True).at(1.5) < float("inf")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1e6, "1e6"), (8692.3, "8690"), (0.05, "0.05"), (1.0e-5, "1e-5"), (12.0, "12"),
        ([16, 8], "16,8"), ((), "none"), (None, "none"), (True, "true"), ("bpr", "bpr"),
    ],
)  # fmt: skip
def test_values_in_few_letters(value: object, told: str) -> None:
    assert short(value) == told
