"""Training and evaluating NCF on a GPU, against targets and against what the device can do.

    python -m benchmarks.gpu [--device cuda] [--small] [--json]

It needs torch and NumPy alone. Interactions are generated in the sizes of MovieLens-1M and of
MovieLens-20M. Samples are counted as NVIDIA counts them: positives and negatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks.device import epochs, interactions, seconds
from benchmarks.gpu_estimates import H100, evaluation_seconds, step_seconds
from benchmarks.gpu_floors import Rates, floors, rates
from benchmarks.gpu_ranking import evaluate, held_out
from benchmarks.gpu_runs import EVERY, FULL, PRECISIONS, SMALL, Run, Scale
from benchmarks.report import Bar, Report, Row, Table, parser, progress
from pipeline.models.neumf import NCFNetwork
from pipeline.training.loop import TrainingLoop

EPOCH_SECONDS, SAMPLES, EVALUATION_MS = 0.1, 60.0, 50.0  # the bars


@dataclass(frozen=True)
class Measured:
    """The best epoch of a run."""

    run: Run
    side: str
    replayed: bool
    """Whether its steps came from a graph."""
    seconds: float
    loss: float

    @property
    def step(self) -> float:
        """Seconds of a step, the last and smaller one counted as a part."""
        return self.seconds / (self.run.size.interactions / self.run.plan.batch_size)

    @property
    def samples(self) -> float:
        """Millions per second, positives and negatives."""
        return self.run.size.interactions * (1 + self.run.plan.negatives) / self.seconds / 1e6

    def row(self) -> Row:
        """For a table."""
        return {
            "run": self.run.name,
            "steps": self.side,
            "precision": self.run.plan.precision,
            "epoch [s]": self.seconds,
            "step [µs]": self.step * 1e6,
            "samples/s [M]": self.samples,
            "loss": self.loss,
        }


def measure(run: Run, sides: dict[str, TrainingLoop], rounds: int, device: str) -> list[Measured]:
    """The best epoch of each side, which take turns; the first of each is not timed."""
    taken: dict[str, list[float]] = {side: [] for side in sides}
    losses = {side: made.run() for side, made in sides.items()}
    for _ in range(rounds):
        for side, made in sides.items():
            taken[side].append(seconds(made.run, device))
    return [
        Measured(run, side, _replayed(made), min(taken[side]), float(losses[side].mean()))
        for side, made in sides.items()
    ]


def _replayed(made: TrainingLoop) -> bool:
    return made.replayed is not None and made.replayed.replay is not None


def training(scale: Scale, device: str) -> list[Measured]:
    """Many small steps with and without a graph, then large ones in each precision."""
    many, large = scale.many_steps, scale.large_steps
    progress(many.name)
    sides = {"kernel by kernel": epochs(many.size, many.plan, device)}
    sides["kernel by kernel"].replayed = None
    if device == "cuda":
        sides["graph"] = epochs(many.size, many.plan, device)
    found = measure(many, sides, scale.rounds, device)
    for precision in PRECISIONS[device]:  # one at a time: each takes a good part of the memory
        progress(f"{large.name}, {precision}")
        run = replace(large, plan=replace(large.plan, precision=precision))
        side = "graph" if device == "cuda" else "kernel by kernel"
        made = {side: epochs(run.size, run.plan, device)}
        found += measure(run, made, min(scale.rounds, 2), device)
    return found


def evaluation(run: Run, rounds: int, device: str) -> Row:
    """Ranking the whole catalogue for all users."""
    progress("evaluation")
    torch.manual_seed(0)
    network = NCFNetwork(run.size.users, run.size.items, run.plan).to(device)
    users, items = (part.to(device) for part in interactions(run.size))
    held = held_out(users, items, run.size.users, run.size.items, EVERY)
    metrics = evaluate(network, held)
    taken = min(seconds(lambda: evaluate(network, held), device) for _ in range(rounds))
    names = ("hit rate", "precision", "recall", "NDCG")
    return {
        "users": run.size.users,
        "items": run.size.items,
        "time [ms]": 1000 * taken,
        "estimate, H100 [ms]": 1000 * evaluation_seconds(run),
        **dict(zip(names, metrics, strict=True)),
    }


def table_of_rates(measured: Rates) -> Table:
    """What the device was seen to do, and what estimates take an H100 to do."""
    pairs = [("copy [GB/s]", measured.bytes / 1e9, H100.bytes / 1e9)]
    for precision, flops in measured.flops.items():
        name = f"matrix product, {precision} [TFLOP/s]"
        pairs.append((name, flops / 1e12, H100.flops[precision] / 1e12))
    pairs.append(("a kernel from Python [µs]", measured.launch * 1e6, H100.launch * 1e6))
    if measured.node is not None and H100.node is not None:
        pairs.append(("a kernel in a graph [µs]", measured.node * 1e6, H100.node * 1e6))
    rows: list[Row] = [
        {"what": what, "measured": found, "assumed of an H100": assumed}
        for what, found, assumed in pairs
    ]
    return Table("What the device does", rows)


def against_floors(found: Sequence[Measured], measured: Rates) -> Table:
    """Every run's step beside what it cannot be quicker than, and what it was thought to take."""
    rows: list[Row] = []
    for each in found:
        least = floors(each.run.size, each.run.plan, measured, each.replayed)
        estimate = step_seconds(each.run.size, each.run.plan, each.replayed)
        rows.append(
            {
                "run": each.run.name,
                "steps": each.side,
                "precision": each.run.plan.precision,
                "step [µs]": each.step * 1e6,
                "memory [µs]": least.memory * 1e6,
                "arithmetic [µs]": least.arithmetic * 1e6,
                "launches [µs]": least.launches * 1e6,
                "times the highest": each.step / least.highest,
                "estimate, H100 [µs]": estimate * 1e6,
                "times the estimate": each.step / estimate,
            }
        )
    return Table("A step against its floors", rows)


