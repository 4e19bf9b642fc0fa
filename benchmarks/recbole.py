"""Training NeuMF against RecBole 1.2.1, which has an environment of its own.

    python3.11 -m venv ENVIRONMENT
    ENVIRONMENT/bin/pip install torch==2.13.0
    ENVIRONMENT/bin/pip install --no-deps recbole==1.2.1
    ENVIRONMENT/bin/pip install 'numpy<2' 'pandas<3' scipy scikit-learn pyyaml tqdm colorlog \\
        colorama tabulate texttable plotly tensorboard psutil thop
    python -m benchmarks.recbole --python ENVIRONMENT/bin/python [--dataset ml-1m] [--json]

(RecBole's own pins ask for packages that Python 3.11 no longer has, and for ray, which only its
tuning needs.)

Both train the same network (8 GMF dimensions, layers 16-8, dropout .4) with BCE, Adam and one
uniform negative, on the same interactions. RecBole draws again what the user has in training; here
that is a setting (verified_negatives), which is measured with and without.

RecBole's train_batch_size counts negatives, too: 2048 means steps of 1024 positives and 1024
negatives. Steps are compared with steps of the same size: RecBole's default, and the notebook's
2048 positives.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.report import Bar, Report, Row, Table, parser, progress
from pipeline.data.dataset import Dataset
from pipeline.data.prepared import prepare
from pipeline.data.split_settings import SplitSettings
from pipeline.models.ncf import NCF, NCFSettings
from pipeline.training.trainer import Epoch

SCRIPT = Path(__file__).with_name("recbole_neumf.py")
NAME = "interactions"  # of the data, as RecBole knows them
DIMENSION, HIDDEN, DROPOUT, LEARNING_RATE = 8, 8, 0.4, 1e-4
POSITIVES = (1024, 2048)  # per step
TIMES = 5.0  # RecBole's speed: what we want
VERIFIED = {"this project": False, "this project, verified negatives": True}
THREADS = {1: "RecBole, 1 thread", 0: "RecBole, PyTorch's threads"}


def atomic(rows: pd.DataFrame) -> pd.DataFrame:
    """Interactions (user, item, rating, timestamp) with the columns of RecBole's .inter files."""
    types = {
        "user": "user_id:token",
        "item": "item_id:token",
        "rating": "rating:float",
        "timestamp": "timestamp:float",
    }
    return rows[list(types)].rename(columns=types)


def theirs(positives: int) -> dict[str, Any]:
    """The network and its training, as RecBole calls them."""
    return {
        "mf_embedding_size": DIMENSION,
        "mlp_embedding_size": HIDDEN,
        "mlp_hidden_size": [HIDDEN],
        "dropout_prob": DROPOUT,
        "learning_rate": LEARNING_RATE,
        "train_batch_size": 2 * positives,
        "train_neg_sample_args": {
            "distribution": "uniform",
            "sample_num": 1,
            "alpha": 1.0,
            "dynamic": False,
            "candidate_num": 0,
        },
    }


def ours(positives: int, verified: bool) -> NCFSettings:
    """The same, as this project calls them."""
    return NCFSettings.read(
        {
            "loss": "bce",
            "epochs": 1,
            "batch_size": positives,
            "learning_rate": LEARNING_RATE,
            "verified_negatives": verified,
            "embedding_dim": DIMENSION,
            "layers": (2 * HIDDEN, HIDDEN),
            "dropout": DROPOUT,
            "device": "cpu",
        },
        "RecBole's settings",
    )


class Foreign:
    """A process in RecBole's environment that trains an epoch when asked to."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process, self.log = process, log
        self.facts = self._answer()
        """positives and steps of an epoch, and the versions recbole and torch."""

    def epoch(self, threads: int) -> tuple[float, float]:
        """Seconds, and the mean loss of the steps."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{threads}\n")
        self.process.stdin.flush()
        answer = self._answer()
        return answer["seconds"], answer["loss_sum"] / self.facts["steps"]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"RecBole's process has ended: {self.log.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def foreign(python: str, script: Path, argument: dict[str, Any], folder: Path) -> Iterator[Foreign]:
    """``script`` with a JSON argument, run by ``python`` in ``folder``; ended in any case.

    Raises:
        RuntimeError: it has ended by itself, with what it said last.
    """
    log = folder / "recbole.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            # Isolated: without this script's folder, where a module is called recbole, too.
            [python, "-I", str(script), json.dumps(argument)],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
    with process:
        try:
            yield Foreign(process, log)
        finally:
            process.kill()


