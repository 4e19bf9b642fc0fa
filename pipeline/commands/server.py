"""MLflow's server: ui for oneself; server, backup and restore for a team."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from pipeline.commands.flags import offline

FOLDER = click.option(
    "--folder",
    default="server",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the server keeps what is its own; made if missing.",
)
ARTIFACTS = click.option(
    "--artifacts",
    envvar="MLFLOW_ARTIFACTS_DESTINATION",
    help="Where files of runs and models go: a folder, or s3://bucket/path and its like "
    "[default: artifacts in the folder].",
)


@click.command()
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
@partial(offline, text="Show what was done offline, in data/offline.")
def ui(port: int) -> None:
    """Open MLflow's UI on the store in use, for this machine alone."""
    from pipeline.ops.ui import ui as step

    step(port)


@click.command()
@FOLDER
@ARTIFACTS
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen at: as it is, only this machine and a proxy on it reach the "
    "server; 0.0.0.0 is every network, without TLS.",
)
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--allowed_hosts",
    default="",
    help="Names by which people call the server, besides localhost, separated by commas: "
    "mlflow.example.org behind a proxy with TLS, 10.0.0.5:5000 without one. Requests with another "
    "Host header get a 403, so that no website can reach the server by a name of its own.",
)
def server(folder: Path, artifacts: str | None, host: str, port: int, allowed_hosts: str) -> None:
    """Start a tracking server for a team.

    \b
    It takes from the environment:
      MLFLOW_AUTH_ADMIN_PASSWORD  of the administrator, whom the first start makes; no default
      MLFLOW_AUTH_ADMIN_USERNAME  the administrator's name [default: admin]
      DATABASE_URL                postgresql://user:password@host/database; without it, runs,
                                  models and users are kept in FOLDER/mlflow.db (SQLite)

    \b
    And it is MLflow's own server with these choices:
      users                   every request needs a user's name and password, and no password may
                              be one that can be guessed; after ten wrong logins in a row each
                              costs a wait
      NO_PERMISSIONS          what somebody makes is theirs, until they let others read or edit it
      one root for files      no client says where files go, and versions of models come of runs
                              and models that their maker may read
      artifacts proxied       people need no account at the object store, and permissions hold for
                              files, too
      one worker              a request takes a few milliseconds; a checked password stays in memory
                              for five minutes, and is forgotten when it is changed
      the rest closed         gateways, assistants, jobs, webhooks, traces, prompts and the like are
                              not there: some of them run programs or keep keys
      telemetry off           nothing is sent to anybody
      origins                 scripts of other websites cannot write; those of --allowed_hosts can

    Users, permissions, TLS, backup: docs/server.md.
    """
    from pipeline.ops.server import serve

    names = [name.strip() for name in allowed_hosts.split(",") if name.strip()]
    serve(folder, artifacts, host, port, names)


@click.command()
@FOLDER
@ARTIFACTS
@click.option(
    "--to",
    default="backups",
    show_default=True,
    type=click.Path(path_type=Path),
    help="The folder in which the backup is a new one.",
)
def backup(folder: Path, artifacts: str | None, to: Path) -> None:
    """Copy a server's database and artifacts into a new folder, while it runs.

    FOLDER, artifacts and DATABASE_URL are those of the server. What is copied holds hashes of
    passwords: only its owner can read it.
    """
    from pipeline.console import waiting
    from pipeline.ops.backup import backup as step

    with waiting("Copying the store"):
        step(folder, artifacts, to)


@click.command()
@click.option("--source", required=True, type=click.Path(path_type=Path), help="What backup made.")
@FOLDER
@ARTIFACTS
def restore(source: Path, folder: Path, artifacts: str | None) -> None:
    """Fill a server's empty store with a backup; one that holds something is refused."""
    from pipeline.console import waiting
    from pipeline.ops.backup import restore as step

    with waiting(f"Restoring {source}"):
        step(source, folder, artifacts)
