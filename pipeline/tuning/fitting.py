"""A plan is fitted to the data before the first trial: what they cannot hold or tell apart is cut.

More components than there are users or items, more neighbours than rows, two rules for counting
interactions that give the same numbers: trials of those would be run twice. What is cut follows
from the data and the plan alone, so that a study that goes on is fitted to the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config import change
from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from pipeline.evaluation.validation import Window
from pipeline.space import Choice, Range, Value
from pipeline.tuning.objective import reachable
from pipeline.tuning.plan import Plan

VALUES = "values"  # the field that says what an interaction is worth


def fit(plan: Plan, dataset: Dataset, windows: Sequence[Window]) -> tuple[Plan, list[str]]:
    """The plan with a space that the data can hold, and a sentence for each field that was cut.

    A field with one value left leaves the space and has that value.

    Raises:
        UserError: a floor for coverage cannot be reached, or nothing is left to search.
    """
    _require_reachable(plan, windows)
    limits = {name: most for name, most in _limits(plan, windows).items() if name in plan.space}
    space, fixed, sentences = dict(plan.space), dict[str, Value](), []
    for name, entry in plan.space.items():
        cut: Range | Choice | Value = entry
        why = ""
        if name in limits:
            cut, why = _up_to(entry, limits[name]), f"these data hold at most {limits[name]}"
        elif name == VALUES and isinstance(entry, Choice):
            distinct = dataset.distinct_values()
            cut, why = _among(entry, distinct), "on these data the others count as one of them"
        if isinstance(cut, Range | Choice):
            space[name] = cut
        else:
            del space[name]
            fixed[name] = cut
        if cut != entry:
            kept = cut.in_words() if isinstance(cut, Range | Choice) else cut
            sentences.append(f"{name}: {entry.in_words()} is cut to {kept}: {why}.")
    if not space:
        raise UserError(f"Study {plan.name}: there is nothing to search. {' '.join(sentences)}")
    experiment = change(plan.experiment, fixed, f"study {plan.name}") if fixed else plan.experiment
    changed = {"space": space, "experiment": experiment, "limits": limits}
    return plan.model_copy(update=changed), sentences


def _limits(plan: Plan, windows: Sequence[Window]) -> dict[str, int]:
    """The highest value of each field that means something on the smallest window."""
    data = [window.dataset for window in windows]
    users, items = min(each.n_users for each in data), min(each.n_items for each in data)
    rank = min(users, items)
    return {
        "components": rank,
        "factors": rank,
        "embedding_dim": rank,
        "neighbours": users if plan.experiment.model == "user_knn" else items,
        "top_weights": items,
        "exposure_users": min(len(each.test_users) for each in data),
    }


def _up_to(entry: Range | Choice, most: int) -> Range | Choice | Value:
    """What is left of an entry; the limit itself where nothing is."""
    if isinstance(entry, Range):
        if entry.high <= most:
            return entry
        return entry.model_copy(update={"high": float(most)}) if entry.low < most else most
    kept = tuple(each for each in entry.choices if not isinstance(each, int) or each <= most)
    return _left(entry, kept, most)


def _among(entry: Choice, wanted: Sequence[str]) -> Choice | Value:
    kept = tuple(each for each in entry.choices if each in wanted)
    return _left(entry, kept, entry.choices[0])


def _left(entry: Choice, kept: tuple[Value, ...], else_: Value) -> Choice | Value:
    if kept == entry.choices:
        return entry
    if len(kept) > 1:
        return Choice(choices=kept)
    return kept[0] if kept else else_


def _require_reachable(plan: Plan, windows: Sequence[Window]) -> None:
    floor, most = plan.settings.coverage_floor, reachable(plan, windows) if plan.has_floor else 1.0
    if floor > most:
        users = sorted(len(window.dataset.test_users) for window in windows)
        counts = f"{users[0]}" if users[0] == users[-1] else f"{users[0]} to {users[-1]}"
        raise UserError(
            f"Study {plan.name}: coverage_floor={floor:g} cannot be reached: at most {most:.3f} "
            f"with {counts} users in a window and lists of {plan.experiment.k[0]}. Lower it, or "
            f"give breadth_floor instead, a share of what can be reached."
        )
