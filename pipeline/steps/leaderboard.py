"""The leaderboard: all models evaluated on one dataset, best first."""

from __future__ import annotations

import pandas as pd
from rich.table import Table

from pipeline.console import console
from pipeline.steps.notes import WARNING
from pipeline.tracking.runs import Run, models_of, ui_command

COLUMNS = {
    "ndcg": "NDCG",
    "hit_rate": "HR",
    "precision": "prec.",
    "recall": "recall",
    "map": "MAP",
    "coverage": "cover.",
    "popularity_overlap": "popular",
}
"""Metrics and their heads in the terminal."""


def leaderboard(fingerprint: str, k: int) -> pd.DataFrame:
    """The latest run of each experiment on this dataset and its test metrics at ``k``."""
    rows = []
    for run in models_of(fingerprint):
        metrics = {name: run.data.metrics.get(f"test/{name}_at_{k}") for name in COLUMNS}
        tags = run.data.tags
        told = {"experiment": tags["experiment"], **metrics, "warning": tags.get(WARNING, "")}
        rows.append({**told, "run_id": run.info.run_id})
    table = pd.DataFrame(rows, columns=["experiment", *COLUMNS, "warning", "run_id"])
    latest = table.drop_duplicates("experiment")
    return latest.sort_values("ndcg", ascending=False, ignore_index=True)


def show_leaderboard(dataset: str, fingerprint: str, k: int, parent: Run | None) -> None:
    """Print the leaderboard, log it to the parent run, and say how to open the UI."""
    board = leaderboard(fingerprint, k)
    table = Table(title=f"{dataset} ({fingerprint}), test, at {k}")
    table.add_column("experiment", no_wrap=True)
    for head in COLUMNS.values():
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("warning")
    for row in board.drop(columns="run_id").itertuples(index=False):
        table.add_row(*(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row))
    console.print(table)
    if parent is not None:
        parent.describe(_markdown(board))
        parent.log_text(board.to_csv(index=False), "leaderboard.csv")
    console.print(f"Compare the runs in the UI: {ui_command()}", soft_wrap=True)


def _markdown(board: pd.DataFrame) -> str:
    lines = [f"| {' | '.join(board.columns)} |", "|---" * len(board.columns) + "|"]
    for row in board.itertuples(index=False):
        cells = (f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
