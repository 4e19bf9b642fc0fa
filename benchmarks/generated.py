"""Generated ratings of a given shape, for sizes of which the repository holds no data.

A few items are popular and a few users busy, both by a power law; a user draws most items from the
corner of the catalogue that is theirs; people arrive one after another and then rate less and less
often, so that a time split leaves every kind of user on both sides. Nothing but numpy is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

START, SPAN = 800_000_000, 25 * 365 * 86_400  # seconds since 1970, and of what follows
TASTES = 8  # corners of the catalogue
LOYALTY = 0.5  # share of draws that keep to the user's corner
RANK_POWER, RANK_SHIFT = 1.5, 100  # popularity falls as (rank + shift) ** -power
ACTIVITY_POWER = 2.2  # the density of activity falls as activity ** -power
LEAST = 20  # ratings of the least active user, where the mean allows it, as in MovieLens
MOST = 0.25  # of the catalogue: what the most active user has
SURPLUS = 1.2  # draws for each missing pair: some come twice, and count once


@dataclass(frozen=True)
class Shape:
    """How many of each."""

    interactions: int
    users: int
    items: int


ML_25M = Shape(25_000_095, 162_541, 59_047)


@dataclass(frozen=True)
class Ratings:
    """Ratings in the order of time; no user has an item twice.

    ``users`` and ``items`` are int32 indices, ``ratings`` float32 half stars and ``timestamps``
    int64 seconds since 1970, all of length n.
    """

    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    ratings: npt.NDArray[np.float32]
    timestamps: npt.NDArray[np.int64]

    def write_csv(self, path: Path) -> None:
        """Write them as MovieLens has them: userId,movieId,rating,timestamp with ids from 1."""
        import pyarrow as pa
        import pyarrow.csv as pa_csv

        columns = {
            "userId": self.users + 1,
            "movieId": 3 * self.items + 1,  # with gaps, as people's ids have
            "rating": self.ratings,
            "timestamp": self.timestamps,
        }
        pa_csv.write_csv(pa.table(columns), path)


def generate(shape: Shape, rng: np.random.Generator) -> Ratings:
    """As many ratings as ``shape`` says; of its users and items a few may have none.

    Raises:
        ValueError: the users would have more than an eighth of the catalogue on average.
    """
    if 8 * shape.interactions > shape.users * shape.items:
        raise ValueError(f"{shape} is denser than an eighth")
    taste = rng.integers(TASTES, size=shape.users)
    pairs = _pairs(shape, taste, rng)
    users, items = (part.astype(np.int32) for part in np.divmod(pairs, shape.items))
    arrival = 0.95 * rng.random(shape.users)[users]
    moments = arrival + (1 - arrival) * (1 - np.cbrt(rng.random(len(users))))  # beta(1, 3)
    stars = 3 + 0.5 * (items % TASTES == taste[users]) + rng.normal(size=len(users))
    ratings = np.clip(np.round(2 * stars) / 2, 0.5, 5).astype(np.float32)
    order = np.argsort(moments)
    timestamps = START + (moments[order] * SPAN).astype(np.int64)
    return Ratings(users[order], items[order], ratings[order], timestamps)


def write(path: Path, shape: Shape) -> None:
    """Generated ratings, always the same ones, as CSV."""
    generate(shape, np.random.default_rng(0)).write_csv(path)


def _pairs(
    shape: Shape, taste: npt.NDArray[np.int64], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """user * items + item of each rating, ascending, all different, [interactions]."""
    wanted = _activity(shape, rng)
    popularity = np.cumsum((np.arange(shape.items) + 1.0 + RANK_SHIFT) ** -RANK_POWER)
    popularity /= popularity[-1]
    pairs = np.empty(0, np.int64)
    while len(pairs) < shape.interactions:
        missing = wanted - np.bincount(pairs // shape.items, minlength=shape.users)
        counts = np.ceil(SURPLUS * np.maximum(missing, 0)).astype(np.int64)
        users = np.repeat(np.arange(shape.users), counts)
        items = np.searchsorted(popularity, rng.random(len(users)))
        own = items - items % TASTES + taste[users]  # about as popular, in the user's corner
        keeps = (rng.random(len(users)) < LOYALTY) & (own < shape.items)
        drawn = users * shape.items + np.where(keeps, own, items)
        pairs = np.sort(np.concatenate([pairs, drawn]))
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    surplus = rng.choice(len(pairs), len(pairs) - shape.interactions, replace=False)
    return np.delete(pairs, surplus)


def _activity(shape: Shape, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """How many ratings each user is to have, [users], at least as many in all as ``shape``."""
    mean = shape.interactions / shape.users
    least = min(LEAST, mean / 2)
    above = rng.pareto(ACTIVITY_POWER - 1, shape.users)
    # The busiest are capped, so the others have more: a few rounds bring the mean to where it was.
    scale, wanted = mean - least, np.zeros(shape.users)
    while wanted.mean() < mean:
        scale *= 1.05
        wanted = np.minimum(least + scale * above / above.mean(), MOST * shape.items)
    return wanted
