"""Passwords in all that a command is given: whether a run, a log or a file keeps one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from tests.faults.rows import Row
from tests.soak.attack import DATA, FILES
from tests.steps.test_secrets import MARK, SECRETS
from tests.steps.workplace import finish, make_project, served

GROUP = "secrets"
TUNE = ("pipeline", "tune", "--study=study.yaml", DATA)
MLFLOW_RUN = (
    *("mlflow", "run", ".", "--env-manager", "local", "-e", "train", "-P", "config=small.yaml"),
    *("-P", "dataset=ratings.csv", "-P", "epochs=1", "-P", "validate=false"),
)
COMMANDS = {"tune, with passwords all around": TUNE, "mlflow run, the same": MLFLOW_RUN}


def rows(folder: Path, ratings: pd.DataFrame, wanted: str) -> Iterator[Row]:
    """A row per command whose name has ``wanted`` in it."""
    for number, (name, words) in enumerate(COMMANDS.items()):
        if wanted in name:
            yield tried(folder / str(number), ratings, name, words)


def tried(folder: Path, ratings: pd.DataFrame, name: str, words: tuple[str, ...]) -> Row:
    """Run a command among secrets, and look for them."""
    folder.mkdir()
    row, place = Row(GROUP, name), make_project(folder, ratings, None)
    (folder / "ease.yaml").write_text(FILES["ease.yaml"])
    (folder / "study.yaml").write_text(FILES["study.yaml"])
    remote = f"https://x:{MARK}-git@h/x.git"
    for git in (("init", "-q"), ("add", "MLproject"), ("remote", "add", "origin", remote)):
        subprocess.run(["git", *git], cwd=folder, check=True)
    own = ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all")
    subprocess.run(["git", *own], cwd=folder, check=True)
    given = {name: value.format(f"{MARK}-{name}") for name, value in SECRETS.items()}
    with served(place, "127.0.0.1") as url:
        given["MLFLOW_TRACKING_URI"] = url.replace("//", f"//ada:{MARK}-url@")
        outcome = finish(place.start(*words, **given))
    if outcome.status:
        row.wrong.append(f"ended with {outcome.status}: {outcome.told[-300:]}")
    if MARK in outcome.told:
        line = next(line for line in outcome.told.splitlines() if MARK in line)
        row.wrong.append(f"told: {line[:200]}")
    files = [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts]
    row.wrong += [f"kept in {path}" for path in files if MARK.encode() in path.read_bytes()]
    return row
