"""Processes that train one model: what each holds of its tables, and how long an epoch takes.

    python -m benchmarks.processes [--processes 2] [--millions 2] [--json]

The tables have so many embeddings of 32 numbers, a tenth of them items, and every user has two
interactions; all processes are on this machine, and speak through gloo.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
from multiprocessing.queues import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from benchmarks.fresh import peak_memory, restart_peak
from benchmarks.report import Report, Row, Table, parser, progress
from pipeline.data.dataset import Dataset
from pipeline.data.split_settings import SplitSettings
from pipeline.models.ncf import NCFSettings
from pipeline.models.neumf import NCFNetwork
from pipeline.training.follow import follow
from pipeline.training.method import Embeddings, Optimizer
from pipeline.training.processes import joined
from pipeline.training.trainer import Epoch, Trainer

WIDTH, OF_USERS, ITEM_SHARE = 32, 2, 10
PLAN: dict[str, Any] = {
    "embedding_dim": WIDTH, "layers": (), "epochs": 2, "batch_size": 8192, "device": "cpu",
}  # fmt: skip
Case = tuple[Optimizer, Embeddings]
CASES: tuple[Case, ...] = (
    ("adam", "replicated"), ("lazy_adam", "replicated"), ("lazy_adam", "sharded"),
)  # fmt: skip


class Took(NamedTuple):
    """What one process took, beyond interpreter and imports."""

    rank: int
    start: int
    """Bytes at the peak before the first step."""
    fit: int
    """At the peak from then on."""
    seconds: float
    """Of the quickest epoch; of the first process alone."""


def drawn(embeddings: int) -> Dataset:
    """So many users and items, whose interactions are drawn."""
    n_items = embeddings // ITEM_SHARE
    n_users = embeddings - n_items
    items = np.random.default_rng(0).integers(n_items, size=OF_USERS * n_users, dtype=np.int32)
    users = np.repeat(np.arange(n_users, dtype=np.int32), OF_USERS)
    train = pd.DataFrame({"user": users, "item": items})
    catalogue = pd.DataFrame({"item": np.arange(n_items)})
    return Dataset("drawn", SplitSettings(), "drawn", train[["user"]], catalogue, train, train[:0])


def lead(embeddings: int, settings: NCFSettings) -> tuple[int, float]:
    """Lead a fit: the peak before its steps, and the seconds of an epoch."""
    dataset, times = drawn(embeddings), list[float]()
    generator = torch.Generator().manual_seed(0)
    network = NCFNetwork(dataset.n_users, dataset.n_items, settings, generator)
    trainer = Trainer(network, dataset, settings, generator)
    start = peak_memory()
    restart_peak()

    def note(epoch: Epoch) -> bool:
        times.append(epoch.seconds)
        return False

    trainer.run(note)
    return start, min(times)


def take_part(
    answers: SimpleQueue[Took], rank: int, processes: int, port: int, embeddings: int, case: Case
) -> None:
    """One of the processes, which torchrun would start."""
    ranks = dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank))
    sizes = dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes))
    os.environ.update(ranks | sizes, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    before, start, seconds = peak_memory(), 0, 0.0
    if rank:
        follow()
    else:
        optimizer, placed = case
        settings = NCFSettings.model_validate(
            PLAN | {"optimizer": optimizer, "embeddings": placed, "shards": processes}
        )
        with joined():
            start, seconds = lead(embeddings, settings)
    answers.put(Took(rank, start - before, peak_memory() - before, seconds))


def row(processes: int, embeddings: int, case: Case) -> Row:
    """A line of the table."""
    context = multiprocessing.get_context("spawn")
    answers: SimpleQueue[Took] = context.SimpleQueue()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = (processes, port, embeddings, case)
    started = [
        context.Process(target=take_part, args=(answers, rank, *given)) for rank in range(processes)
    ]
    for process in started:
        process.start()
    first, *others = sorted(answers.get() for _ in started)
    for process in started:
        process.join()
    numbers = WIDTH * embeddings
    return {
        "optimizer": case[0],
        "embeddings": case[1],
        "first, at the start [bytes a number]": first.start / numbers,
        "first, in the fit": first.fit / numbers,
        "another": max(other.fit for other in others) / numbers,
        "epoch [s]": first.seconds,
    }


def report(processes: int, embeddings: int) -> Report:
    """A row for each case."""
    rows = list[Row]()
    for case in CASES:
        progress(" ".join(case))
        rows.append(row(processes, embeddings, case))
    return Report(
        "Processes that train one model",
        [Table(f"{embeddings:,} embeddings of {WIDTH} numbers on {processes} processes", rows)],
        notes=[f"{OF_USERS} interactions of each user, one negative each, in batches of 8,192."],
    )


def main() -> None:
    """Command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--processes", type=int, default=2)
    arguments.add_argument("--millions", type=float, default=2, help="of embeddings")
    given = arguments.parse_args()
    report(given.processes, int(1e6 * given.millions)).publish(given.json)


if __name__ == "__main__":
    main()
