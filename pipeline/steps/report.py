"""A report is kept: with its run, and as a file here that can be sent."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pipeline import __version__
from pipeline.compare.report import REPORT, Report
from pipeline.console import show_line
from pipeline.disk import sync, unfinished
from pipeline.tracking.links import run_address, ui_command
from pipeline.tracking.runs import Run

REPORTS = Path("data") / "reports"


def keep_report(report: Report, run: Run, *more: Run) -> Path:
    """Log the page with runs and write it to a file of the first one's own: its path."""
    page = report.html()
    for each in (run, *more):
        each.log_text(page, REPORT)
    REPORTS.mkdir(parents=True, exist_ok=True)
    path = REPORTS / f"{run.tags['step']}-{run.id[:8]}.html"
    with unfinished(REPORTS, path.name) as new:
        new.write_text(page, encoding="utf-8")
        sync(new)
        os.replace(new, path)
    return path


def show_report(path: Path) -> None:
    """Say where it is."""
    show_line(f"Report to send: {path}")


def links_to(runs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Names and addresses for a report, of runs with what they are called."""
    return [(f"{name}: run {run_id[:8]}", run_address(Run(run_id))) for name, run_id in runs]


def made_by(run: Run) -> str:
    """Who has made a report, when, and how its links can be followed."""
    command = ui_command()
    where = f" Links to runs need the UI: {command}." if command else ""
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    return f"Made by ncf-pipeline {__version__}, {run.tags['step']}, on {day}, run {run.id}.{where}"
