"""An attack from a seed: commands are killed at random moments, then everything is audited.

    python -m tests.soak --seed 0 --kills 100        (or: make soak)

Rounds begin in an empty folder, or with an empty store. ``prepare``, ``train``, ``evaluate``,
``sync`` and now and then ``tune`` are started there, ended by SIGKILL at a moment drawn from the
time that the command takes undisturbed (it may be over before), and then run to their end,
``train`` by ``--resume`` and by the same command. Some rounds begin with several commands at once.
Then the audit: the databases are sound, no run is RUNNING, no point is there twice, nothing is left
in the outbox and nothing unfinished on disk; every run that is FINISHED is equal to its twin, which
was never disturbed, to the bit of its weights; every run that is KILLED says how to go on, and what
can be resumed is, and is equal then, too. Exit status 1 if anything of that is not so.

Commands run in processes forked from this one, so that moments are spent on what a command does and
not on its imports; this process itself never opens a database. Workers of studies are started anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import yaml
from mlflow.entities import Run as MlflowRun
from numpy.random import Generator

import pipeline.steps.compare
import pipeline.steps.everything
import pipeline.steps.main
import pipeline.steps.sync  # noqa: F401  # imported before any process is forked
from tests.conftest import make_ratings
from tests.steps.workplace import Workplace, make_workplace

DATA = "--dataset=ratings.csv"
PREPARE = ("prepare", DATA, "--windows=0.85")
TRAIN = ("train", "--config=small.yaml", DATA, "--windows=0.85", "--epochs=6", "--patience=none")
TUNE = ("tune", "--study=study.yaml", DATA)
STUDY = {
    "config": "ease.yaml", "space": {"regularization": [10.0, 100.0, 1000.0]}, "sampler": "grid",
    "n_trials": 3, "n_seeds": 1, "heartbeat": 2,
}  # fmt: skip
TUNE_EVERY = 6  # rounds: its workers spend most of their time on imports
EMPTY_EVERY = 3  # rounds: the others begin with an empty store
TOGETHER, TOGETHER_EVERY = 3, 4
TIMED = ("epoch_seconds", "examples_per_second")


class Attack:
    """What was done so far, and what was found."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed, self.folder, self.store = seed, folder, folder / "store.db"
        self.ratings = make_ratings(np.random.default_rng(seed), n_users=120)
        self.killed, self.too_late, self.audited = Counter[str](), Counter[str](), Counter[str]()
        self.problems: list[str] = []
        self.seconds: dict[str, float] = {}

    def workplace(self, name: str, store: Path | None) -> Workplace:
        """A folder with ratings and settings, and a copy of a tracking store, if any."""
        folder = self.folder / name
        folder.mkdir()
        place = make_workplace(folder, self.ratings, store)
        (folder / "ease.yaml").write_text("model: ease\nwindows: [0.85]\n")
        (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
        return place

    def twin(self) -> dict[str, Any]:
        """What runs hold that are never disturbed, by what was done; notes how long it takes."""
        began = time.monotonic()
        uri = f"sqlite:///{self.store}"
        forked(lambda: len(mlflow.MlflowClient(uri).search_experiments()))
        self.seconds["store"] = time.monotonic() - began
        place, pictures = self.workplace("twin", self.store), {}
        for name, words in (("prepare", PREPARE), ("train", TRAIN)):
            self.to_its_end(place, name, words)
            pictures[name] = forked(lambda name=name: picture(place, place.run(step=name)))
        run_id = forked(lambda: place.run(step="train").info.run_id)
        self.to_its_end(place, "evaluate", ("evaluate", "--run_id", run_id))
        pictures["evaluate"] = forked(lambda: picture(place, place.run(step="train")))
        self.to_its_end(place, "sync", ("sync",))
        self.to_its_end(place, "tune", TUNE)
        if self.problems:
            sys.exit("\n".join(self.problems))
        pictures["study"] = forked(lambda: study(place))
        return pictures

    def to_its_end(self, place: Workplace, name: str, words: tuple[str, ...]) -> None:
        """Run a command that nobody kills."""
        began = time.monotonic()
        status, told = forked(lambda: command(place, words))
        self.seconds.setdefault(name, time.monotonic() - began)
        if status:
            self.problems.append(
                f"{place.folder.name}: {' '.join(words)} ended with {status}: {told}"
            )

    def kill(self, place: Workplace, name: str, words: tuple[str, ...], rng: Generator) -> None:
        """Start a command and kill it at some moment."""
        seconds = self.seconds[name]
        if not (place.folder / "mlflow.db").exists():
            seconds += self.seconds["store"]
        moment, group = rng.uniform(0, seconds), bool(rng.integers(2))
        until = time.monotonic() + moment
        child = start(lambda: command(place, words))
        while time.monotonic() < until and not ended(child):
            time.sleep(0.005)
        if ended(child):
            self.too_late[name] += 1
            return
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL) if group else os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        self.killed[name] += 1

    def round(self, number: int, twin: dict[str, Any]) -> None:
        """One folder: everything in it is killed, done and audited."""
        rng = np.random.default_rng([self.seed, number])
        place = self.workplace(f"round-{number}", self.store if number % EMPTY_EVERY else None)
        if number % TOGETHER_EVERY == 1:
            children = [start(lambda: command(place, TRAIN)) for _ in range(TOGETHER)]
            time.sleep(rng.uniform(0, TOGETHER * (self.seconds["store"] + self.seconds["train"])))
            with suppress(ProcessLookupError):
                os.killpg(children[0], signal.SIGKILL)
            for child in children:
                _, status = os.waitpid(child, 0)
                self.killed["train"] += os.WIFSIGNALED(status)
                if child != children[0] and status:
                    self.problems.append(f"round {number}: one of several ended with {status}")
        for _ in range(rng.integers(1, 3)):
            self.kill(place, "prepare", PREPARE, rng)
        self.to_its_end(place, "prepare", PREPARE)
        for _ in range(rng.integers(1, 4)):
            self.kill(place, "train", (*TRAIN, "--reuse=false"), rng)
            if rng.integers(2):
                self.kill(place, "sync", ("sync",), rng)
        self.to_its_end(place, "sync", ("sync",))
        for run_id in forked(lambda: resumable(place)):
            self.to_its_end(place, "resume", ("train", "--resume", run_id))
        self.to_its_end(place, "train", TRAIN)
        run_id = forked(lambda: place.runs(step="train")[0].info.run_id)
        evaluate = ("evaluate", "--run_id", run_id)
        for _ in range(rng.integers(1, 3)):
            self.kill(place, "evaluate", evaluate, rng)
        self.to_its_end(place, "evaluate", evaluate)
        if number % TUNE_EVERY == TUNE_EVERY - 1:
            for _ in range(rng.integers(1, 3)):
                self.kill(place, "tune", TUNE, rng)
            self.to_its_end(place, "tune", TUNE)
        self.to_its_end(place, "sync", ("sync",))
        counts, problems = forked(lambda: audit(place, twin))
        self.audited.update(counts)
        self.problems += [f"round {number}: {each}" for each in problems]
        if not problems:
            shutil.rmtree(place.folder)