def report(scale: Scale, device: str) -> Report:
    """Every table; the bars are for the full sizes alone."""
    progress("what the device does")
    measured = rates(device, PRECISIONS[device], scale.copied_megabytes, scale.matrix_width)
    found = training(scale, device)
    ranked = evaluation(scale.many_steps, scale.rounds, device)
    tables = [
        Table("Training", [each.row() for each in found]),
        Table("Full evaluation", [ranked]),
        table_of_rates(measured),
        against_floors(found, measured),
    ]
    bars = []
    if scale is FULL:
        small = min(each.seconds for each in found if each.run is scale.many_steps)
        large = max(
            (each for each in found if each.run is not scale.many_steps),
            key=lambda each: each.samples,
        )
        name = f"{large.run.name}, {large.run.plan.precision}, samples per second"
        bars = [
            Bar(f"an epoch of {scale.many_steps.name}", small, EPOCH_SECONDS, "s"),
            Bar(name, large.samples, SAMPLES, "M", at_least=True),
            Bar("full evaluation of ML-1M", float(ranked["time [ms]"]), EVALUATION_MS, "ms"),
        ]
    return Report("NCF on one device", tables, bars, notes(scale.rounds))


def notes(rounds: int) -> list[str]:
    """What a reader needs to know."""
    return [
        f"Best of {rounds} epochs (at the larger size of two) after one that is not timed, from "
        "the host's call until the device is done. Interactions are generated. Samples are "
        "positives and negatives. The memory floor counts embeddings, their gradients and Adam, "
        "and no activations; the launch floor the operations of a step that are no views. "
        "Estimates are of an H100 (benchmarks.gpu_estimates)."
    ]


def main() -> None:
    """Command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--device", choices=list(PRECISIONS), default="cuda")
    arguments.add_argument("--small", action="store_true", help="tiny sizes, to see that it runs")
    given = arguments.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        arguments.error("PyTorch finds no CUDA device here; --device cpu --small shows the tables")
    report(SMALL if given.small else FULL, given.device).publish(given.json)


if __name__ == "__main__":
    main()
