"""main on a cluster: each experiment is trained and evaluated on a node that has room for it.

    launcher   keeps experiments and data with its run, starts a worker for each, watches them
    worker     takes its experiment and the data from that run; what it leaves is a run below it

Then the launcher does what it would do alone, and finds all of it done.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pipeline.cluster.nodes import Cluster
from pipeline.cluster.shares import share
from pipeline.console import ProgressBar
from pipeline.data.prepared import Prepared, receive
from pipeline.errors import UserError
from pipeline.steps.evaluate import evaluate
from pipeline.steps.inputs import Inputs
from pipeline.steps.train import train
from pipeline.tracking.elsewhere import environment_elsewhere
from pipeline.tracking.runs import Run
from pipeline.tracking.store import delivering
from pipeline.tracking.trials import end_left
from pipeline.tuning.workers import DEATHS, Workers, threads

WATCH_SECONDS = 1.0
EXPERIMENTS = "experiments.json"  # artifact of the launcher's run
DATASETS = "datasets"  # artifacts, by fingerprint
LOGS = Path("data") / "suites"

log = logging.getLogger("pipeline")


class Task(NamedTuple):
    """An experiment to be trained and evaluated."""

    inputs: Inputs
    prepared: Prepared
    title: str


def do_elsewhere(cluster: Cluster, tasks: Sequence[Task], parent: Run, *, reuse: bool) -> None:
    """Train and evaluate each on a node of the cluster; one whose node is lost is done anew.

    Raises:
        UserError: one failed, or could not reach the tracking store.
    """
    environment = environment_elsewhere(cluster.others)
    on_gpu = any(task.inputs.wants_gpu for task in tasks)
    part = share(cluster.nodes, None, on_gpu=on_gpu)
    contents = [{"inputs": task.inputs.content(), "title": task.title} for task in tasks]
    parent.log_json(contents, EXPERIMENTS)
    for fingerprint, prepared in {task.inputs.fingerprint: task.prepared for task in tasks}.items():
        parent.log_file(prepared.folder, f"{DATASETS}/{fingerprint}")
    with tempfile.TemporaryDirectory() as folder:
        parent.fetch(EXPERIMENTS, Path(folder))  # the store has it all once it has answered
    flags = ["--role", "worker", "--run_id", parent.id, "--reuse", str(reuse).lower(), "--number"]
    workers = Workers(
        [sys.executable, "-m", "pipeline", "main", *flags],
        [{**environment, **threads(part.cpus)}] * len(tasks),
        LOGS / parent.id,
        partial(cluster.start, part),
        DEATHS * len(tasks),
    )
    log.info("%s at a time. What they say is in %s.", part.in_words(), workers.logs)
    try:
        workers.start()
        _watch(workers, tasks)
    finally:
        workers.end()
        end_left(parent)  # runs of a lost node, which cannot end them


def _watch(workers: Workers, tasks: Sequence[Task]) -> None:
    finished = 0
    with ProgressBar("main", len(tasks), "experiment") as bar:
        while workers.running or workers.dead:
            time.sleep(WATCH_SECONDS)
            ended = {number: process.poll() for number, process in workers.processes.items()}
            for number, status in ended.items():
                if status is not None and status > 0:
                    raise UserError(
                        f"{tasks[number].title} failed. What it said is in {workers.log(number)}:\n"
                        f"{workers.last_words(number)}"
                    )
            before, finished = finished, list(ended.values()).count(0)
            for sentence in workers.replace_dead(progress=finished > before):
                log.warning("%s", sentence)
            bar.done(finished, "")


def join(parent: Run, number: int, *, reuse: bool) -> None:
    """Train and evaluate an experiment of the run of a launcher, which calls it ``number``.

    Raises:
        UserError: as of both steps, or the run is of no launcher.
    """
    with tempfile.TemporaryDirectory() as folder:
        content = json.loads(parent.fetch(EXPERIMENTS, Path(folder)).read_text())[number]
    inputs = Inputs.read(content["inputs"], f"run {parent.id}")
    prepared = receive(
        inputs.fingerprint,
        lambda folder: parent.fetch(f"{DATASETS}/{inputs.fingerprint}", folder),
    )
    with delivering():
        trained = train(inputs, prepared, reuse=reuse, parent=parent, title=content["title"])
        evaluate(trained, prepared, reuse=reuse)
