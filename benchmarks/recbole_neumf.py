"""RecBole's NeuMF, an epoch for every line that comes in; run by benchmarks.recbole.

It runs in RecBole's own environment, so nothing of this project is imported. The only argument is
JSON: the ``folder`` and ``name`` of the data, in RecBole's atomic files, and RecBole's
``settings``. A line on stdin is PyTorch's number of threads for the next epoch, 0 for its own.
Answers are lines of JSON on stdout: first the positives and steps of an epoch and the versions,
then, per epoch, its seconds and the sum of the steps' losses.
"""

from __future__ import annotations

import json
import sys
import time

import recbole
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.general_recommender import NeuMF
from recbole.trainer import Trainer

ALL_FOR_TRAINING = {
    "load_col": {"inter": ["user_id", "item_id"]},
    "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "RO", "group_by": "none", "mode": "full"},
    "use_gpu": False,
    "show_progress": False,
}


def main() -> None:
    """Prepare as RecBole's quick start does, then time its trainer's epochs."""
    asked = json.loads(sys.argv[1])
    answers, sys.stdout = sys.stdout, sys.stderr  # RecBole prints, too
    sys.argv = sys.argv[:1]  # it reads settings from there
    settings = {**ALL_FOR_TRAINING, **asked["settings"], "data_path": asked["folder"]}
    config = Config(model=NeuMF, dataset=asked["name"], config_dict=settings)
    dataset = create_dataset(config)
    batches, _, _ = data_preparation(config, dataset)
    trainer = Trainer(config, NeuMF(config, batches.dataset))

    def answer(**content: object) -> None:
        print(json.dumps(content), file=answers, flush=True)

    answer(
        positives=dataset.inter_num,
        steps=len(batches),
        recbole=recbole.__version__,
        torch=torch.__version__,
    )
    own = torch.get_num_threads()
    for number, line in enumerate(sys.stdin):
        torch.set_num_threads(int(line) or own)
        started = time.perf_counter()
        loss_sum = trainer._train_epoch(batches, number)
        answer(seconds=time.perf_counter() - started, loss_sum=loss_sum)


if __name__ == "__main__":
    main()
