"""Whether a split that came with the data is one: rows in both parts, training on the future."""

from __future__ import annotations

import pandas as pd

from pipeline.errors import UserError

SPLIT_CHECK = "split_check"

HALF = 0.5
EXCHANGED = 0.75
"""Share of the test rows before the middle training row; by chance it is a half."""


def check_split(
    name: str, train: pd.DataFrame, held_out: pd.DataFrame, *, repeats: str, accept: bool
) -> dict[str, str]:
    """What there is to say of a split that was given, by the tag under which runs carry it.

    Counted are: test rows of which the pair of user and item is in training, too (where repeats
    are kept, only those with the same time); training rows after their own user's first test row;
    training rows after the first test row of all; test rows before the middle training row; test
    rows of users and items that do not train. Times count only where there are some.

    Raises:
        UserError: half of the test or more is in training; half or more of the training rows of
            test users come after the user's first test row; the test is larger than what trains,
            or three quarters of it come before the middle of what trains, as if the two were
            exchanged; no test row has a user and an item that train. ``accept`` makes all of it
            a note, but for the last.
    """
    found, wrong = [], []

    def count(rows: int, of: int, what: str, limit: float | None = None) -> None:
        share = rows / of if of else 0.0
        sentence = f"{rows:,} of {of:,} {what}"
        found.extend([sentence] if rows else [])
        wrong.extend([sentence] if limit is not None and of and share >= limit else [])

    key = ["user", "item"] + (["timestamp"] if repeats == "keep" else [])
    both = held_out[key].merge(train[key].drop_duplicates(), on=key)
    count(len(both), len(held_out), "test rows are in training, too", HALF)
    if train["timestamp"].nunique() > 1 or held_out["timestamp"].nunique() > 1:
        first = held_out.groupby("user")["timestamp"].min()
        of_test_users = train[train["user"].isin(first.index)]
        late = of_test_users["timestamp"] > of_test_users["user"].map(first)
        count(
            int(late.sum()), len(late),
            "training rows of test users come after the user's first test row", HALF,
        )  # fmt: skip
        ahead = int((train["timestamp"] > held_out["timestamp"].min()).sum())
        count(ahead, len(train), "training rows come after the first test row")
        early = int((held_out["timestamp"] < train["timestamp"].median()).sum())
        if early >= EXCHANGED * len(held_out):
            what = "test rows come before the middle of the training rows: are they exchanged?"
            count(early, len(held_out), what, EXCHANGED)
    if len(held_out) > len(train):
        sentence = (
            f"the test has {len(held_out):,} rows, more than the training part, which has "
            f"{len(train):,}: are they exchanged?"
        )
        found, wrong = [*found, sentence], [*wrong, sentence]
    known_user = held_out["user"].isin(train["user"].unique())
    known_item = held_out["item"].isin(train["item"].unique())
    count(int((~known_user).sum()), len(held_out), "test rows are of users who do not train")
    count(int((~known_item).sum()), len(held_out), "test rows are of items that do not train")
    if wrong and not accept:
        raise UserError(
            f"{name}: the split that was given is contaminated: {'; '.join(wrong)}. Figures of it "
            f"would say little of a model in use. Mend the two files, or put all rows into one "
            f"and have them split here; --accept_split takes the split as it is."
        )
    if not (known_user & known_item).any():
        raise UserError(
            f"{name}: no test row has a user and an item that are in the training part, so nothing "
            f"can be evaluated ({'; '.join(found)}). Are ids spelled alike in both files?"
        )
    return {SPLIT_CHECK: f"{name}, the split as given: {'; '.join(found)}."} if found else {}
