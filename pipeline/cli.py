"""The command line: all commands, and how they end. Imports are few, so that help is quick."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click

from pipeline.commands.experiments import backtest, demo, evaluate, main, prepare, train
from pipeline.commands.records import compare, import_ledger, migrate, sync
from pipeline.commands.server import backup, restore, server, ui
from pipeline.commands.serving import recommend
from pipeline.commands.studies import tune
from pipeline.errors import LostError, UserError

SHORT = "ncf"  # the same command, by its entry point in pyproject.toml
WIDEST = 140  # characters of a line of help: longer ones are lost on the way back


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDEST})
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Recommender experiments as MLflow runs that can be trusted."""
    from pipeline.process import torchrun

    _, processes = torchrun()
    if processes > 1 and ctx.invoked_subcommand != train.name:
        raise UserError(
            f"torchrun has started {processes} processes of {ctx.invoked_subcommand}, and they can "
            f"share nothing but train: give that command without torchrun."
        )


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
        torchrun,
    )

    collect_rarely()
    rank, processes = torchrun()
    if rank:
        _take_part(rank)
        return
    name_store()
    hide_password()
    set_up_logging()
    status, why = "FAILED", ""
    try:
        end_on_signals()
        require_driver()
        with _leading(processes):
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


def _leading(processes: int) -> AbstractContextManager[None]:
    """Lead the other processes of torchrun, if there are any."""
    if processes == 1:
        return nullcontext()
    from pipeline.training.processes import joined

    return joined()


def _take_part(rank: int) -> None:
    """Be another process of torchrun, which says nothing but what is wrong with itself."""
    from pipeline.console import log, say, set_up_logging
    from pipeline.mishaps import explain
    from pipeline.process import leave_signals_to_first
    from pipeline.training.follow import follow

    leave_signals_to_first()
    set_up_logging()
    log.setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    try:
        follow()
    except LostError:
        sys.exit(1)  # what has ended says why
    except Exception as error:
        text = str(error) if isinstance(error, UserError) else explain(error)
        if text is None:
            raise
        say(f"error: process {rank}: {text}", "red")
        sys.exit(1)
