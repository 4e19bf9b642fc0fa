"""Rows of the table of faults: what was done, and whether what came of it is exact."""

from __future__ import annotations

import json
import os
import re
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run as MlflowRun

from tests.soak.attack import TRAIN
from tests.soak.audit import Picture, differences, picture
from tests.soak.processes import command, forked, start, wait
from tests.steps.workplace import Workplace

EXACT = "exact"
DELIVERED = re.compile(r": [1-9]\d* requests delivered")
ENDED = "ended"  # the tag that says why a run did not finish
FRESH = (*TRAIN, "--reuse=false")


@dataclass
class Row:
    """A fault, and what came of it."""

    group: str
    fault: str
    ways: list[str] = field(default_factory=list)
    """What it took until all was well."""
    wrong: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """``exact``, or what was wrong."""
        return "; ".join(dict.fromkeys(self.wrong)) or EXACT


@dataclass
class Site:
    """A folder in which commands are disturbed, and the store that they write to."""

    place: Workplace
    row: Row
    uri: str
    kept: Path | None = None
    """Where a server keeps files."""
    experiment: str | None = None

    def runs(self) -> list[MlflowRun]:
        """Of this row, latest first."""
        client = mlflow.MlflowClient(self.uri)
        found = client.get_experiment_by_name(self.experiment or "Default")
        order = ["attributes.start_time DESC"]
        return list(client.search_runs([found.experiment_id], order_by=order)) if found else []

    def begin(
        self, *words: str, uri: str | None = None, before: Callable[[], Any] = bool
    ) -> tuple[int, Callable[[], int]]:
        """Start a command in a process of its own, ``before`` which something is done there: the
        process, and what waits for its end and gives its status."""
        answer = Path(tempfile.mkdtemp(dir=self.place.folder.parent, prefix="told-")) / "answer"

        def there() -> tuple[int, str]:
            try:
                before()
                return command(self.place, *words, uri=uri or self.uri)
            except Exception:
                return 1, traceback.format_exc()

        def end() -> int:
            wait(child)
            status, told = json.loads(answer.read_text())
            self.heard(words[0], status, told)
            return int(status)

        child = start(there, answer)
        return child, end

    def do(self, *words: str, **more: Any) -> int:
        """Run a command, and give its status."""
        _, end = self.begin(*words, **more)
        return end()

    def ask(self, question: Callable[[], Any]) -> Any:
        """What the store says, asked by a process of its own in the folder."""

        def there() -> Any:
            os.chdir(self.place.folder)
            return question()

        return forked(there)

    def heard(self, name: str, status: int, told: str) -> None:
        """Note how a command ended: a traceback is never right."""
        if "Traceback" in told or "Error (" in told:
            self.row.wrong.append(f"{name} ends with a traceback: {told[-300:]}")
        if name == "sync" and DELIVERED.search(told):
            self.row.ways.append("sync delivered the rest")
        if status:
            last = (told.strip().splitlines() or [""])[-1]
            self.row.ways.append(f"{name} ended with {status}")
            if not last.startswith(("error: ", "Interrupted", "Error: ")):
                self.row.wrong.append(f"{name} does not say why it ended: {last[:200]}")

    def must(self, *words: str) -> None:
        """Run a command that nothing disturbs."""
        if status := self.do(*words):
            self.row.wrong.append(f"{words[0]} ended with {status}, undisturbed")

    def finish(self, words: Sequence[str] = TRAIN) -> None:
        """Deliver what is left, and finish what a disturbed ``train`` has begun."""
        self.must("sync")
        runs = self.ask(
            lambda: [
                (run.info.run_id, run.info.status, "train --resume" in run.data.tags.get(ENDED, ""))
                for run in self.runs()
                if run.data.tags.get("step") == "train"
            ]
        )
        if any(status == "FINISHED" for _, status, _ in runs):
            return
        begun = [run_id for run_id, status, _ in runs if status in ("FAILED", "KILLED")]
        if begun and self.resume(begun[0]):
            return
        self.row.ways.append("done again")
        self.must(*words)

    def resume(self, run_id: str) -> bool:
        """Go on with a run; False where it has nothing to go on with."""
        self.row.ways.append("resumed")
        return not self.do("train", "--resume", run_id)

    def evaluate(self, **more: Any) -> int:
        """Evaluate the run that is finished."""
        return self.do("evaluate", "--run_id", self.finished(), **more)

    def finished(self) -> str:
        """The id of the run that is finished."""
        found = self.ask(lambda: [r.info.run_id for r in self.runs() if is_finished(r)])
        return str(found[0]) if found else "none"

    def pictures(self) -> list[Picture]:
        """Of all runs that are finished."""
        client = mlflow.MlflowClient(self.uri)
        return [picture(client, run, self.kept) for run in self.runs() if is_finished(run)]

    def compare(self, twin: Picture, number: int = 1) -> Row:
        """Note what is not as it should be: so many runs as their twin, nothing left."""
        found = self.ask(self.pictures)
        if len(found) != number:
            self.row.wrong.append(f"{len(found)} runs are finished, expected {number}")
        for each in found:
            self.row.wrong += differences(each, twin)
            steps = ([step for step, _ in points] for points in each["points"].values())
            if any(len(set(each)) < len(each) for each in steps):
                self.row.wrong.append("a point is there twice")
        if self.ask(lambda: sum(run.info.status == "RUNNING" for run in self.runs())):
            self.row.wrong.append("a run is RUNNING")
        left = [path.name for path in (self.place.folder / "data" / "outbox").glob("*")]
        left += [path.name for path in self.place.folder.rglob(".*.partial*")]
        if left:
            self.row.wrong.append(f"left behind: {', '.join(left)}")
        return self.row


def is_finished(run: MlflowRun) -> bool:
    """Whether a run is one of ``train`` that is finished."""
    return bool(run.info.status == "FINISHED" and run.data.tags.get("step") == "train")
