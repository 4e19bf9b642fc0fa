"""Where a person sees what was logged: addresses in MLflow's UI, and the command that opens it."""

from __future__ import annotations

import mlflow

from pipeline.tracking.hints import command
from pipeline.tracking.runs import Run

LOCAL = "http://127.0.0.1:{port}"
PORT = 5000
TRAINING = "workflowType=machine_learning"  # the page of models; without it, that of GenAI
LEADERBOARD, STUDIES = "leaderboard", "studies"  # saved views that links open


def ui_command() -> str | None:
    """What opens the UI on the store in use; None for a server, which has one."""
    return None if mlflow.get_tracking_uri().startswith("http") else command("ui")


def run_address(run: Run) -> str:
    """The page of a run."""
    return f"{address()}/#/experiments/{run.experiment_id}/runs/{run.id}?{TRAINING}"


def leaderboard_address(experiment_id: str, port: int = PORT) -> str:
    """The runs of an experiment's models, the best first."""
    return _view_address(experiment_id, LEADERBOARD, port)


def studies_address(experiment_id: str) -> str:
    """The studies of an experiment, the latest with their trials."""
    return _view_address(experiment_id, STUDIES, PORT)


def _view_address(experiment_id: str, view: str, port: int) -> str:
    page = f"{address(port)}/#/experiments/{experiment_id}/runs"
    return f"{page}?{TRAINING}&viewStateShareKey={view}"


def address(port: int = PORT) -> str:
    """Where the UI of the store in use is, once it is open."""
    uri = mlflow.get_tracking_uri()
    return uri.rstrip("/") if uri.startswith("http") else LOCAL.format(port=port)


def how_to_see(page: str) -> str:
    """What to do to see a page, in words."""
    opened_by = ui_command()
    return page if opened_by is None else f"{opened_by}, then {page}"
