"""The command line. Steps are imported when they are called, so that help is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from pipeline.settings import Settings

Groups = dict[str, "type[Settings]"]
REUSE = click.option(
    "--reuse", type=bool, default=True, help="Take finished steps again; false does them anew."
)
DATASET = click.option(
    "--dataset",
    default="auto",
    help="ml-1m, ml-100k, ... or a path to ratings; auto takes ml-1m where it can be had.",
)
ON_BAD_ROWS = click.option(
    "--on_bad_rows", type=click.Choice(["error", "drop"]), default="error", help="Drop counts them."
)


class FieldsCommand(click.Command):
    """A command that takes fields as flags, and lists them in its help."""

    def __init__(self, *args: Any, fields: Callable[[], Groups], **kwargs: Any) -> None:
        kwargs["context_settings"] = {"ignore_unknown_options": True, "allow_extra_args": True}
        super().__init__(*args, **kwargs)
        self.fields = fields

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, group in self.fields().items():
            fields = ((name, group.model_fields[name]) for name in group.given())
            rows = [(f"--{name}", _help(field)) for name, field in fields]
            if rows:
                with formatter.section(f"{title} fields"):
                    formatter.write_dl(rows)


def _help(field: FieldInfo) -> str:
    default = "" if field.is_required() else f" [default: {field.default}]"
    return f"{field.description}{default}"


def _experiment_fields() -> Groups:
    from pipeline.config import Experiment
    from pipeline.data.split import SplitSettings
    from pipeline.models import FAMILIES, family

    models = {f"Model {name}": family(name).settings_class for name in FAMILIES}
    return {"Experiment": Experiment, "Split": SplitSettings, **models}


def _study_fields() -> Groups:
    from pipeline.tuning.plan import StudySettings

    return {"Study": StudySettings, **_experiment_fields()}


def _prepare_fields() -> Groups:
    from pipeline.steps.prepare import PrepareSettings

    return {"Split": PrepareSettings}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Recommender experiments as MLflow runs that can be trusted."""


@cli.command(cls=FieldsCommand, fields=_prepare_fields)
@DATASET
@ON_BAD_ROWS
@REUSE
@click.pass_context
def prepare(ctx: click.Context, dataset: str, on_bad_rows: Any, reuse: bool) -> None:
    """Read, check and split ratings; log the prepared dataset with statistics and plots."""
    from pipeline.steps.prepare import PrepareSettings
    from pipeline.steps.prepare import prepare as step

    settings = PrepareSettings.read(_fields(ctx.args), "prepare")
    step(dataset, settings.split, settings.windows, on_bad_rows, reuse=reuse)


@cli.command(cls=FieldsCommand, fields=_experiment_fields)
@click.option("--config", help="An experiment, as in experiments/ncf.yaml.")
@click.option("--resume", help="Go on with this run, which was killed or failed.")
@click.option("--validate", type=bool, default=True, help="false skips the validation windows.")
@DATASET
@ON_BAD_ROWS
@REUSE
@click.pass_context
def train(
    ctx: click.Context,
    config: str | None,
    resume: str | None,
    validate: bool,
    dataset: str,
    on_bad_rows: Any,
    reuse: bool,
) -> None:
    """Validate a model on windows of the training part, fit it on all of it, log it."""
    from pipeline.config import read_experiment
    from pipeline.steps.inputs import Inputs
    from pipeline.steps.prepare import find_prepared
    from pipeline.steps.train import resume as step_again
    from pipeline.steps.train import train as step

    fields = _fields(ctx.args)
    if resume:
        if fields:
            raise UserError("--resume goes on with the run's own settings: give no fields.")
        step_again(resume)
        return
    if not config:
        raise UserError("Give --config FILE (as in experiments/ncf.yaml), or --resume RUN_ID.")
    if not validate:
        fields["windows"] = ()
    experiment = read_experiment(Path(config), fields)
    prepared = find_prepared(dataset, experiment.split, on_bad_rows, reuse=reuse)
    inputs = Inputs(experiment, dataset, on_bad_rows, prepared.dataset.fingerprint)
    step(inputs, prepared, reuse=reuse)


@cli.command()
@click.option("--run_id", help="A run of train.")
@click.option("--model", help="A registered model: models:/NAME@ALIAS or models:/NAME/VERSION.")
@REUSE
def evaluate(run_id: str | None, model: str | None, reuse: bool) -> None:
    """Rank the whole catalogue for the test users; log metrics and lists on the model's run."""
    from pipeline.steps.evaluate import evaluate as step
    from pipeline.steps.evaluate import find_trained

    step(find_trained(run_id or None, model or None), reuse=reuse)


@cli.command(cls=FieldsCommand, fields=_experiment_fields)
@click.option("--suite", default="ledger", help="A list of experiments in experiments/suites.")
@DATASET
@ON_BAD_ROWS
@REUSE
@click.pass_context
def main(ctx: click.Context, suite: str, dataset: str, on_bad_rows: Any, reuse: bool) -> None:
    """Prepare, then train and evaluate every experiment of a suite, then compare."""
    from pipeline.steps.main import main as step

    step(dataset, suite, _fields(ctx.args), on_bad_rows, reuse=reuse)


