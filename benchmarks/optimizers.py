"""Adam on all embeddings against lazy_adam on those of a batch, as tables grow with the data.

    python -m benchmarks.optimizers [--largest 25] [--json]

Users, items and interactions double together, up to the shape of ML-25M, and the batch does not. A
step is timed, and an epoch reckoned from it: what an epoch does beside its steps, shuffling and
drawing negatives, is the same for both and small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.device import PLAN, Size, epochs, seconds
from benchmarks.generated import ML_25M
from benchmarks.report import Bar, Report, Row, Table, parser, progress
from benchmarks.scale import LINEAR, exponent, shapes
from pipeline.training.method import Optimizer
from pipeline.training.optimizers.lazy_adam import LazyAdam
from pipeline.training.threads import one_thread

OPTIMIZERS: tuple[Optimizer, Optimizer] = ("adam", "lazy_adam")
STEPS, ROUNDS = 100, 7
TIMES = 3.0  # an epoch of ML-25M's shape: the bar
TRAINED = 0.8  # of the interactions, which the split leaves to train on


def step_seconds(size: Size, steps: int, rounds: int) -> dict[Optimizer, float]:
    """Of each optimizer at tables of ``size``, the best of rounds of so many steps in turn."""
    some = replace(size, interactions=steps * PLAN.batch_size)
    made = {
        name: epochs(some, replace(PLAN, dropout=0.0, optimizer=name), "cpu") for name in OPTIMIZERS
    }
    with one_thread():
        taken = [
            {name: seconds(loop.run, "cpu") / steps for name, loop in made.items()}
            for _ in range(rounds)
        ]
    return {name: min(each[name] for each in taken) for name in OPTIMIZERS}


def auto(size: Size) -> Optimizer:
    """What ``auto`` takes at tables of ``size``."""
    made = epochs(replace(size, interactions=1), PLAN, "cpu").optimizer
    return "lazy_adam" if isinstance(made, LazyAdam) else "adam"


def report(sizes: Sequence[Size], steps: int = STEPS, rounds: int = ROUNDS) -> Report:
    """A row for each size; the bars are for the last, and for the growth of lazy_adam."""
    rows: list[Row] = []
    lazy: list[float] = []
    for size in sizes:
        progress(f"{size.users:,} users, {size.items:,} items")
        taken, name = step_seconds(size, steps, rounds), auto(size)
        count = size.interactions / PLAN.batch_size
        lazy.append(count * taken["lazy_adam"])
        rows.append(
            {
                "interactions": size.interactions,
                "users": size.users,
                "items": size.items,
                **{f"{each}, step [ms]": 1e3 * taken[each] for each in OPTIMIZERS},
                **{f"{each}, epoch [s]": count * taken[each] for each in OPTIMIZERS},
                "times as fast": taken["adam"] / taken["lazy_adam"],
                "auto": name,
            }
        )
    bars = [
        Bar("lazy_adam over adam", taken["adam"] / taken["lazy_adam"], TIMES, "times", True),
        Bar("exponent of lazy_adam", exponent([each.interactions for each in sizes], lazy), LINEAR),
    ]
    note = (
        f"NCF, BPR, batch {PLAN.batch_size:,}, one thread; the best of {rounds} rounds of {steps} "
        f"steps, taking turns. Interactions are those that the split leaves to train on, "
        f"{TRAINED:.0%} of all, and the exponent is over them."
    )
    return Report("Adam and lazy_adam", [Table("An epoch", rows)], bars, [note])


def main() -> None:
    """Command line."""
    arguments = parser(__doc__)
    largest = ML_25M.interactions / 1e6
    arguments.add_argument("--largest", type=float, default=largest, help="million interactions")
    given = arguments.parse_args()
    proportional, _ = shapes(given.largest)
    sizes = [
        Size(each.users, each.items, round(TRAINED * each.interactions)) for each in proportional
    ]
    report(sizes).publish(given.json)


if __name__ == "__main__":
    main()
