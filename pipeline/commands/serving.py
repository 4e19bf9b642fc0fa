"""A server for a team, and what its models are for: server, recommend."""

from __future__ import annotations

from pathlib import Path

import click

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
      basic-auth on           every request needs a user's name and password
      NO_PERMISSIONS          what somebody makes is theirs, until they let others read or edit it
      artifacts proxied       people need no account at the object store, and permissions hold for
                              files, too
      one worker              a request takes a few milliseconds; a checked password stays in memory
                              for five minutes, and is forgotten when it is changed
      jobs off                nobody needs MLflow's background jobs here: it would start processes
      telemetry off           nothing is told to anybody
      origins                 scripts of other websites cannot write; those of --allowed_hosts can

    Users, permissions, TLS, backup: docs/server.md.
    """
    from pipeline.steps.server import serve

    names = [name.strip() for name in allowed_hosts.split(",") if name.strip()]
    serve(folder, artifacts, host, port, names)


@click.command()
@click.option("--run_id", help="A run of train.")
@click.option("--model", help="A registered model: models:/NAME@ALIAS or models:/NAME/VERSION.")
@click.option(
    "--users",
    default="all",
    help="all that trained, or a file: CSV, TSV or Parquet with columns user, items, exclude and "
    "allowed (lists in CSV as 1|2|3), or text with an id on each line.",
)
@click.option("--k", default=10, help="The length of the lists.")
@click.option(
    "--output", required=True, help="Where the lists go: a file that ends in .parquet or .csv."
)
@click.option("--overwrite", type=bool, default=False, help="true replaces such a file.")
def recommend(
    run_id: str | None, model: str | None, users: str, k: int, output: str, overwrite: bool
) -> None:
    """Write lists for all users of a model, or for those of a file."""
    from pipeline.steps.evaluate import find_run
    from pipeline.steps.recommend import recommend as step

    run = find_run(run_id or None, model or None)
    step(run, users, k, Path(output), overwrite=overwrite)