def command(place: Workplace, words: tuple[str, ...]) -> tuple[int, str]:
    """``python -m pipeline WORDS``, in this process."""
    outcome = place.cli(*words)
    return outcome.status, outcome.told[-2000:]


def start(do: Callable[[], Any], answer: Path | None = None) -> int:
    """Begin to do something in a process of its own, the first of its group; its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        result = do()
        if answer is not None:
            answer.write_text(json.dumps(result))
        status = 0 if answer is not None else result[0]
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def ended(child: int) -> bool:
    """Whether a process has ended; it stays to be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def forked(do: Callable[[], Any]) -> Any:
    """What ``do`` gives, done in a process of its own: a JSON value."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer"
        os.waitpid(start(do, answer), 0)
        return json.loads(answer.read_text())


def picture(place: Workplace, run: MlflowRun) -> dict[str, Any]:
    """All that does not differ from one run to the next of the same."""
    client = place.client
    keys = sorted(key for key in run.data.metrics)
    points = {
        key: [[p.step, None if key.endswith(TIMED) else p.value] for p in
              client.get_metric_history(run.info.run_id, key)]
        for key in keys
    }  # fmt: skip
    weights = place.model(run).rglob("weights.safetensors") if run.outputs.model_outputs else []
    lists = place.artifact(run, "test/recommendations.parquet")
    return {
        "params": run.data.params,
        "points": points,
        "tags": sorted(set(run.data.tags) - {"ended"}),
        "datasets": [each.dataset.digest for each in run.inputs.dataset_inputs],
        "files": sorted(place.files(run)),
        "models": len(run.outputs.model_outputs),
        "weights": [hashlib.sha256(file.read_bytes()).hexdigest() for file in weights],
        "lists": pd.read_parquet(lists).to_json() if lists.exists() else None,
    }


def study(place: Workplace) -> dict[str, Any]:
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


def resumable(place: Workplace) -> list[str]:
    """Ids of runs that say that they can be resumed."""
    return [
        str(run.info.run_id)
        for run in place.runs(step="train")
        if run.info.status == "KILLED"
        and "train --resume" in run.data.tags["ended"]
        and "mlflow.parentRunId" not in run.data.tags  # its study has made another
    ]


def audit(place: Workplace, twin: dict[str, Any]) -> tuple[dict[str, int], list[str]]:
    """How many runs were compared, by status, and what is not as it should be."""
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
        counts[f"{step} {status}"] += 1
        found = picture(place, run)
        for key, points in found["points"].items():
            if len({step for step, _ in points}) < len(points):
                problems.append(f"{step} {run_id}: {key} has a step twice")
        if status == "KILLED" and "ended" not in run.data.tags:
            problems.append(f"{step} {run_id} is KILLED and does not say why")
        if status not in ("FINISHED", "KILLED"):
            problems.append(f"{step} {run_id} is {status}: {run.data.tags.get('ended')}")
        if status != "FINISHED" or run.data.tags.get("mlflow.parentRunId"):
            continue
        same = twin.get("evaluate" if "evaluated" in run.data.tags else str(step))
        if same is not None:
            problems += [
                f"{step} {run_id}: {part} is not the twin's: {str(found[part])[:300]} instead of "
                f"{str(same[part])[:300]}"
                for part in same
                if found[part] != same[part]
            ]
    if (place.folder / "optuna.db").exists() and study(place) != twin["study"]:
        problems.append(f"study: {study(place)} instead of {twin['study']}")
    return counts, problems


def main() -> None:
    """Attack until so many processes were killed, and tell what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where to work; what failed is kept there")
    given = parser.parse_args()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])  # for the workers of studies
    folder = given.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    attack, number = Attack(given.seed, folder), 0
    twin = attack.twin()
    while sum(attack.killed.values()) < given.kills and len(attack.problems) < 20:
        attack.round(number, twin)
        number += 1
        killed = ", ".join(f"{count} {name}" for name, count in sorted(attack.killed.items()))
        print(f"round {number}: killed {killed}; {len(attack.problems)} problems", flush=True)
    print(f"mlflow {mlflow.__version__}, seed {given.seed}, {number} rounds in {folder}")
    print(f"killed: {sum(attack.killed.values())}; over before: {dict(attack.too_late)}")
    print(f"runs audited: {dict(sorted(attack.audited.items()))}")
    for problem in attack.problems:
        print(problem)
    sys.exit(bool(attack.problems))


if __name__ == "__main__":
    main()
