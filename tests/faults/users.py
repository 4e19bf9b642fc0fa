"""Two people on a team's server: what one of them tries, while the other trains a model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd

from tests.faults.rows import FRESH, Row, Site
from tests.ops.teams import PASSWORDS, REFUSED, Team, attempts_on, team_server
from tests.soak.audit import Picture
from tests.soak.processes import ended
from tests.steps.workplace import Workplace, make_workplace, wait_until

GROUP = "users"
READS, ALTERS = "another user reads", "another user alters"
LOOKING = ("GET",)
MODEL = "films"
FILE = "inputs.json"


def rows(folder: Path, ratings: pd.DataFrame, wanted: str) -> Iterator[Row]:
    """A row for what ben reads of ada's, and one for what he alters, if ``wanted`` is in it."""
    names = [name for name in (READS, ALTERS) if wanted in name]
    if not names:
        return
    with team_server(Workplace(folder), "--folder=server") as team:
        with team.administered() as users:
            for name in ("ada", "ben"):
                users.create_user(name, PASSWORDS[name])
        os.environ["MLFLOW_TRACKING_USERNAME"] = "ada"
        os.environ["MLFLOW_TRACKING_PASSWORD"] = PASSWORDS["ada"]
        twin = hers(folder, ratings, team, "twin")
        twin.must(*FRESH)
        twin.evaluate()
        (same,) = twin.ask(twin.pictures)
        for name in names:
            yield tried(hers(folder, ratings, team, name), team, same)
    for variable in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        del os.environ[variable]
    del os.environ["MLFLOW_EXPERIMENT_NAME"]


def hers(folder: Path, ratings: pd.DataFrame, team: Team, name: str) -> Site:
    """A folder and an experiment of ada's."""
    below = folder / name.replace(" ", "-")
    below.mkdir()
    os.environ["MLFLOW_EXPERIMENT_NAME"] = name
    kept = folder / "server" / "artifacts"
    return Site(make_workplace(below, ratings, None), Row(GROUP, name), team.url, kept, name)


def tried(site: Site, team: Team, twin: Picture) -> Row:
    """Ada trains, evaluates and registers; ben tries all that there is, meanwhile and after."""
    child, end = site.begin(*FRESH)
    wait_until(lambda: bool(site.ask(lambda: len(site.runs()))) or ended(child))
    try_all(site, team)
    end()
    site.evaluate()
    try_all(site, team)
    return site.compare(twin)


def try_all(site: Site, team: Team) -> None:
    """What ben may not."""

    def ids() -> list[str]:
        (run,) = site.runs()
        models = mlflow.MlflowClient(site.uri).search_logged_models([run.info.experiment_id])
        model = models[0].model_id if len(models) else "none"
        return [str(run.info.experiment_id), str(run.info.run_id), model]

    for method, path, body in attempts_on(*site.ask(ids), MODEL, FILE):
        if (method in LOOKING) is (site.row.fault == READS):
            answer = team.request("ben", method, path, json=body)
            if answer.status_code not in REFUSED:
                site.row.wrong.append(f"ben: {method} {path}: {answer.status_code}")
