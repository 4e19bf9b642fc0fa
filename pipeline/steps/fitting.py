"""The fits of a run: a model per validation window, then one on all of training.

Every epoch is shown, logged and journalled, so that a run that was killed goes on from its last.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, Self

from pipeline.config import Experiment
from pipeline.console import ProgressBar, waiting
from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from pipeline.evaluation.fitting import FINAL, chosen, validate_experiment
from pipeline.evaluation.validation import Validation
from pipeline.models import fitting
from pipeline.models.base import Recommender
from pipeline.process import lock
from pipeline.tracking.runs import Run
from pipeline.training.checkpoint import EpochMetrics, Journal

CHECKPOINTS = Path("data") / "checkpoints"
CHECKPOINT = "checkpoint.pt"

log = logging.getLogger("pipeline")


def one_writer(run: Run) -> AbstractContextManager[None]:
    """Keeps others on this machine from training the same run meanwhile.

    Raises:
        UserError: somebody does it already.
    """
    return lock(CHECKPOINTS / run.id / "lock", f"run {run.id}")


def open_journal(run: Run, *, resuming: bool) -> Journal:
    """The journal of a run's fits: new, or with what they have done so far.

    Raises:
        UserError: the checkpoint to resume from cannot be read.
    """
    path = CHECKPOINTS / run.id / CHECKPOINT
    path.parent.mkdir(parents=True, exist_ok=True)
    if not resuming:
        return Journal(path)
    if not path.exists():  # killed before its first epoch, or on another machine
        try:
            run.fetch(f"checkpoint/{CHECKPOINT}", path.parent).replace(path)
        except UserError:
            log.warning("Run %s has no checkpoint yet: it starts from the beginning.", run.id)
            return Journal(path)
    return Journal.load(path)


def fit(
    experiment: Experiment, dataset: Dataset, run: Run, journal: Journal
) -> tuple[Recommender, Validation]:
    """The model, fitted with the number of epochs that validation chose, and what that found.

    Raises:
        UserError: training diverged.
    """
    params = experiment.params.model_dump()
    name = experiment.name
    with (
        _Watch(name, run, params.get("epochs")) as watch,
        _shown(f"Validating {name}", params),
    ):
        validation = validate_experiment(experiment, dataset, journal, watch)
    model = chosen(experiment, validation)
    with (
        _Watch(name, run, validation.epochs or params.get("epochs")) as watch,
        _shown(f"Fitting {name}", params),
    ):
        fitting.fit(model, dataset, FINAL, journal, on_epoch=watch)
    return model, validation


def _shown(what: str, params: Mapping[str, Any]) -> AbstractContextManager[None]:
    """A clock for what has no epochs to be counted."""
    return nullcontext() if "epochs" in params else waiting(what)


class _Watch:
    """Shows and logs every epoch of the fits of a run, each in one batch.

    A window of a model without epochs has one value, which is logged with the mean, after it: pages
    of MLflow's that compare runs begin with the metric that was logged first.
    """

    def __init__(self, title: str, run: Run, epochs: int | None) -> None:
        self.title, self.run, self.epochs = title, run, epochs
        self.stack = ExitStack()
        self.fit: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def __call__(self, fit: str, number: int, record: EpochMetrics) -> None:
        if self.epochs is None and fit != FINAL:
            return
        prefix = "train" if fit == FINAL else f"val/{fit}"
        metrics = {f"{prefix}/{name}": value for name, value in record.items()}
        if fit != self.fit:
            self.stack.close()
            self.fit, self.logged = fit, self.run.steps_logged(next(iter(metrics)))
            if self.epochs is not None:
                progress = ProgressBar(f"{self.title} {fit}", self.epochs, "epoch")
                self.progress = self.stack.enter_context(progress)
        if number not in self.logged:  # a resumed run may do its last epoch again
            self.run.log_metrics(metrics, number)
        if self.epochs is not None:
            ndcg = next((f", {name} {record[name]:.4f}" for name in record if "ndcg" in name), "")
            self.progress.done(number, f"loss {record['loss']:.4f}{ndcg}")
