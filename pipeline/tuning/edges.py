"""The edge of a space: where the best trial lies there, better ones may lie beyond.

A best trial within a twentieth of its range from an end lies at the edge, on the range's own scale
(of whole numbers in a small range, that is the end itself). A study whose budget is taken then
moves that end once, by half the range on the same scale, as far as the field and the data allow,
and has a quarter of its budget more. Trials that were run stay what they are: Optuna lets ranges
of numbers differ from trial to trial. An end at which ``first_trials`` put a field is no edge:
there a field has no effect, and nothing else lies beyond.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from optuna.trial import FrozenTrial

from pipeline.config import change
from pipeline.errors import UserError
from pipeline.space import Range
from pipeline.tuning.objective import EPOCHS
from pipeline.tuning.plan import Plan, Widening

EDGE = 0.05  # of a range, from its end
FURTHER = 0.5  # of a range, that its end is moved by
SIDES = {"low": "lower", "high": "upper"}

End = Literal["low", "high"]


def widening(plan: Plan, best: FrozenTrial | None) -> tuple[Widening, ...]:
    """The ends to be moved because the best trial lies there; none a second time.

    A grid is what it is, and epochs lay out the steps at which all trials are compared.
    """
    if best is None or plan.widened or plan.settings.sampler == "grid":
        return ()
    found = ((name, end, beyond(plan, name, end)) for name, end in _edges(plan, best.params))
    return tuple(
        Widening(
            field=name, end=end, was=getattr(plan.space[name], end), now=now, trial=best.number
        )
        for name, end, now in found
        if now is not None and name != EPOCHS
    )


def probes(plan: Plan, best: FrozenTrial) -> list[dict[str, Any]]:
    """The best trial with what is new in a widened space: in the middle of it, and at its end."""
    found = []
    for part in (0.5, 1.0):
        params = dict(best.params)
        for each in plan.widened:
            entry = plan.space[each.field]
            assert isinstance(entry, Range)
            was, now = entry.place(each.was), entry.place(each.now)
            value = each.now if part == 1 else entry.at(was + part * (now - was))
            params[each.field] = round(value) if plan.is_whole(each.field) else value
        found.append(params)
    return found


def widenings(plan: Plan) -> list[str]:
    """What was widened, a sentence each."""
    more = plan.budget - plan.settings.n_trials
    return [
        f"{each.field}: the best trial, {each.trial}, lay at the {SIDES[each.end]} edge of its "
        f"space, {each.was:g}: widened to {each.now:g}, {more} more trials."
        for each in plan.widened
    ]


def left(plan: Plan, best: FrozenTrial) -> list[str]:
    """A sentence for each edge at which the best trial lies although the field would go on."""
    once = " although that was widened once" if plan.widened else ""
    return [
        f"{name}={best.params[name]:g}: the best trial, {best.number}, lies at the {SIDES[end]} "
        f"edge of its space, {plan.space[name].in_words()},{once}: better ones may lie beyond. "
        f"Give another space in the study file, with another --study_name."
        for name, end in _edges(plan, best.params)
        if beyond(plan, name, end) is not None
    ]


def _edges(plan: Plan, params: Mapping[str, Any]) -> Iterator[tuple[str, End]]:
    for name, entry in plan.space.items():
        if isinstance(entry, Range) and name in params:
            end = _end(entry, params[name])
            if end is not None and end not in {_end(entry, at) for at in plan.begins_at(name)}:
                yield name, end


def _end(entry: Range, value: float) -> End | None:
    """The end that a value lies at, if any."""
    place = entry.place(value)
    return "low" if place <= EDGE else "high" if place >= 1 - EDGE else None


def beyond(plan: Plan, name: str, end: End) -> float | None:
    """Where an end of a field's range is moved to; None where the field or the data end there.

    A bound that a field does not take itself is approached by half.
    """
    entry = plan.space[name]
    assert isinstance(entry, Range)
    was, sign = getattr(entry, end), -1 if end == "low" else 1
    now = float(f"{entry.at(-FURTHER if end == 'low' else 1 + FURTHER):.3g}")
    if plan.is_whole(name):
        now = float(math.floor(now) if end == "low" else math.ceil(now))
    for bound, is_taken in _bounds(plan, name, end):
        if sign * (now - bound) > 0 or (now == bound and not is_taken):
            now = bound if is_taken else (was + bound) / 2
    if plan.is_whole(name):
        now = float(math.ceil(now) if end == "low" else math.floor(now))
    if entry.step is not None:
        now = was + sign * entry.step * math.floor(abs(now - was) / entry.step + 1e-9)
    if sign * (now - was) <= 0 or (entry.log and now <= 0):
        return None
    try:
        change(plan.experiment, {name: int(now) if plan.is_whole(name) else now}, name)
    except UserError:  # fields that must fit together
        return None
    return now


def _bounds(plan: Plan, name: str, end: End) -> Iterator[tuple[float, bool]]:
    """What the field and the data take at most, or at least, and whether that itself is taken."""
    names = {"low": ("ge", "gt"), "high": ("le", "lt")}[end]
    for each in plan.field(name).metadata:
        for kind in names:
            if getattr(each, kind, None) is not None:
                yield float(getattr(each, kind)), kind.endswith("e")
    if end == "high" and name in plan.limits:
        yield plan.limits[name], True
