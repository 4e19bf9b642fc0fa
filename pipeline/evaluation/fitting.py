"""An experiment, fitted: validated on its windows, then on all of training as those chose."""

from __future__ import annotations

from pipeline.config import Experiment
from pipeline.data.dataset import Dataset
from pipeline.evaluation.validation import Validation, rolling_windows, validate
from pipeline.models.base import Recommender
from pipeline.models.fitting import EpochDone
from pipeline.training.checkpoint import Journal

FINAL = "final"  # what the fit on all of training is called, beside those of windows


def validate_experiment(
    experiment: Experiment, dataset: Dataset, journal: Journal, on_epoch: EpochDone | None = None
) -> Validation:
    """Fit and evaluate the experiment's model on each of its windows of ``dataset``.

    Raises:
        UserError: a window cannot be cut, or training diverged.
    """
    return validate(
        experiment.recommender,
        rolling_windows(dataset, experiment.windows, experiment.k, experiment.own_metrics),
        metric=experiment.selection_metric,
        journal=journal,
        patience=experiment.params.model_dump().get("patience"),
        on_epoch=on_epoch,
    )


def chosen(experiment: Experiment, validation: Validation) -> Recommender:
    """The unfitted model, with the number of epochs that validation chose, where it has any."""
    changes = {} if validation.epochs is None else {"epochs": validation.epochs}
    return experiment.recommender(**changes)
