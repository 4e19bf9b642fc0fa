"""The command line: all commands, and how they end. Imports are few, so that help is quick."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from pipeline.commands.experiments import backtest, demo, evaluate, main, prepare, train
from pipeline.commands.records import compare, import_ledger, migrate, sync
from pipeline.commands.server import backup, restore, server, ui
from pipeline.commands.serving import recommend
from pipeline.commands.studies import tune
from pipeline.errors import UserError

SHORT = "ncf"  # the same command, by its entry point in pyproject.toml
WIDEST = 140  # characters of a line of help: longer ones are lost on the way back


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDEST})
def cli() -> None:
    """Recommender experiments as MLflow runs that can be trusted."""


for command in (
    *(demo, prepare, train, evaluate, main, tune, compare, backtest, recommend),
    *(ui, server, backup, restore, migrate, sync, import_ledger),
):
    cli.add_command(command)


def run() -> None:
    """Run the command; mistakes are printed in a line, interruptions have a shell's exit status."""
    from pipeline.console import say, set_up_logging
    from pipeline.mishaps import explain
    from pipeline.process import (
        TerminatedError,
        collect_rarely,
        end_on_signals,
        hide_password,
        name_store,
        require_driver,
    )

    collect_rarely()
    name_store()
    hide_password()
    set_up_logging()
    status, why = "FAILED", ""
    try:
        end_on_signals()
        require_driver()
        short = Path(sys.argv[0]).name == SHORT
        cli(prog_name=SHORT if short else "python -m pipeline", standalone_mode=False)
        status = "FINISHED"
    except click.ClickException as error:
        why = error.format_message()
        error.show()
        sys.exit(error.exit_code)
    except UserError as error:
        why = str(error)
        say(f"error: {why}", "red")
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort) as interruption:
        status, why = "KILLED", "It was interrupted before it began."
        say("Interrupted.")
        # click turns every interruption into an Abort of its own.
        terminated = isinstance(interruption.__cause__ or interruption, TerminatedError)
        sys.exit(143 if terminated else 130)
    except Exception as error:
        text = explain(error)
        if text is None:
            raise
        why = text
        say(f"error: {text}", "red")
        sys.exit(1)
    finally:
        if "MLFLOW_RUN_ID" in os.environ:  # a step that opens its run takes this away
            from pipeline.tracking.track import end_unopened

            try:
                end_unopened(sys.argv[1] if len(sys.argv) > 1 else "none", status, why)
            except UserError as error:  # ``mlflow run`` ends the run as failed by itself
                say(f"error: {error}", "red")
