"""What has been recorded: compare, import_ledger, migrate, sync."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from pipeline.commands.flags import offline


@click.command()
@click.option("--experiment", help="An MLflow experiment, name or id; without it the current one.")
@click.option("--run_ids", help="Only these runs, separated by commas.")
@click.option("--fingerprint", help="All runs on this dataset, in any experiment or that one.")
@click.option("--baseline", help="A run's id or an experiment, as ncf_bpr; without it the best.")
@click.option(
    "--metric",
    default="ndcg_at_10",
    show_default=True,
    help="What to rank by: ndcg_at_10, map_at_20, ...",
)
@click.option(
    "--report",
    type=bool,
    is_flag=False,
    flag_value=True,
    default=False,
    help="Write a page to send, too: one HTML file with tables and figures.",
)
@offline
def compare(
    experiment: str | None,
    run_ids: str | None,
    fingerprint: str | None,
    baseline: str | None,
    metric: str,
    report: bool,
) -> None:
    """Say which differences between evaluated models are real: tables, tests, figures."""
    from pipeline.steps.compare import compare as step
    from pipeline.steps.ending import end_of_compare

    ids = [run_id.strip() for run_id in (run_ids or "").split(",") if run_id.strip()]
    step(
        experiment=experiment or None,
        run_ids=ids,
        fingerprint=fingerprint or None,
        baseline=baseline or None,
        metric=metric,
        report=report,
    )
    end_of_compare(int(metric.rpartition("_")[2]))


@click.command(name="import_ledger")
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


@click.command()
def sync() -> None:
    """Deliver what was logged while the server was away, or offline; twice is safe."""
    from pipeline.steps.sync import sync as step

    step()


@click.command()
@click.option("--from", "source", required=True, help="A tracking store: sqlite:///mlflow.db, ...")
@click.option("--to", "target", required=True, help="Another: http://host:5000, ...")
def migrate(source: str, target: str) -> None:
    """Copy all runs, models and aliases of a tracking store to another; twice is safe."""
    from pipeline.steps.migrate import migrate as step

    step(source, target)
