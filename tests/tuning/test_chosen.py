"""Which trial a study chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from pipeline.tuning.chosen import SIMPLE, WINDOWS, find_best


def trial(*windows: float, first: bool = False, **changes: Any) -> FrozenTrial:
    attrs: dict[str, Any] = {WINDOWS: list(windows)}
    if first:
        attrs[SIMPLE] = True
    given = {"value": sum(windows) / len(windows), "user_attrs": attrs, **changes}
    return create_trial(**given)


def chosen(*trials: FrozenTrial) -> int | None:
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    best = find_best(study.get_trials())
    return None if best is None else best.number


def test_without_first_trials_it_is_the_highest() -> None:
    assert chosen(trial(0.1, 0.2), trial(0.3, 0.2), trial(0.2, 0.2)) == 1
    assert chosen() is None


@pytest.mark.parametrize(
    ("windows", "taken"),
    [
        ((0.31, 0.32, 0.33, 0.34), 1),  # a little better everywhere
        ((0.35, 0.31, 0.31, 0.31), 0),  # better in one window: its luck, or its time
        ((0.30, 0.31, 0.32, 0.33), 0),  # the same
        ((0.42, 0.31, 0.35, 0.39), 1),
    ],
)
def test_a_gain_over_the_first_trials_must_be_seen_in_the_windows(
    windows: Sequence[float], taken: int
) -> None:
    assert chosen(trial(0.30, 0.31, 0.32, 0.33, first=True), trial(*windows)) == taken


def test_of_several_that_gain_it_is_the_highest() -> None:
    simple = trial(0.30, 0.31, 0.32, 0.33, first=True)
    lucky = trial(0.50, 0.31, 0.31, 0.31)
    assert chosen(simple, lucky, trial(0.31, 0.32, 0.33, 0.34), trial(0.32, 0.33, 0.34, 0.35)) == 3


def test_the_best_of_the_first_trials_is_what_is_to_be_beaten() -> None:
    low, high = trial(0.1, 0.1, 0.1, first=True), trial(0.3, 0.3, 0.3, first=True)
    assert chosen(low, high, trial(0.2, 0.2, 0.2)) == 1


def test_of_a_single_window_the_value_decides() -> None:
    assert chosen(trial(0.3, first=True), trial(0.31)) == 1
    assert chosen(trial(0.3, first=True), trial(0.29)) == 0


def test_what_is_pruned_or_below_a_floor_is_not_chosen() -> None:
    pruned = create_trial(state=TrialState.PRUNED)
    narrow = trial(0.4, 0.4, constraints={"coverage_floor": 0.1})
    found = chosen(trial(0.3, 0.3), pruned, narrow)
    assert found == 0
