"""What the evidence says of compared experiments, in plain words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.compare.contenders import KNOWS_FUTURE, Contender
from pipeline.compare.paired_tests import PairedTests
from pipeline.data.dataset import AS_GIVEN
from pipeline.evaluation.metrics import BY_NAME
from pipeline.evaluation.significance import ALPHA, Floats, p_words, smallest_difference
from pipeline.evaluation.warnings import BACKTEST_HOLDS, ONE_LIST, WARNING, recommends_popularity

FEW_USERS = 100  # of a test that cannot tell much


def say(
    group: Sequence[Contender],
    row: int,
    name: str,
    tested: Sequence[str],
    tests: PairedTests,
) -> list[str]:
    """What there is to say of a row."""
    said = []
    if "popularity_overlap" in tested and not group[row].model.startswith("most_popular"):
        overlap = float(tests.mean[row, tested.index("popularity_overlap")])
        if any(recommends_popularity(run.tags, run.metrics, overlap) for run in group[row].runs):
            said.append(f"recommends the popularity list ({100 * overlap:.0f} % overlap)")
    if any(ONE_LIST in run.tags.get(WARNING, "") for run in group[row].runs):
        said.append("recommends one list to everybody")
    for other, each in enumerate(group):
        p = float(tests.p_holm[row, other, tested.index(name)])
        if each.model == "most_popular" and row > other and p < ALPHA:
            said.append(f"is worse than {each.name} ({p_words(p)})")
    held = {run.tags[BACKTEST_HOLDS] for run in group[row].runs if BACKTEST_HOLDS in run.tags}
    return [*said, *(f"in a backtest: {found}" for found in sorted(held))]


def alike(
    names: Sequence[str], baseline: int, metric: str, tested: Sequence[str], tests: PairedTests
) -> list[str]:
    """Who is not distinguishable from the baseline, and from the best: a line for each of these."""
    accuracy = [place for place, each in enumerate(tested) if BY_NAME[each].accuracy]
    lines = []
    for one in dict.fromkeys((baseline, 0)):  # the best is the first
        p = tests.p_holm[one]
        equal = [
            row for row in range(len(names)) if row != one and p[row, tested.index(metric)] >= ALPHA
        ]
        if equal:
            others = [
                f"{names[row]} ({p_words(float(p[row, tested.index(metric)]))})" for row in equal
            ]
            line = f"not distinguishable from {names[one]}: {', '.join(others)}"
            everywhere = [names[row] for row in equal if (p[row][accuracy] >= ALPHA).all()]
            if everywhere:
                line += f"; nor on another metric of accuracy: {', '.join(everywhere)}"
            lines.append(f"{line}.")
    return lines


def unlike(
    names: Sequence[str], baseline: int, metric: str, tested: Sequence[str], tests: PairedTests
) -> list[str]:
    """Who is better than the baseline, and who is worse: a line for each, of all that are."""
    place = tested.index(metric)
    lines = []
    for word, side in (("higher", 1.0), ("lower", -1.0)):
        found = [
            f"{names[row]} ({tests.difference[row, baseline, place]:+.4f}, "
            f"{p_words(float(tests.p_holm[row, baseline, place]))})"
            for row in range(len(names))
            if row != baseline
            and tests.p_holm[row, baseline, place] < ALPHA
            and tests.difference[row, baseline, place] * side > 0
        ]
        if found:
            lines.append(f"{metric} is {word} than that of {names[baseline]}: {', '.join(found)}.")
    return lines


def median_smallest(values: Floats) -> float | None:
    """The smallest difference that the test can be expected to find, of the median pair.

    ``values`` is float64[users, rows]; None where there is no pair of rows, or of users.
    """
    n_users, n_rows = values.shape
    if n_users < 2:
        return None
    spreads = [
        float((values[:, one] - values[:, other]).std(ddof=1))
        for one in range(n_rows)
        for other in range(one + 1, n_rows)
    ]  # fmt: skip
    return smallest_difference(float(np.median(spreads)), n_users) if spreads else None


def too_small(values: Floats, smallest: float | None, split: str) -> list[str]:
    """Said where the test has too few users to tell the rows, float64[users, rows], apart.

    ``split`` is that of their protocol: it tells which settings would give more users.
    """
    means = values.mean(axis=0)
    spread = float(means.max() - means.min())
    hopeless = smallest is not None and smallest > spread
    if len(values) >= FEW_USERS and not hopeless:
        return []
    power = (
        "" if smallest is None
        else f"; a difference below {smallest:.4f} cannot be expected to be found, and best and "
        f"worst are {spread:.4f} apart"
    )  # fmt: skip
    return [f"Too small to tell: {len(values):,} users{power}. {_more_users(split)}"]


def _more_users(split: str) -> str:
    if split == AS_GIVEN:
        return "More users: more data."
    cut = "" if split.startswith(KNOWS_FUTURE) else ", an earlier test_cut"
    return f"More users: lower min_warm_training or min_held_out{cut}, or more data."
