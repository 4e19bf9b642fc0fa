"""train: validate on windows, fit on all of training, log what happened and the model."""

from __future__ import annotations

import logging
import shutil
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from pipeline.config import Experiment
from pipeline.console import show_next
from pipeline.data.prepared import Prepared
from pipeline.errors import LostError, UserError
from pipeline.evaluation.fitting import warned
from pipeline.evaluation.validation import Validation, window_name
from pipeline.evaluation.warnings import WARNING, WARNING_NOTE
from pipeline.models.base import Recommender
from pipeline.models.costs import announce
from pipeline.outbox.contents import Contents, listed
from pipeline.settings import AUTO
from pipeline.steps.environment import (
    ENVIRONMENT,
    chosen_device,
    log_environment,
    note_device,
    on_processes,
    on_this_machine,
    say_device,
)
from pipeline.steps.fitting import CHECKPOINTS, fit, one_writer, open_journal
from pipeline.steps.identity import step_key
from pipeline.steps.inputs import ARTIFACT, Inputs
from pipeline.steps.notes import describe, remember_popularity
from pipeline.steps.prepare import title_key
from pipeline.tracking.datasets import dataset_tags, log_dataset, settled
from pipeline.tracking.hints import command
from pipeline.tracking.models import NAME, log_model
from pipeline.tracking.runs import NOTE, Run
from pipeline.tracking.search import STEP_KEY, find_finished
from pipeline.tracking.store import delivering
from pipeline.tracking.track import track

TRAIN = "train"
VALIDATION = "validation.json"

log = logging.getLogger("pipeline")


@dataclass(frozen=True)
class Trained:
    """A run of a model, and the model where it was fitted just now."""

    run: Run
    inputs: Inputs
    recommender: Recommender | None


def train(
    inputs: Inputs,
    prepared: Prepared,
    *,
    reuse: bool = True,
    resume: Run | None = None,
    parent: Run | None = None,
    step: str = TRAIN,
    title: str | None = None,
) -> Trained:
    """Train one experiment, or find the finished run of the same one.

    ``step`` is what the run is made for: ``compare`` finds those of ``train`` alone. ``title`` is
    what it is called in the UI, if not as the experiment.

    Raises:
        UserError: there is not the memory for it, training diverged, or the checkpoint to resume
            from cannot be read.
    """
    experiment, dataset = inputs.experiment, prepared.dataset
    content = {"fingerprint": inputs.fingerprint, "experiment": experiment.model_dump(mode="json")}
    content |= title_key(dataset)  # a model answers with titles
    key = step_key(step, content, [fit, *experiment.recommender().made_by], experiment.own_modules)
    must = must_hold(inputs)
    earlier = find_finished(key, parent, must) if reuse and resume is None else None
    if earlier is not None:
        log.info("train %s: reused run %s", experiment.name, earlier.id)
        return Trained(earlier, inputs, None)
    announce(experiment.recommender().cost(dataset))  # before there is a run of it
    tags = {
        "step": step, "model": experiment.model, "experiment": experiment.name,
        "mask": experiment.mask,
    }  # fmt: skip
    with (
        track(
            title or experiment.name, tags | dataset_tags(dataset), parent=parent, resume=resume
        ) as run,
        nullcontext() if resume else one_writer(run),
    ):
        log.info("train %s: run %s", experiment.name, run.id)
        say_device(experiment)
        run.require(must)
        _log_beginning(run, inputs, prepared, Contents() if resume is None else run.contents(must))
        journal = open_journal(run, resuming=resume is not None)
        if journal.stand:
            log.info("Run %s goes on after %s.", run.id, journal.stand)
            note_device(run, experiment)
        try:
            model, validation = fit(experiment, dataset, run, journal)
        except (KeyboardInterrupt, LostError):
            show_next([command(f"train --resume {run.id}")])
            raise
        finally:
            if journal.path is not None and journal.path.exists():
                run.log_file(journal.path, "checkpoint")
        log_model(run, experiment.model, model, dataset, experiment.own_modules)
        _conclude(experiment, run, model, validation)
        run.set_tags({STEP_KEY: key})
    shutil.rmtree(CHECKPOINTS / run.id)  # the run keeps its own copy
    return Trained(run, inputs, model)


