"""How often intervals hold the true mean: ours against the bootstrap's, for few and many users.

    python -m benchmarks.coverage [--rounds 10000] [--json]

Values per user are made like those of real models: a share of the users has no hit and the others
a skewed NDCG; a second model gives many users the same value. An interval of 95 % should hold the
true mean in .93 to .97 of the rounds. Nothing is timed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import stats

from benchmarks.report import Report, Row, Table, parser, progress
from pipeline.evaluation.significance import LEVEL, difference_interval, mean_interval

Floats = npt.NDArray[np.float64]
Intervals = Callable[[Floats], Floats]

USERS = (20, 70, 836)
RESAMPLES = 1000
ROUNDS_OF_BOOTSTRAP = 500  # at the most: each of its intervals takes a thousand resamples
WITH_HITS = {"MovieLens-1M": 0.86, "Steam": 0.55, "Amazon": 0.12}
"""The share of users with a hit, as on these data; of a second model it is nine tenths of it."""
NDCG = (1.2, 1.8)  # the beta distribution of the NDCG of users with hits
SHARED = 0.3  # of the users have the same from both models


def draw(share: float, n_users: int, rounds: int, rng: np.random.Generator) -> tuple[Floats, ...]:
    """NDCG of two models, each float64[users, rounds]."""
    shape = (n_users, rounds)
    one, other = (
        np.where(rng.random(shape) < with_hits, rng.beta(*NDCG, size=shape), 0.0)
        for with_hits in (share, 0.9 * share)
    )
    return one, np.where(rng.random(shape) < SHARED, one, other)


def covered(intervals: Intervals, values: Floats, true: float) -> float:
    """The share of the columns of ``values`` whose interval holds ``true``."""
    low, high = intervals(values)
    return float(((low <= true) & (true <= high)).mean())


def bootstrap(method: str, rng: np.random.Generator) -> Intervals:
    """SciPy's intervals of the mean of each column, those of equal values without width."""

    def intervals(values: Floats) -> Floats:
        values = values[:, :ROUNDS_OF_BOOTSTRAP]
        ends = np.stack([values.mean(axis=0)] * 2)
        for column in np.flatnonzero(np.ptp(values, axis=0)):
            ends[:, column] = stats.bootstrap(
                (values[:, column],), np.mean, confidence_level=LEVEL, n_resamples=RESAMPLES,
                method=method, vectorized=True, batch=200, rng=rng,
            ).confidence_interval  # fmt: skip
        return ends

    return intervals


def coverages(n_users: int, rounds: int, rng: np.random.Generator) -> list[Row]:
    """A row per data set and what the mean is of."""
    rows: list[Row] = []
    gain = NDCG[0] / sum(NDCG)
    for like, share in WITH_HITS.items():
        one, other = draw(share, n_users, rounds, rng)
        apart = (1 - SHARED) * 0.1 * share * gain
        for of, ours, values, true in (
            ("NDCG", mean_interval, one, share * gain),
            ("hit rate", mean_interval, (one > 0).astype(np.float64), share),
            ("NDCG, difference", difference_interval, one - other, apart),
        ):
            kinds: dict[str, Intervals] = {
                "ours": ours,
                "percentile": bootstrap("percentile", rng),
                "BCa": bootstrap("BCa", rng),
            }
            found = {kind: covered(by, values, true) for kind, by in kinds.items()}
            rows.append({"users": n_users, "like": like, "mean of": of, **found})
    return rows


def report(rounds: int) -> Report:
    """All sizes."""
    rng = np.random.default_rng(0)
    rows = []
    for n_users in USERS:
        progress(f"{n_users} users")
        rows += coverages(n_users, rounds, rng)
    note = (
        f"{rounds:,} rounds of ours, {min(rounds, ROUNDS_OF_BOOTSTRAP):,} of SciPy's bootstraps "
        f"({RESAMPLES:,} resamples). Where two or three users of 20 have a hit, no interval of "
        f"their NDCG holds; more users are needed there."
    )
    table = Table("Share of 95 % intervals that hold the true mean", rows)
    return Report("Intervals", [table], [], [note])


def main() -> None:
    """Command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=10_000, help="tests that are made up")
    given = arguments.parse_args()
    report(given.rounds).publish(given.json)


if __name__ == "__main__":
    main()
