"""An experiment, fitted: validated on its windows, then on all of training as those chose."""

from __future__ import annotations

import logging

from pipeline.config import Experiment
from pipeline.data.dataset import Dataset
from pipeline.evaluation.validation import Validation, Window, rolling_windows, validate
from pipeline.evaluation.warnings import Warned, warnings
from pipeline.models.base import Recommender
from pipeline.models.costs import announce
from pipeline.models.fitting import EpochDone
from pipeline.training.checkpoint import Journal

FINAL = "final"  # what the fit on all of training is called, beside those of windows

log = logging.getLogger("pipeline")


def validate_experiment(
    experiment: Experiment, dataset: Dataset, journal: Journal, on_epoch: EpochDone | None = None
) -> Validation:
    """Fit and evaluate the experiment's model on each of its windows of ``dataset``.

    The fit to all of ``dataset`` comes last and takes the most: what it will take is said first.

    Raises:
        UserError: there is not the memory for it, a window cannot be cut, or training diverged.
    """
    announce(experiment.recommender().cost(dataset))
    return validate(
        experiment.recommender,
        experiment_windows(experiment, dataset),
        metric=experiment.selection_metric,
        journal=journal,
        patience=experiment.params.model_dump().get("patience"),
        on_epoch=on_epoch,
    )


def experiment_windows(experiment: Experiment, dataset: Dataset) -> list[Window]:
    """The windows of ``dataset`` as the experiment is validated on them."""
    ks, own = experiment.k, experiment.own_metrics
    return rolling_windows(dataset, experiment.windows, ks, own, experiment.eval_users)


def chosen(experiment: Experiment, validation: Validation) -> Recommender:
    """The unfitted model, with the number of epochs that validation chose, where it has any."""
    changes = {} if validation.epochs is None else {"epochs": validation.epochs}
    return experiment.recommender(**changes)


def warned(experiment: Experiment, model: Recommender, validation: Validation) -> list[Warned]:
    """Why a fitted model is not the personal one that it is meant to be, each said in the log."""
    if not model.personal:
        return []
    settings = experiment.params.model_dump()
    found = warnings(experiment.selection_metric, settings, validation, model.collapsed())
    for each in found:
        log.warning("%s: %s", experiment.name, each.note)
    return found
