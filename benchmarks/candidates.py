"""Lists by an index against a full ranking, by the size of the catalogue.

    python -m benchmarks.candidates [--thousands 10 100 1000] [--json]

Vectors of 64 numbers are drawn as a factorisation has them: components fall off as the root of
their number, and items are of different lengths. Each size has a process of its own; times are
those of the processor, which other work on the machine stretches least.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from benchmarks.fresh import MIB, measure, peak_memory, restart_peak
from benchmarks.report import Bar, Report, Row, Table, parser, progress
from pipeline.evaluation.candidates import MANY_ITEMS, RECALL, SAMPLE, Candidates, recall
from pipeline.evaluation.ranking import rank
from pipeline.models.base import Vectors

THOUSANDS = (10, 100, 250, 1000)
DIMENSIONS, SEEN, K = 64, 40, 10
USERS, CELLS = 4000, 1_000_000_000  # that are ranked at the most, and pairs of them and items
SPREAD = 0.5  # of the logarithm of an item's length
FASTER = 3.0  # times, with an index, at a million items


class Found(NamedTuple):
    """Of one size of the catalogue; rates are users a second."""

    exact: float
    build: float
    """Seconds."""
    memory: int
    """Bytes that came with the index."""
    first: float
    """Recall before the search is widened."""
    recall: float
    width: int
    by_index: float


@dataclass(frozen=True)
class Products:
    """Scores as a model has them."""

    vectors: Vectors

    def scores(self, users: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Products with all items."""
        return np.asarray(self.vectors.users[users] @ self.vectors.items.T)


def drawn(n_items: int, rng: np.random.Generator) -> Vectors:
    """As the module's docstring has them."""
    falling = (np.arange(DIMENSIONS) + 1.0) ** -0.5
    users, items = (rng.normal(size=(n, DIMENSIONS)) * falling for n in (USERS, n_items))
    items *= rng.lognormal(0, SPREAD, size=(n_items, 1))
    return Vectors(users.astype(np.float32), items.astype(np.float32))


def compare(n_items: int) -> Found:
    """Both ways at one size."""
    rng = np.random.default_rng(0)
    vectors = drawn(n_items, rng)
    ends = np.arange(0, USERS * SEEN + 1, SEEN)
    items = rng.integers(n_items, size=USERS * SEEN)
    ones = np.ones(len(items), np.float32)
    seen = sparse.csr_matrix((ones, items, ends), (USERS, n_items))
    seen.sum_duplicates()
    few = np.arange(min(USERS, max(SAMPLE, CELLS // n_items)), dtype=np.int32)
    started = time.process_time()
    exact = rank(Products(vectors), few, seen, K, n_items)
    rate = len(few) / (time.process_time() - started)
    restart_peak()
    before, started = peak_memory(), time.process_time()
    index = Candidates(vectors)
    build = time.process_time() - started
    memory = peak_memory() - before
    sample = few[:SAMPLE]
    first = recall(index.top_k(sample, seen[sample], K)[0], exact[sample])
    index.widen(exact[sample], sample, seen[sample], RECALL)
    everybody = np.arange(USERS)
    started = time.process_time()
    found, _ = index.top_k(everybody, seen, K)
    by_index = USERS / (time.process_time() - started)
    return Found(rate, build, memory, first, recall(found[few], exact), index.width, by_index)


def row(n_items: int, found: Found) -> Row:
    """A line of the table; users from whom on an index is made sooner than they are ranked."""
    gain = 1 / found.exact - 1 / found.by_index
    return {
        "items": n_items, "exact [users/s]": found.exact, "index [users/s]": found.by_index,
        "times as fast": found.by_index / found.exact, "index made in [s]": found.build,
        "pays from [users]": round(found.build / gain) if gain > 0 else "-",
        "index [MiB]": found.memory / MIB, f"recall@{K} at first": found.first,
        f"recall@{K}": found.recall, "in view": found.width,
    }  # fmt: skip


def report(thousands: list[int]) -> Report:
    """All sizes."""
    rows, bars = list[Row](), list[Bar]()
    for n_items in (1000 * each for each in thousands):
        progress(f"{n_items:,} items")
        found: Found = measure(compare, n_items).result
        rows.append(row(n_items, found))
        if n_items >= 1_000_000:
            faster = found.by_index / found.exact
            bars.append(Bar(f"index over exact, {n_items:,} items", faster, FASTER, "times", True))
    table = Table(f"Lists of {K} from vectors of {DIMENSIONS} numbers, {SEEN} items masked", rows)
    note = (
        f"Recall is that of all users who were ranked exactly; the search was widened for {SAMPLE} "
        f"of them. Users a second are of one core. "
        f"index=auto takes an index from {MANY_ITEMS:,} items on."
    )
    return Report("Candidates by an index", [table], bars, [note])


def main() -> None:
    """Command line."""
    arguments = parser(__doc__)
    arguments.add_argument(
        "--thousands", type=int, nargs="+", default=list(THOUSANDS), help="of items"
    )
    given = arguments.parse_args()
    report(given.thousands).publish(given.json)


if __name__ == "__main__":
    main()