def must_hold(inputs: Inputs) -> Contents:
    """What a run must hold before it is finished, and to be reused."""
    experiment = inputs.experiment
    metrics = [f"val/{experiment.selection_metric}"] if experiment.windows else []
    return Contents.named(
        params=[*experiment.flat(), "dataset"],
        metrics=metrics,
        tags=["device", NOTE, STEP_KEY],
        datasets=[inputs.fingerprint],
        files=[ARTIFACT, *ENVIRONMENT, *([VALIDATION] if experiment.windows else [])],
        models=[NAME],
    )


def _log_beginning(run: Run, inputs: Inputs, prepared: Prepared, held: Contents) -> None:
    """Log what a run has before it trains, but for what it ``held``: one that was killed at its
    beginning may have any part of that."""
    if ARTIFACT not in held.files:
        inputs.log(run)
    run.log_params(_params(inputs, prepared))
    if "values" in (asked := inputs.experiment.params.model_dump()):
        own = asked["values"]
        run.set_tags({"values": prepared.dataset.values_taken if own == AUTO else own})
    if inputs.fingerprint not in held.datasets:
        log_dataset(run, prepared, "training")
    if not held.files.issuperset(ENVIRONMENT) or "device" not in held.tags:
        log_environment(run, inputs.experiment)


def _params(inputs: Inputs, prepared: Prepared) -> dict[str, Any]:
    """All fields as they are known now: what "auto" was taken for, and not that word."""
    experiment, dataset = inputs.experiment, prepared.dataset
    params = {**experiment.flat(), "dataset": inputs.dataset}
    if params.get("device") == AUTO:
        params["device"] = chosen_device(experiment)
    return settled(params, dataset)


def resume(run_id: str) -> Trained:
    """Go on with a run that was killed or failed, with the settings and data that it has.

    A finished run that lacks something, as runs of before may, is gone on with, too.

    Raises:
        UserError: the run is unknown, finished, none of ``train``, still being trained on this
            machine, or its data have changed.
    """
    run = Run(run_id)
    with delivering():  # first of what the process that was killed has left
        finished = run.status == "FINISHED"
        inputs = Inputs.of(run)
        inputs = replace(inputs, experiment=on_processes(on_this_machine(inputs.experiment)))
        prepared = inputs.prepared()
        if finished:
            must = must_hold(inputs)
            lacking = run.contents(must).lacks(must)
            if not lacking:
                raise UserError(f"Run {run_id} is finished: there is nothing to resume.")
            log.info("Run %s is finished, but lacks %s.", run_id, listed(lacking))
        with one_writer(run):
            return train(inputs, prepared, resume=run, step=run.tags["step"])


def _conclude(experiment: Experiment, run: Run, model: Recommender, validation: Validation) -> None:
    """Log validation's verdict, and warn where the model is not what it is meant to be."""
    if validation.windows:
        _log_validation(run, validation)
    if validation.popularity is not None:
        remember_popularity(run, {f"val/{experiment.selection_metric}": validation.popularity})
    if found := warned(experiment, model, validation):
        words, notes = (", ".join(x.word for x in found), " ".join(x.note for x in found))
        run.set_tags({WARNING: words, WARNING_NOTE: notes})
    run.describe(describe(run))


def _log_validation(run: Run, validation: Validation) -> None:
    """The mean over windows, and each window's values, at the chosen number of epochs."""
    metrics = {f"val/{name}": value for name, value in validation.mean.items()}
    if validation.epochs is not None:
        metrics["val/epochs"] = validation.epochs
    run.log_metrics(metrics, validation.epochs or 0)
    for quantile, record in validation.windows.items() if validation.epochs is None else ():
        name = window_name(quantile)
        run.log_metrics({f"val/{name}/{key}": record[key] for key in record if "_at_" in key})
    run.log_json(
        {
            "epochs": validation.epochs,
            "mean": validation.mean,
            "windows": {window_name(q): record for q, record in validation.windows.items()},
        },
        VALIDATION,
    )
