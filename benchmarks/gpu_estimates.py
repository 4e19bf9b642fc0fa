"""What NCF should take on an H100, reckoned from what it does: estimates, and no measurements.

    python -m benchmarks.gpu_estimates [--json]

Every operation of a step is seen on torch's meta device (``gpu_audit``) and takes a while to begin
and then the longest of three: its bytes through memory, its flops through the tensor cores, and the
numbers that it adds one by one through the L2 cache. None is quicker than the smallest kernel, or,
where kernels are launched one by one, than its launch. Python's and autograd's own time, and what
is done once an epoch, are left out. ``benchmarks.gpu`` shows the same beside what it measures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch

from benchmarks.device import Size
from benchmarks.gpu_audit import DEVICE, Audit, Operation, ncf, step_of_ncf
from benchmarks.gpu_floors import Rates
from benchmarks.gpu_ranking import evaluate, held_out
from benchmarks.gpu_runs import EVERY, FULL, PRECISIONS, Run
from benchmarks.report import Report, Row, Table, parser
from pipeline.models.neumf import NCFMethod
from pipeline.training.method import Precision

# As an H100 SXM was seen to copy, to multiply large matrices and to do nothing, in November 2026.
H100 = Rates(
    bytes=2.94e12,
    flops={"float32": 51e12, "tf32": 440e12, "bf16": 880e12},
    launch=7e-6,
    node=1.2e-6,
)
SMALLEST = 3e-6  # seconds of a kernel in a graph, however little it does: 145 µs were of 45 kernels
SCATTERED = 120e9  # numbers a second that are added one by one, by rows: 112 and 128 were seen
BESIDE = 5  # kernels that a step from a graph launches beside it


def seconds(operations: Iterable[Operation], precision: Precision, replayed: bool) -> float:
    """What these operations take one after another, from a graph or launched one by one."""
    assert H100.node is not None
    least, total = SMALLEST if replayed else H100.launch, 0.0
    for each in operations:
        bound = max(
            each.bytes / H100.bytes, each.flops / H100.flops[precision], each.scattered / SCATTERED
        )
        total += max(least, H100.node + bound)
    return total


def step_seconds(size: Size, plan: NCFMethod, replayed: bool) -> float:
    """A step on a full batch."""
    beside = BESIDE * (SMALLEST if replayed else H100.launch)
    return beside + seconds(step_of_ncf(size, plan).operations, plan.precision, replayed)


def evaluation_seconds(run: Run) -> float:
    """The full evaluation of ``benchmarks.gpu``, kernel by kernel."""
    network = ncf(run.size, run.plan)
    users, items = torch.empty(2, run.size.interactions, dtype=torch.int64, device=DEVICE)
    with Audit():
        held = held_out(users, items, run.size.users, run.size.items, EVERY)
    audit = Audit()
    with audit:
        evaluate(network, held)
    return seconds(audit.operations, "float32", replayed=False)


def row(run: Run, replayed: bool) -> Row:
    """What a step is made of, and what comes of it."""
    done = step_of_ncf(run.size, run.plan).operations
    step = step_seconds(run.size, run.plan, replayed)
    epoch = step * run.size.interactions / run.plan.batch_size
    return {
        "run": run.name,
        "steps": "graph" if replayed else "kernel by kernel",
        "precision": run.plan.precision,
        "operations": len(done),
        "memory [GB]": sum(each.bytes for each in done) / 1e9,
        "products [GFLOP]": sum(each.flops for each in done) / 1e9,
        "step [µs]": step * 1e6,
        "epoch [s]": epoch,
        "samples/s [M]": run.size.interactions * (1 + run.plan.negatives) / epoch / 1e6,
    }


def report() -> Report:
    """Both runs of the benchmark in full size."""
    many, large = FULL.many_steps, FULL.large_steps
    rows = [row(many, replayed) for replayed in (False, True)]
    for precision in PRECISIONS["cuda"]:
        rows.append(row(replace(large, plan=replace(large.plan, precision=precision)), True))
    took = f"{1000 * evaluation_seconds(many):.1f} ms"
    note = f"The full evaluation of {many.name.partition(',')[0]} is estimated at {took}."
    return Report("Estimates for an H100, not measured", [Table("A step", rows)], [], [note])


def main() -> None:
    """Command line."""
    report().publish(parser(__doc__).parse_args().json)


if __name__ == "__main__":
    main()
