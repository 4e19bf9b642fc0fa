"""From ratings to test metrics: prepare, train, evaluate, main."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pipeline.commands.flags import (
    DATASET,
    REUSE,
    SPLIT,
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
    from pipeline.cluster.connection import Placing
    from pipeline.data.raw.reading import Reading


def prepare_fields(_: str | None) -> Groups:
    from pipeline.steps.prepare import PrepareSettings

    return {SPLIT: PrepareSettings}


@click.command(cls=FieldsCommand, fields=prepare_fields)
@DATASET
@reading
@REUSE
@offline
@click.pass_context
def prepare(ctx: click.Context, dataset: str, reading: Reading, reuse: bool) -> None:
    """Read, check and split ratings; log the prepared dataset with statistics and plots."""
    from pipeline.steps.prepare import PrepareSettings
    from pipeline.steps.prepare import prepare as step

    settings = PrepareSettings.read(read_fields(ctx.args), "prepare")
    step(dataset, settings.split, settings.windows, reading, reuse=reuse)


@click.command(cls=FieldsCommand, fields=experiment_fields)
@click.option("--config", help="An experiment, as in experiments/ncf.yaml.")
@click.option("--resume", help="Go on with this run, which was killed or failed.")
@click.option("--validate", type=bool, default=True, help="false skips the validation windows.")
@DATASET
@reading
@REUSE
@offline
@click.pass_context
def train(
    ctx: click.Context,
    config: str | None,
    resume: str | None,
    validate: bool,
    dataset: str,
    reading: Reading,
    reuse: bool,
) -> None:
    """Validate a model on windows of the training part, fit it on all of it, log it."""
    from pipeline.config import read_experiment
    from pipeline.evaluation.prepared import prepare_and_tell
    from pipeline.fields import find_file
    from pipeline.steps.ending import end_of_train
    from pipeline.steps.environment import on_processes
    from pipeline.steps.inputs import Inputs
    from pipeline.steps.train import resume as step_again
    from pipeline.steps.train import train as step
    from pipeline.tracking.store import delivering

    fields = read_fields(ctx.args)
    if resume:
        if fields:
            raise UserError("--resume goes on with the run's own settings: give no fields.")
        with delivering():  # what the run holds need not be asked of its server
            trained = step_again(resume)
            end_of_train(trained.run, trained.inputs.experiment.k[0])
        return
    if not config and "model" not in fields:
        raise UserError(
            "Give --config FILE (as in experiments/ncf.yaml), --model NAME (train --help lists "
            "them), or --resume RUN_ID."
        )
    if not validate:
        fields["windows"] = ()
    experiment = on_processes(read_experiment(find_file(config) if config else None, fields))
    split, windows = experiment.split, experiment.windows
    prepared = prepare_and_tell(dataset, split, reading, windows, reuse=reuse)
    inputs = Inputs(experiment, dataset, reading, prepared.dataset.fingerprint)
    with delivering():
        trained = step(inputs, prepared, reuse=reuse, title=experiment.title(fields))
        end_of_train(trained.run, experiment.k[0])


@click.command()
@click.option("--run_id", help="A run of train.")
@click.option("--model", help="A registered model: models:/NAME@ALIAS or models:/NAME/VERSION.")
@click.option(
    "--register",
    help="Register the model under this name: the champion if it beats that, else the challenger.",
)
@REUSE
@offline
def evaluate(run_id: str | None, model: str | None, register: str | None, reuse: bool) -> None:
    """Rank the whole catalogue for the test users; log metrics and lists on the model's run."""
    from pipeline.steps.ending import end_of_evaluate
    from pipeline.steps.evaluate import evaluate as step
    from pipeline.steps.evaluate import find_trained
    from pipeline.tracking.track import explain_adopted

    trained = find_trained(run_id or None, model or None)
    of, name = trained.run, trained.inputs.experiment.name
    explain_adopted(f"evaluate {name}", f"The test is on the run of the model: {of.id}.", of)
    step(trained, reuse=reuse)
    if register:
        from pipeline.steps.register import register_evaluated

        register_evaluated(trained, register)
    end_of_evaluate(trained.run, trained.inputs.experiment.k[0])


@click.command(cls=FieldsCommand, fields=experiment_fields)
@click.option(
    "--suite",
    default="ledger",
    show_default=True,
    help="A list of experiments in experiments/suites.",
)
@click.option("--role", type=click.Choice(["launcher", "worker"]), hidden=True)
@click.option("--run_id", hidden=True)
@click.option("--number", type=int, hidden=True)
@DATASET
@launcher
@reading
@REUSE
@offline
@click.pass_context
def main(
    ctx: click.Context,
    suite: str,
    role: str | None,
    run_id: str,
    number: int,
    dataset: str,
    placed: Placing,
    reading: Reading,
    reuse: bool,
) -> None:
    """Prepare, then train and evaluate every experiment of a suite, then compare."""
    if role == "worker":
        from pipeline.steps.placed import join
        from pipeline.tracking.runs import Run

        join(Run(run_id), number, reuse=reuse)
        return
    from pipeline.steps.main import main as step

    step(dataset, suite, read_fields(ctx.args), reading, reuse=reuse, placed=placed)


@click.command()
@DATASET
@offline
def demo(dataset: str) -> None:
    """All of it on MovieLens, 2 to 4 minutes: `main` with the notebook's models and ncf."""
    from pipeline.steps.main import main as step

    step(dataset, "ledger", {})


def backtest_fields(model: str | None) -> Groups:
    from pipeline.steps.backtest import BacktestSettings

    return {"Backtest": BacktestSettings, **experiment_fields(model)}


@click.command(cls=FieldsCommand, fields=backtest_fields)
@click.option("--run_ids", help="Finished runs of train, separated by commas: their settings.")
@click.option("--experiments", help="Experiment files, separated by commas.")
@click.option("--suite", help="A list of experiments in experiments/suites.")
@DATASET
@reading
@REUSE
@offline
@click.pass_context
def backtest(
    ctx: click.Context,
    run_ids: str | None,
    experiments: str | None,
    suite: str | None,
    dataset: str,
    reading: Reading,
    reuse: bool,
) -> None:
    """Refit the same settings at several cuts in time, and say what holds at all of them."""
    from pipeline.config import read_experiment, read_suite
    from pipeline.fields import find_file
    from pipeline.steps.backtest import BacktestSettings
    from pipeline.steps.backtest import backtest as step

    fields = {name: value for name, value in read_fields(ctx.args).items() if value != ""}
    own = {name: fields.pop(name) for name in BacktestSettings.given() if name in fields}
    if "test_cut" in fields:
        raise UserError("backtest cuts at --cuts, and each is a test_cut: give no --test_cut.")
    ids = _words(run_ids)
    if ids and fields:
        raise UserError(f"--run_ids brings the runs' own settings: give no {', '.join(fields)}.")
    found = [read_experiment(find_file(file), fields) for file in _words(experiments)]
    found += read_suite(suite, fields) if suite else []
    if not ids and not found and "model" in fields:
        found = [read_experiment(None, fields)]
    step(ids, found, dataset, reading, BacktestSettings.read(own, "backtest"), reuse=reuse)


def _words(text: str | None) -> list[str]:
    """What stands between commas."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]
