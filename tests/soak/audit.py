"""What runs hold, for a comparison with their undisturbed twins, and what must hold of a folder."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import mlflow
import pandas as pd
from mlflow.entities import Run as MlflowRun

from tests.steps.workplace import Workplace
from tests.tracking.stores import OURS

SOURCE_TAGS = "mlflow.source.git."  # of the file that a process was started with
TIMED = ("epoch_seconds", "examples_per_second")
# Of what happened to a run, and not of what it is; a copy has a user, whoever that is.
OWN_TAGS = {"ended", "mlflow.user", *OURS}
UNFINISHED = ".artifact.uploading."  # what a killed server leaves, beside the file that came later
PROXIED = "mlflow-artifacts:/"
LISTS = "lists.parquet"  # what ``recommend`` writes
COPY = "copy.db"  # what ``migrate`` writes to

Picture = dict[str, Any]


def kind(run: MlflowRun) -> str:
    """What was done: runs of the same kind hold the same."""
    tags = run.data.tags
    words = [tags.get("step"), run.info.run_name, tags.get("dataset_fingerprint")]
    marks = {"mlflow.parentRunId": "child", "evaluated": "evaluated"}
    return " ".join([*map(str, words), *(word for tag, word in marks.items() if tag in tags)])


def picture(client: mlflow.MlflowClient, run: MlflowRun, kept: Path | None = None) -> Picture:
    """All that does not differ from one run to the next of the same kind.

    ``kept`` is where a server keeps the files that go through it.
    """

    def at(uri: str | None) -> Path:
        assert uri is not None
        if kept is not None and uri.startswith(PROXIED):
            return kept / uri.removeprefix(PROXIED)
        return Path(unquote(uri.removeprefix("file://")) if uri.startswith("file:") else uri)

    root = at(run.info.artifact_uri)
    points = {
        key: [
            [p.step, None if key.endswith(TIMED) else repr(p.value)]
            # MLflow gives them in the order of their times.
            for p in sorted(client.get_metric_history(run.info.run_id, key), key=lambda p: p.step)
        ]
        for key in sorted(run.data.metrics)
    }
    models = [client.get_logged_model(each.model_id) for each in run.outputs.model_outputs]
    weights = [
        hashlib.sha256(file.read_bytes()).hexdigest()
        for model in models
        for file in at(model.artifact_location).rglob("weights.safetensors")
    ]
    lists = root / "test" / "recommendations.parquet"
    return {
        "params": run.data.params,
        "points": points,
        "tags": sorted(
            tag for tag in set(run.data.tags) - OWN_TAGS if not tag.startswith(SOURCE_TAGS)
        ),
        "datasets": [each.dataset.digest for each in run.inputs.dataset_inputs],
        "files": sorted(
            str(path.relative_to(root))
            for path in root.rglob("*")
            if path.is_file() and not path.name.startswith(UNFINISHED)
        ),
        "models": [str(model.status) for model in models],
        "weights": weights,
        "lists": pd.read_parquet(lists).to_json() if lists.exists() else None,
    }


def differences(found: Picture, same: Picture) -> list[str]:
    """In which parts two pictures differ, in words."""
    return [
        f"{part} is not the twin's: {str(found[part])[:300]} instead of {str(same[part])[:300]}"
        for part in same
        if found[part] != same[part]
    ]


def pictures(place: Workplace) -> dict[str, Picture]:
    """Of all runs that are there, by kind."""
    return {kind(run): picture(place.client, run) for run in place.runs()}


def study(place: Workplace) -> Picture:
    """What a study comes to, whatever became of its processes."""
    # One that was killed before the study knew of it has no more than its name.
    (parent,) = (run for run in place.runs(step="tune") if run.info.status == "FINISHED")
    refitted = place.runs(step="train", experiment="study_tuned")
    return {
        "params": parent.data.params,
        "best": parent.data.metrics["best/ndcg_at_10"],
        "complete": parent.data.metrics["trials/complete"],
        "test": {name: v for name, v in parent.data.metrics.items() if name.startswith("test/")},
        "refitted": len([run for run in refitted if run.info.status == "FINISHED"]),
    }


def lists(place: Workplace) -> str | None:
    """A checksum of what ``recommend`` has written; None where that is not there."""
    file = place.folder / LISTS
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None


def resumable(place: Workplace) -> list[str]:
    """Ids of runs that say that they can be resumed."""
    return [
        str(run.info.run_id)
        for run in place.runs(step="train")
        if run.info.status == "KILLED"
        and "train --resume" in run.data.tags["ended"]
        and "mlflow.parentRunId" not in run.data.tags  # its study, or main, has made another
    ]


def audit(place: Workplace, twin: dict[str, Picture]) -> tuple[dict[str, int], list[str]]:
    """How many runs there are, by step and status, and what is not as it should be."""
    counts, problems = Counter[str](), []
    for file in place.folder.glob("*.db"):
        with closing(sqlite3.connect(file)) as database:
            (answer,) = database.execute("PRAGMA integrity_check").fetchone()
        if answer != "ok":
            problems.append(f"{file.name}: {answer}")
    left = [str(p.relative_to(place.folder)) for p in place.folder.rglob(".*") if p.is_file()]
    left += [str(p) for p in (place.folder / "data" / "outbox").iterdir()]
    problems += [f"left behind: {each}" for each in left]
    if left_to_resume := resumable(place):
        problems.append(f"not resumed: {left_to_resume}")
    for run in place.runs():
        run_id, status, step = run.info.run_id, run.info.status, run.data.tags.get("step")
        same = twin.get(kind(run)) if status == "FINISHED" else None
        counts[f"{step} {status}{' as its twin' if same else ''}"] += 1
        found = picture(place.client, run)
        wrong = differences(found, same) if same else []
        wrong += [
            f"{key} has a step twice"
            for key, points in found["points"].items()
            if len({step for step, _ in points}) < len(points)
        ]
        if status == "KILLED" and "ended" not in run.data.tags:
            wrong.append("is KILLED and does not say why")
        if status not in ("FINISHED", "KILLED"):
            wrong.append(f"is {status}: {run.data.tags.get('ended')}")
        problems += [f"{step} {run_id}: {each}" for each in wrong]
    if (place.folder / "optuna.db").exists() and study(place) != twin["study"]:
        problems.append(f"study: {study(place)} instead of {twin['study']}")
    if (place.folder / COPY).exists():
        problems += copied(place)
    return counts, problems


def copied(place: Workplace) -> list[str]:
    """What of the runs is not in the copy that ``migrate`` has made, or is there twice."""
    client = mlflow.MlflowClient(f"sqlite:///{place.folder / COPY}")
    found = Counter(run.data.tags["migrated_from"] for run in client.search_runs(["0"]))
    source = {str(run.info.run_id): run for run in place.runs()}
    problems = [f"{COPY}: run {run_id} is there {n} times" for run_id, n in found.items() if n > 1]
    problems += [f"{COPY}: run {run_id} is missing" for run_id in source.keys() - found.keys()]
    for run in client.search_runs(["0"]):
        of = source[run.data.tags["migrated_from"]]
        wrong = differences(picture(client, run), picture(place.client, of))
        problems += [f"{COPY}: {kind(of)} {of.info.run_id}: {each}" for each in wrong]
    return problems