def first_epoch(dataset: Dataset, settings: NCFSettings) -> tuple[float, float]:
    """Seconds, and the mean loss of the steps, of the first epoch of NCF here."""
    epochs: list[Epoch] = []

    def note(epoch: Epoch) -> bool:
        epochs.append(epoch)
        return False

    NCF(settings, seed=42).fit(dataset, note)
    return epochs[0].seconds, epochs[0].loss


def compare(dataset: Dataset, python: str, positives: int, rounds: int) -> tuple[list[Row], str]:
    """A row per side, the best of ``rounds`` epochs, the sides taking turns; RecBole's versions."""
    taken: dict[str, list[tuple[float, float]]] = {side: [] for side in VERIFIED}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / NAME).mkdir()
        table = atomic(dataset.train)
        table.to_csv(folder / NAME / f"{NAME}.inter", sep="\t", index=False)
        argument = {"folder": temporary, "name": NAME, "settings": theirs(positives)}
        progress(f"{positives} positives a step: RecBole reads the data")
        with foreign(python, SCRIPT, argument, folder) as recbole:
            facts = recbole.facts
            if (facts["positives"], facts["steps"]) != (len(table), -(-len(table) // positives)):
                raise RuntimeError(f"RecBole trains on something else: {facts}")
            progress(f"{positives} positives a step: RecBole in one thread, in PyTorch's threads")
            first = {threads: recbole.epoch(threads) for threads in THREADS}
            threads = min(first, key=lambda tried: first[tried])
            rival = THREADS[threads]
            taken[rival] = []
            for number in range(rounds):
                progress(f"{positives} positives a step: round {number + 1}")
                for side, verified in VERIFIED.items():
                    taken[side].append(first_epoch(dataset, ours(positives, verified)))
                taken[rival].append(recbole.epoch(threads))
    best = {side: min(seconds for seconds, _ in epochs) for side, epochs in taken.items()}
    losses = {side: epochs[0][1] for side, epochs in taken.items()} | {rival: first[1][1]}
    rows: list[Row] = [
        {
            "positives a step": positives,
            "side": side,
            "epoch [s]": best[side],
            "positives/s": round(len(table) / best[side]),
            "times RecBole": best[rival] / best[side],
            "loss of epoch 1": losses[side],
        }
        for side in taken
    ]
    return rows, f"RecBole {facts['recbole']} on torch {facts['torch']}"


def report(name: str, python: str, rounds: int) -> Report:
    """The whole comparison on a named dataset."""
    dataset = prepare(name, SplitSettings()).dataset
    rows: list[Row] = []
    bars: list[Bar] = []
    for positives in POSITIVES:
        found, versions = compare(dataset, python, positives, rounds)
        rows += found
        bars += [
            Bar(
                f"{row['side']}, {positives:,} positives a step, over RecBole",
                float(row["times RecBole"]),
                TIMES,
                "times",
                at_least=True,
            )
            for row in found
            if row["side"] in VERIFIED
        ]
    table = Table(f"Training NeuMF on {dataset.name}, {len(dataset.train):,} positives", rows)
    note = (
        f"{versions}, its trainer's epochs without evaluation. Best of {rounds} epochs a side, "
        "taking turns; of this project always the first of a fit, in one thread. RecBole has the "
        "number of threads, one or PyTorch's own, that took less for an epoch before."
    )
    return Report("Training against RecBole", [table], bars, [note])


def main() -> None:
    """Command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--python", required=True, help="the Python that has RecBole")
    arguments.add_argument("--dataset", default="ml-1m", help="what to prepare and train on")
    arguments.add_argument("--rounds", type=int, default=4, help="epochs a side")
    given = arguments.parse_args()
    report(given.dataset, given.python, given.rounds).publish(given.json)


if __name__ == "__main__":
    main()
