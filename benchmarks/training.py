"""Training against the notebook's loop: positives per second, loss after an epoch, memory.

    python -m benchmarks.training [--dataset ml-1m] [--rounds 2] [--json]

Both train the same network (8 GMF dimensions, layers 16-8, dropout .4) with BPR on sigmoid outputs
and one uniform negative, on the same interactions. "plain tensors" is the notebook's network and
optimizer fed from tensors, without Dataset and DataLoader: what one gets by mending the loop alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch.utils.data import DataLoader

from benchmarks import notebook
from benchmarks.fresh import MIB, measure
from benchmarks.report import Bar, Report, Row, Table, parser, progress
from pipeline.data.dataset import Dataset
from pipeline.data.prepared import prepare
from pipeline.data.split_settings import SplitSettings
from pipeline.models.ncf import NCF, NCFSettings
from pipeline.training.trainer import Epoch

DIMENSION, LAYERS, DROPOUT = 8, (16, 8), 0.4
LEARNING_RATE = WEIGHT_DECAY = 1e-4
RATIOS = {2048: 12.0, 16_384: 20.0}  # batch size: the times over the loop that we want
MEMORY_MIB = 400.0

Side = Iterator[tuple[float, float]]
"""Epochs as they are asked for: seconds, and the sum of the batches' losses."""


def notebook_loop(dataset: Dataset, batch_size: int) -> Side:
    """Epochs of the notebook's loop, with PyTorch's threads as they are."""
    rows = dataset.train
    users, items = rows["user"].to_numpy(), rows["item"].to_numpy()
    samples = notebook.Interactions(users, items, dataset.n_items)
    loader = DataLoader(samples, batch_size, shuffle=True, collate_fn=notebook.collate)
    return _notebook_epochs(dataset, lambda: iter(loader))


def plain_tensors(dataset: Dataset, batch_size: int) -> Side:
    """Epochs of the notebook's network on tensors that are shuffled and drawn at once."""
    rows = dataset.train
    users, items = (torch.tensor(rows[name].to_numpy()).long() for name in ("user", "item"))

    def batches() -> Iterator[notebook.Batch]:
        order = torch.randperm(len(users))
        drawn = torch.randint(dataset.n_items, (len(users), 1))
        parts = (users[order], items[order], drawn)
        return zip(*(part.split(batch_size) for part in parts), strict=True)

    return _notebook_epochs(dataset, batches)


def _notebook_epochs(dataset: Dataset, batches: Callable[[], Iterator[notebook.Batch]]) -> Side:
    model = notebook.NeuMF(dataset.n_users, dataset.n_items, DIMENSION, LAYERS, DROPOUT)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    while True:
        started = time.perf_counter()
        loss = notebook.train_epoch(model, batches(), optimizer)
        yield time.perf_counter() - started, loss


def this_project(dataset: Dataset, batch_size: int) -> Side:
    """Epochs of NCF as an experiment trains it; they are run three at a time, the best counts."""
    while True:
        epochs: list[Epoch] = []

        def note(epoch: Epoch, seen: list[Epoch] = epochs) -> bool:
            seen.append(epoch)
            return False

        NCF(settings(batch_size, epochs=3), seed=42).fit(dataset, note)
        yield min(epoch.seconds for epoch in epochs), epochs[0].loss_sum


def settings(batch_size: int, epochs: int) -> NCFSettings:
    """The notebook's network and training."""
    return NCFSettings.read(
        {
            "loss": "bpr_sigmoid",
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": LEARNING_RATE,
            "weight_decay": WEIGHT_DECAY,
            "embedding_dim": DIMENSION,
            "layers": LAYERS,
            "dropout": DROPOUT,
            "device": "cpu",
        },
        "the notebook's settings",
    )


SIDES = {
    "notebook's loop": notebook_loop,
    "plain tensors": plain_tensors,
    "this project": this_project,
}


def compare(dataset: Dataset, batch_size: int, rounds: int) -> list[Row]:
    """A row per side: the best of ``rounds`` epochs, all sides taking turns."""
    sides = {name: make(dataset, batch_size) for name, make in SIDES.items()}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, epochs in sides.items():
            progress(f"batch {batch_size}: {name}")
            taken[name].append(next(epochs))
    best = {name: min(seconds for seconds, _ in runs) for name, runs in taken.items()}
    steps = -(-len(dataset.train) // batch_size)
    return [
        {
            "batch": batch_size,
            "side": name,
            "epoch [s]": best[name],
            "positives/s": round(len(dataset.train) / best[name]),
            "times the loop": best["notebook's loop"] / best[name],
            "loss of epoch 1": runs[0][1] / steps,
        }
        for name, runs in taken.items()
    ]


def train_once(name: str) -> None:
    """What the memory is measured of: load the prepared dataset and train two epochs."""
    NCF(settings(2048, epochs=2), seed=42).fit(prepare(name, SplitSettings()).dataset)


def report(name: str, rounds: int) -> Report:
    """The whole comparison on a named dataset."""
    dataset = prepare(name, SplitSettings()).dataset
    rows = [row for size in RATIOS for row in compare(dataset, size, rounds)]
    ours = {row["batch"]: row for row in rows if row["side"] == "this project"}
    bars = [
        Bar(
            f"positives per second at batch {size:,}, against the notebook's loop",
            float(ours[size]["times the loop"]),
            limit,
            "times",
            at_least=True,
        )
        for size, limit in RATIOS.items()
    ]
    progress("memory")
    memory = measure(train_once, name)
    bars.append(
        Bar(
            "peak memory of loading and training, less the imports",
            (memory.peak - memory.before) / MIB,
            MEMORY_MIB,
            "MiB",
        )
    )
    table = Table(f"Training NCF on {dataset.name}, {len(dataset.train):,} positives", rows)
    note = (
        f"Best of {rounds} epochs a side, taking turns; this project trains three at a time. It "
        "takes one thread at these sizes, the others PyTorch's number of threads."
    )
    return Report("Training on a CPU", [table], bars, [note])


def main() -> None:
    """Command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--dataset", default="ml-1m", help="what to prepare and train on")
    arguments.add_argument("--rounds", type=int, default=2, help="epochs a side")
    given = arguments.parse_args()
    report(given.dataset, given.rounds).publish(given.json)


if __name__ == "__main__":
    main()
