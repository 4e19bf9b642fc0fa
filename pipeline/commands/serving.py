"""Lists of a model: recommend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.flags import launcher, offline

if TYPE_CHECKING:
    from pipeline.cluster.connection import Placing
    from pipeline.evaluation.candidates import Index


@click.command()
@click.option("--run_id", help="A run of train.")
@click.option("--model", help="A registered model: models:/NAME@ALIAS or models:/NAME/VERSION.")
@click.option(
    "--users",
    default="all",
    help="all that trained, or a file: CSV, TSV or Parquet with columns user, items, exclude and "
    "allowed (lists in CSV as 1|2|3), or text with an id on each line.",
)
@click.option("--k", default=10, show_default=True, help="The length of the lists.")
@click.option(
    "--output", required=True, help="Where the lists go: a file that ends in .parquet or .csv."
)
@click.option("--overwrite", type=bool, default=False, help="true replaces such a file.")
@click.option(
    "--index",
    type=click.Choice(["auto", "exact", "hnsw"]),
    default="auto",
    show_default=True,
    help="exact ranks the whole catalogue; hnsw has an approximate index propose items, for models "
    "whose scores are products of vectors; auto takes it where that is quicker.",
)
@click.option(
    "--recall",
    type=click.FloatRange(0, 1),
    default=0.99,
    show_default=True,
    help="Share of the exact lists that an index has to find on a sample of users.",
)
@launcher
@offline
def recommend(
    run_id: str | None,
    model: str | None,
    users: str,
    k: int,
    output: str,
    overwrite: bool,
    index: Index,
    recall: float,
    placed: Placing,
) -> None:
    """Write lists for all users of a model, or for those of a file."""
    from pipeline.steps.evaluate import find_run
    from pipeline.steps.recommend import recommend as step

    run = find_run(run_id or None, model or None)
    step(
        run,
        users,
        k,
        Path(output),
        overwrite=overwrite,
        index=index,
        recall=recall,
        placed=placed,
    )
