"""The rounds of the attack: what is killed, in which order, and the twin that never is."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import yaml
from numpy.random import Generator

from tests.conftest import make_ratings
from tests.soak.audit import COPY, LISTS, audit, lists, pictures, resumable, study
from tests.soak.processes import command, forked, killed_at, start, wait
from tests.steps.test_import_ledger import TEXT as LEDGER
from tests.steps.workplace import Workplace, make_workplace

DATA = "--dataset=ratings.csv"
PREPARE = ("prepare", DATA, "--windows=0.85")
TRAIN = ("train", "--config=small.yaml", DATA, "--windows=0.85", "--epochs=6", "--patience=none")
TUNE = ("tune", "--study=study.yaml", DATA)
MAIN = ("main", DATA, "--suite=experiments/suites/two.yaml")
BACKTEST = ("backtest", "--experiments=popular.yaml,svd.yaml", DATA, "--cuts=.7,.8")
IMPORT = ("import_ledger", "--csv=ledger.csv", "--n_items=40", "--n_users=7")
RECOMMEND = ("recommend", f"--output={LISTS}", "--k=5")
MIGRATE = ("migrate", "--from=sqlite:///mlflow.db", f"--to=sqlite:///{COPY}")
STUDY = {
    "config": "ease.yaml", "space": {"regularization": [10.0, 100.0, 1000.0]}, "sampler": "grid",
    "n_trials": 3, "n_seeds": 1, "heartbeat": 2,
}  # fmt: skip
FILES = {
    "ease.yaml": "model: ease\nwindows: [0.85]\n",
    "popular.yaml": "model: most_popular\n",
    "svd.yaml": "model: svd\ncomponents: 4\n",
    "experiments/popular.yaml": "model: most_popular\nwindows: [0.85]\n",
    "experiments/ease.yaml": "model: ease\nwindows: [0.85]\n",
    "experiments/suites/two.yaml": "experiments: [popular, ease]\n",
    "study.yaml": yaml.safe_dump(STUDY),
    "ledger.csv": LEDGER,
}
TUNE_EVERY = 6  # rounds: its workers spend most of their time on imports
EMPTY_EVERY = 3  # rounds: the others begin with an empty store
TOGETHER, TOGETHER_EVERY = 3, 4


class Attack:
    """What was done so far, and what was found."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed, self.folder, self.store = seed, folder, folder / "store.db"
        self.ratings = make_ratings(np.random.default_rng(seed), n_users=120)
        self.killed, self.too_late, self.audited = Counter[str](), Counter[str](), Counter[str]()
        self.problems: list[str] = []
        self.seconds: dict[str, float] = {}
        self.twin: dict[str, Any] = {}

    def workplace(self, name: str, store: Path | None) -> Workplace:
        """A folder with ratings and settings, and a copy of a tracking store, if any."""
        folder = self.folder / name
        for file, text in FILES.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
        return make_workplace(folder, self.ratings, store)

    def make_twin(self) -> None:
        """Do everything undisturbed: what runs hold then, and how long each command takes."""
        began = time.monotonic()
        uri = f"sqlite:///{self.store}"
        forked(lambda: len(mlflow.MlflowClient(uri).search_experiments()))
        self.seconds["store"] = time.monotonic() - began
        place = self.workplace("twin", self.store)
        for words in (PREPARE, TRAIN, IMPORT):
            self.to_its_end(place, words)
        self.twin |= forked(lambda: pictures(place))  # of a model that is not evaluated, too
        run_id = trained(place)
        evaluate, recommend = ("evaluate", "--run_id", run_id), (*RECOMMEND, "--run_id", run_id)
        for words in (evaluate, recommend, MAIN, BACKTEST):
            self.to_its_end(place, words)
        for words in (compare(place), ("sync",), TUNE, MIGRATE):
            self.to_its_end(place, words)
        self.twin |= forked(lambda: pictures(place))
        self.twin |= {"study": forked(lambda: study(place)), LISTS: lists(place)}
        self.problems += [f"twin: {each}" for each in forked(lambda: audit(place, self.twin))[1]]

    def to_its_end(self, place: Workplace, words: Sequence[str]) -> None:
        """Run a command that nobody kills."""
        began = time.monotonic()
        status, told = forked(lambda: command(place, *words))
        self.seconds.setdefault(words[0], time.monotonic() - began)
        if status:
            self.problems.append(
                f"{place.folder.name}: {' '.join(words)} ended with {status}: {told[-2000:]}"
            )

    def kill(self, place: Workplace, words: Sequence[str], rng: Generator) -> None:
        """Start a command and kill it at some moment."""
        seconds = self.seconds[words[0]]
        if not (place.folder / "mlflow.db").exists():
            seconds += self.seconds["store"]
        moment, group = rng.uniform(0, seconds), bool(rng.integers(2))
        child = start(lambda: command(place, *words))
        count = self.killed if killed_at(child, moment, group=group) else self.too_late
        count[words[0]] += 1

    def kill_and_end(
        self, place: Workplace, words: Sequence[str], rng: Generator, end: Sequence[str] = ()
    ) -> None:
        """Kill a command once or twice, then let it (or ``end``) come to its end."""
        for _ in range(rng.integers(1, 3)):
            self.kill(place, words, rng)
        self.to_its_end(place, end or words)

    def round(self, number: int) -> None:
        """One folder: everything in it is killed, done and audited."""
        rng = np.random.default_rng([self.seed, number])
        place = self.workplace(f"round-{number}", self.store if number % EMPTY_EVERY else None)
        before = len(self.problems)
        if number % TOGETHER_EVERY == 1:
            self.begin_together(place, rng)
        self.kill_and_end(place, PREPARE, rng)
        for _ in range(rng.integers(1, 4)):
            self.kill(place, (*TRAIN, "--reuse=false"), rng)
            if rng.integers(2):
                self.kill(place, ("sync",), rng)
        self.to_its_end(place, ("sync",))
        for run_id in forked(lambda: resumable(place)):
            self.to_its_end(place, ("train", "--resume", run_id))
        self.to_its_end(place, TRAIN)
        self.kill_and_end(place, IMPORT, rng)
        run_id = trained(place)
        self.kill_and_end(place, ("evaluate", "--run_id", run_id), rng)
        self.kill_recommend(place, (*RECOMMEND, "--run_id", run_id), rng)
        self.kill_and_end(place, MAIN, rng)
        self.kill_and_end(place, BACKTEST, rng)
        self.kill_and_end(place, compare(place), rng)
        if number % TUNE_EVERY == TUNE_EVERY - 1:
            self.kill_and_end(place, TUNE, rng)
        self.to_its_end(place, ("sync",))
        self.kill_and_end(place, MIGRATE, rng)
        counts, problems = forked(lambda: audit(place, self.twin))
        self.audited.update(counts)
        self.problems += [f"round {number}: {each}" for each in problems]
        if len(self.problems) == before:
            shutil.rmtree(place.folder)

    def begin_together(self, place: Workplace, rng: Generator) -> None:
        """Several first commands at once, one of which is killed."""
        children = [start(lambda: command(place, *TRAIN)) for _ in range(TOGETHER)]
        time.sleep(rng.uniform(0, TOGETHER * (self.seconds["store"] + self.seconds["train"])))
        with suppress(ProcessLookupError):
            os.killpg(children[0], signal.SIGKILL)
        for child in children:
            status = wait(child)
            self.killed["train"] += status == -signal.SIGKILL
            if child != children[0] and status:
                self.problems.append(f"{place.folder.name}: one of several ended with {status}")

    def kill_recommend(self, place: Workplace, words: Sequence[str], rng: Generator) -> None:
        """Its file is there whole, or not at all."""
        for _ in range(rng.integers(1, 3)):
            self.kill(place, words, rng)
            if lists(place) not in (None, self.twin[LISTS]):
                self.problems.append(f"{place.folder.name}: {LISTS} is not whole after a kill")
        self.to_its_end(place, (*words, "--overwrite=true"))
        if lists(place) != self.twin[LISTS]:
            self.problems.append(f"{place.folder.name}: {LISTS} is not the twin's")


def trained(place: Workplace) -> str:
    """The latest run of ``TRAIN``."""
    run_id: str = forked(lambda: place.runs(step="train", experiment="small")[0].info.run_id)
    return run_id


def compare(place: Workplace) -> tuple[str, ...]:
    """A comparison of all that is evaluated, as ``main`` and others have left it."""

    def evaluated() -> list[str]:
        runs = {
            run.data.tags["experiment"]: str(run.info.run_id)
            for run in place.runs(step="train")
            if "evaluated" in run.data.tags
        }
        return [runs[name] for name in ("small", "popular", "ease")]

    return ("compare", f"--run_ids={','.join(forked(evaluated))}")
