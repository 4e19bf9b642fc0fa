"""Search for better settings: tune."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.flags import (
    DATASET,
    FieldsCommand,
    Groups,
    experiment_fields,
    launcher,
    offline,
    read_fields,
    reading,
)
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.tuning.opened import Launch


def study_fields(model: str | None) -> Groups:
    from pipeline.tuning.plan import StudySettings
    from pipeline.tuning.suite import SuiteSettings

    return {"Study": StudySettings, "Suite": SuiteSettings, **experiment_fields(model)}


@click.command(cls=FieldsCommand, fields=study_fields)
@click.option("--study", help="A study, as in experiments/studies/ncf.yaml, or a suite of them.")
@click.option("--config", help="An experiment, to be tuned over its model's own space.")
@click.option("--study_name", help="Of the study in the storage [default: FILE-FINGERPRINT].")
@click.option(
    "--storage",
    help="URL of the study's database [default: OPTUNA_STORAGE, else sqlite:///optuna.db]. "
    "One with a password goes into OPTUNA_STORAGE.",
)
@click.option(
    "--role",
    type=click.Choice(["launcher", "worker"]),
    default="launcher",
    help="worker joins the study that --study_name names, from any host.",
)
@click.option("--workers", type=click.IntRange(1), help="Here [default: all GPUs or 4 cores].")
@click.option("--workers_per_gpu", type=click.IntRange(1), default=1, help="Trials on one GPU.")
@click.option("--dry_run", type=bool, default=False, help="true shows the space, runs nothing.")
@click.option("--number", type=int, hidden=True)
@DATASET
@launcher
@reading
@offline
@click.pass_context
def tune(ctx: click.Context, /, **options: Any) -> None:
    """Search for better settings in a study, refit the best, evaluate and register it."""
    from pipeline.tuning.storage import storage_url

    fields = {name: value for name, value in read_fields(ctx.args).items() if value != ""}
    storage = storage_url(options["storage"])
    if options["role"] == "worker":
        from pipeline.tuning.trials import join

        if not options["study_name"]:
            raise UserError("role=worker joins a study that exists: give its --study_name.")
        if fields:
            raise UserError("role=worker takes its settings from the study: give no fields.")
        join(storage, options["study_name"], options["number"])
        return
    from pipeline.fields import find_file
    from pipeline.space import short
    from pipeline.steps.ending import end_of_tune
    from pipeline.steps.tune import dry_run
    from pipeline.steps.tune import tune as step
    from pipeline.tracking.store import delivering
    from pipeline.tuning.opened import Data, Launch
    from pipeline.tuning.study_files import read_plan
    from pipeline.tuning.suite import is_suite, read_beside

    named = (options[name] for name in ("study", "config"))
    study, config = (find_file(name) if name else None for name in named)
    launch = Launch(
        storage, options["study_name"] or None, options["workers"], options["workers_per_gpu"]
    )
    if study is not None and is_suite(study):
        _tune_all(study, fields, launch, options)
        return
    plan = read_plan(study, config, fields)
    beside = [] if study is None else read_beside(study, plan, fields)
    if options["dry_run"]:
        dry_run(plan)
        return
    data = Data.find(plan.experiment, options["dataset"], options["reading"])
    with (
        options["placed"](plan.experiment.own_modules) as cluster,
        delivering(),  # what the study's run holds need not be asked of its server
    ):
        tuned = step(plan, data, replace(launch, cluster=cluster), beside=beside)
        best, refitted = tuned.refitted.best, tuned.refitted
        chosen = ", ".join(f"{name}={short(value)}" for name, value in best.params.items())
        text = f"trial {best.number}, {chosen}"
        end_of_tune(tuned.run, text, refitted.runs, refitted.notes, tuned.report)


def _tune_all(
    file: Path, fields: Mapping[str, Any], launch: Launch, options: Mapping[str, Any]
) -> None:
    """A suite of studies."""
    from pipeline.steps.everything import everything
    from pipeline.steps.tune import dry_run
    from pipeline.tuning.suite import read_suite

    if options["config"] or options["study_name"]:
        raise UserError(
            f"{file} lists studies, which have names of their own: give no --config "
            f"and no --study_name."
        )
    suite = read_suite(file, fields)
    if options["dry_run"]:
        for plan, _ in suite.studies:
            dry_run(plan)
        return
    own = {module for each in suite.experiments for module in each.own_modules}
    with options["placed"](own) as cluster:
        everything(suite, options["dataset"], options["reading"], replace(launch, cluster=cluster))