@cli.command(cls=FieldsCommand, fields=_study_fields)
@click.option("--study", help="A study, as in experiments/studies/ncf.yaml.")
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
@click.option("--launcher", type=int, hidden=True)
@click.option("--number", type=int, hidden=True)
@DATASET
@ON_BAD_ROWS
@click.pass_context
def tune(ctx: click.Context, /, **options: Any) -> None:
    """Search for better settings in a study, refit the best, evaluate and register it."""
    from pipeline.tuning.storage import storage_url

    fields = {name: value for name, value in _fields(ctx.args).items() if value != ""}
    storage = storage_url(options["storage"])
    if options["role"] == "worker":
        from pipeline.steps.trials import join

        if not options["study_name"]:
            raise UserError("role=worker joins a study that exists: give its --study_name.")
        if fields:
            raise UserError("role=worker takes its settings from the study: give no fields.")
        join(storage, options["study_name"], options["launcher"], options["number"])
        return
    from pipeline.steps.tune import Launch, dry_run
    from pipeline.steps.tune import tune as step
    from pipeline.tuning.plan import read_plan

    study, config = (Path(options[name]) if options[name] else None for name in ("study", "config"))
    plan = read_plan(study, config, fields)
    if options["dry_run"]:
        dry_run(plan)
        return
    launch = Launch(
        storage, options["study_name"] or None, options["workers"], options["workers_per_gpu"]
    )
    step(plan, options["dataset"], options["on_bad_rows"], launch)


@cli.command()
@click.option("--experiment", help="An MLflow experiment, name or id; without it the current one.")
@click.option("--run_ids", help="Only these runs, separated by commas.")
@click.option("--fingerprint", help="All runs on this dataset, in any experiment or that one.")
@click.option("--baseline", help="A run's id or an experiment, as ncf_bpr; without it the best.")
@click.option("--metric", default="ndcg_at_10", help="What to rank by: ndcg_at_10, map_at_20, ...")
def compare(
    experiment: str | None,
    run_ids: str | None,
    fingerprint: str | None,
    baseline: str | None,
    metric: str,
) -> None:
    """Say which differences between evaluated models are real: tables, tests, figures."""
    from pipeline.steps.compare import compare as step

    ids = [run_id.strip() for run_id in (run_ids or "").split(",") if run_id.strip()]
    step(
        experiment=experiment or None,
        run_ids=ids,
        fingerprint=fingerprint or None,
        baseline=baseline or None,
        metric=metric,
    )


@cli.command(name="import_ledger")
@click.option(
    "--csv",
    "paths",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="The ledger's CSV file, a NAME_TIMESTAMP.json file, or a folder with them; repeatable.",
)
@click.option("--dataset", default="unknown", help="What the ledger was made on, as in ml-1m.")
@click.option("--split", default="unknown", help="How that was split, as in time-0.8-5-15-10.")
@click.option("--n_items", type=click.IntRange(0), default=0, help="Of the catalogue; 0: unknown.")
@click.option("--n_users", type=click.IntRange(0), default=0, help="Evaluated; 0: unknown.")
def import_ledger(
    paths: Sequence[Path], dataset: str, split: str, n_items: int, n_users: int
) -> None:
    """Import the notebook's ledger, a run per row: repaired, audited, and once only."""
    from pipeline.steps.import_ledger import import_ledger as step

    step(paths, dataset, split, n_items or None, n_users or None)


def run() -> None:
    """Run the command; mistakes are told in a line, interruptions have a shell's exit status."""
    from pipeline.console import console, set_up_logging
    from pipeline.process import TerminatedError, end_on_signals

    set_up_logging()
    status = "FAILED"
    try:
        end_on_signals()
        cli(prog_name="python -m pipeline", standalone_mode=False)
        status = "FINISHED"
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except UserError as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort) as interruption:
        status = "KILLED"
        console.print("Interrupted.")
        # click turns every interruption into an Abort of its own.
        terminated = isinstance(interruption.__cause__ or interruption, TerminatedError)
        sys.exit(143 if terminated else 130)
    finally:
        if "MLFLOW_RUN_ID" in os.environ:  # a step that opens its run takes this away
            from pipeline.tracking.runs import end_unopened

            end_unopened(sys.argv[1] if len(sys.argv) > 1 else "none", status)


def _fields(words: Sequence[str]) -> dict[str, Any]:
    """Flags that are no options of the command, as fields: ``--name value`` or ``--name=value``."""
    fields: dict[str, Any] = {}
    rest = list(words)
    while rest:
        name, given, value = rest.pop(0).partition("=")
        if not name.startswith("--") or not (given or rest):
            raise UserError(f"'{name}': expected flags with values, as in --embedding_dim 16.")
        fields[name.removeprefix("--")] = value if given else rest.pop(0)
    return fields
