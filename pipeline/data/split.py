"""The global time split: everything before one moment trains, everything after it tests.

    users                   | cut
    warm          o--o-o--o-|-x--x-x--x     trains, and is evaluated
    low activity         o--|--x-x-x-x      too little training to be judged among the warm
    cold                    |  x-x--x-x     first seen after the cut
                time -------+--------->

One cut for all users, so that no model learns from what happens after the moment at which it
would have been asked. Validation windows are the same split, made inside the training part.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from pipeline.errors import UserError
from pipeline.settings import Settings

Quantile = Annotated[float, Field(gt=0, lt=1)]

WARM, LOW_ACTIVITY, COLD, UNUSED = "warm", "low_activity", "cold", "unused"


class SplitSettings(Settings):
    """Who trains and who is evaluated."""

    test_cut: Quantile = 0.8
    """Quantile of all timestamps (nearest one) at which training ends."""
    min_training: int = Field(5, ge=1)
    """Users with fewer training interactions are dropped from training."""
    min_warm_training: int = Field(15, ge=1)
    """Users with at least so many training interactions can be evaluated as warm users."""
    min_held_out: int = Field(10, ge=1)
    """Users with fewer held-out interactions are not evaluated."""

    @property
    def protocol(self) -> str:
        """The split in a word, as in time-0.8-5-15-10."""
        users = f"{self.min_training}-{self.min_warm_training}-{self.min_held_out}"
        return f"time-{self.test_cut:g}-{users}"


def cut_moment(timestamps: npt.NDArray[np.int64], quantile: float) -> int:
    """The timestamp [s] at ``quantile``: the nearest one that occurs, as in pandas' quantile."""
    return int(np.quantile(timestamps, quantile, method="nearest"))


def time_split(
    ratings: pd.DataFrame, quantile: float, settings: SplitSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split ``ratings`` (user, item, rating, timestamp) at a quantile of its timestamps.

    Every row has its ids: ``read_ratings`` lets no other pass.

    Returns:
        training rows, at or before the cut, of users with ``min_training`` of them;
        later rows, with a column ``segment``. Rows of items in the training catalogue, of users
        with ``min_held_out`` of them, are ``warm`` (the test), ``low_activity`` or ``cold``, as
        the user has enough, some or no interactions before the cut; the rest is ``unused``.

    Raises:
        UserError: nothing is left to train on or to evaluate.
    """
    # Ids become numbers once; from then on everything is a look-up in a small table.
    user, item = (pd.factorize(ratings[name])[0] for name in ("user", "item"))
    timestamp = ratings["timestamp"].to_numpy()
    before = timestamp <= cut_moment(timestamp, quantile)
    activity = np.bincount(user[before], minlength=user.max(initial=0) + 1)
    trains = before & (activity >= settings.min_training)[user]
    catalogue = np.zeros(item.max(initial=0) + 1, np.bool_)
    catalogue[item[trains]] = True
    after = ~before
    segment = _segments(activity, user[after], catalogue[item[after]], settings)
    train, later = _rows(ratings, trains), _rows(ratings, after)
    later["segment"] = segment
    if train.empty or not (later["segment"] == WARM).any():
        raise UserError(
            f"The time split at quantile {quantile} leaves {len(train)} training rows and no user "
            f"with at least {settings.min_warm_training} training and {settings.min_held_out} "
            f"held-out interactions. Use more data, another cut, or lower min_warm_training "
            f"and min_held_out."
        )
    return train, later


def _segments(
    activity: npt.NDArray[np.int64],
    user: npt.NDArray[np.int64],
    in_catalogue: npt.NDArray[np.bool_],
    settings: SplitSettings,
) -> pd.api.extensions.ExtensionArray:
    """The segment of each later row, from its user and whether its item trains."""
    held_out = np.bincount(user[in_catalogue], minlength=len(activity))
    enough = max(settings.min_training, settings.min_warm_training)
    kinds = np.select([activity >= enough, activity > 0], [0, 1], 2)  # of users who are evaluated
    evaluated = in_catalogue & (held_out >= settings.min_held_out)[user]
    names = pd.array([WARM, LOW_ACTIVITY, COLD, UNUSED], dtype="str")
    return names.take(np.where(evaluated, kinds[user], 3))


def _rows(table: pd.DataFrame, chosen: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """``table[chosen]``, numbered anew; pandas would copy all of it together first."""
    columns = {name: column.array[chosen] for name, column in table.items()}
    return pd.DataFrame(columns, copy=False)
