"""Where those who enter a backtest come from: finished runs, or experiment files."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.compare.entrants import Entrant
from pipeline.config import Experiment
from pipeline.data.raw.reading import Reading
from pipeline.errors import UserError
from pipeline.steps.inputs import Inputs
from pipeline.tracking.runs import Run


def of_run(run: Run, inputs: Inputs) -> Entrant:
    """The settings of a finished run, with the number of epochs that it chose and no windows.

    Raises:
        UserError: the run is not finished.
    """
    if run.status != "FINISHED":
        raise UserError(f"Run {run.id} is {run.status}: expected a finished run of train.")
    chosen = run.metrics.get("val/epochs")
    changes = {} if chosen is None else {"epochs": int(chosen), "patience": None}
    params = inputs.experiment.params.model_copy(update=changes)
    return Entrant(inputs.experiment.model_copy(update={"params": params, "windows": ()}), run.id)


def of_file(experiment: Experiment) -> Entrant:
    """The settings of an experiment file.

    What learns in epochs keeps its windows, which lie inside the training part of each cut, since
    its epochs are still to be chosen; nothing else has a use for them.
    """
    if "epochs" in experiment.params.model_dump():
        return Entrant(experiment)
    return Entrant(experiment.model_copy(update={"windows": ()}))


def data_of(entrants: Sequence[tuple[Run, Inputs]]) -> tuple[str, Reading]:
    """The dataset that runs were made on, and how it was read.

    Raises:
        UserError: there are several.
    """
    found = {(inputs.dataset, inputs.reading) for _, inputs in entrants}
    if len(found) > 1:
        names = ", ".join(sorted({dataset for dataset, _ in found}))
        raise UserError(
            f"The runs were made on different data, or read it differently ({names}): expected "
            f"runs on one dataset. Give --dataset for the one to refit all of them on."
        )
    return found.pop()
