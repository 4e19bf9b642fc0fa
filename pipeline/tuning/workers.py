"""Worker processes, here or on a cluster: started, watched, replaced if they die, ended in time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Protocol

from pipeline.errors import UserError
from pipeline.process import STARTED_BY, lock

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
OUR_RUN = "MLFLOW_RUN_ID"  # of `mlflow run`: no worker is to end it
DEATHS = 5  # of workers, in a row and without a trial done between them, before we give up
MOST_ON_CPU = 4  # workers, unless more are asked for: each holds the data in memory
END_SECONDS = 20.0  # that workers have to end their runs once they are asked to


class Process(Protocol):
    """What of ``subprocess.Popen`` is needed of a worker, wherever it runs."""

    returncode: int | None

    @property
    def waiting(self) -> bool:
        """Whether it has found no place to run yet."""

    @property
    def is_lost(self) -> bool:
        """Whether the place that it had is gone, and it with that."""

    def poll(self) -> int | None: ...
    def wait(self) -> int: ...
    def send_signal(self, sig: int, /) -> None: ...


class _Here(subprocess.Popen[bytes]):
    """A process on this machine, where there is always a place."""

    waiting = is_lost = False


Start = Callable[[Sequence[str], Mapping[str, str], Path], Process]
"""Starts a command with an environment; what it says goes to the end of a file."""


def start_here(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
    """Start a worker on this machine; it has our environment beside its own."""
    ours = {name: value for name, value in os.environ.items() if name != OUR_RUN}
    with log.open("ab") as output:
        return _Here(
            command,
            env={**ours, **environment, STARTED_BY: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us alone, who tell them what to do
        )


@dataclass
class Workers:
    """Processes that run ``command`` with their number behind it."""

    command: Sequence[str]
    environments: Sequence[Mapping[str, str]]
    """What each process has in its environment; one entry per worker."""
    logs: Path
    """Folder for what they say."""
    place: Start = start_here
    forgiven: int = DEATHS
    """Deaths in a row: a node that is lost takes several workers with it, and some again."""
    processes: dict[int, Process] = field(default_factory=dict)
    deaths: int = 0

    def start(self) -> None:
        """Start them all."""
        self.logs.mkdir(parents=True, exist_ok=True)
        for number in range(len(self.environments)):
            self._start(number)

    def _start(self, number: int) -> None:
        command = [*self.command, str(number)]
        self.processes[number] = self.place(command, self.environments[number], self.log(number))

    def log(self, number: int) -> Path:
        """Where a worker writes."""
        return self.logs / f"worker-{number}.log"

    @property
    def running(self) -> bool:
        """Whether any is left."""
        return any(process.poll() is None for process in self.processes.values())

    @property
    def dead(self) -> list[int]:
        """Those that were killed or failed."""
        return [n for n, process in self.processes.items() if process.poll() not in (None, 0)]

    def replace_dead(self, *, progress: bool) -> list[str]:
        """Start a new worker for each that was killed or failed; says what happened to them.

        ``progress`` is whether trials have been done since the last call.

        Raises:
            UserError: worker after worker dies without a trial done.
        """
        if progress:
            self.deaths = 0
        notes = []
        for number in self.dead:
            self.deaths += 1
            how = _how(self.processes[number])
            if self.deaths > self.forgiven:
                raise UserError(
                    f"{self.deaths} workers in a row ended without a trial done, the last one by "
                    f"{how}. What it said is in {self.log(number)}:\n{self.last_words(number)}"
                )
            self._start(number)
            notes.append(f"worker {number} ended by {how}; another takes its place")
        return notes

    def last_words(self, number: int) -> str:
        """The end of what a worker said."""
        return "\n".join(self.log(number).read_text(errors="replace").splitlines()[-5:])

    def dismiss_waiting(self) -> None:
        """Take back those that wait for a place, once another has found that nothing is left."""
        if any(process.poll() == 0 for process in self.processes.values()):
            for process in self.processes.values():
                if process.waiting:
                    process.send_signal(signal.SIGTERM)

    def signal(self, which: signal.Signals) -> None:
        """Send a signal to each that is left."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(which)

    def end(self) -> None:
        """End those that are left, gently if they let themselves."""
        self.signal(signal.SIGTERM)
        until = time.monotonic() + END_SECONDS
        while self.running and time.monotonic() < until:
            time.sleep(0.05)
        self.signal(signal.SIGKILL)
        for process in self.processes.values():
            process.wait()


def _how(process: Process) -> str:
    """What ended a process."""
    if process.is_lost:
        return "the loss of its place on the cluster"
    status = process.returncode or 0
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"


def worker_environments(
    workers: int | None, workers_per_gpu: int, gpus: Sequence[str], cores: int
) -> list[dict[str, str]]:
    """The environment of each worker: its GPU, and its share of the cores, unless ours says.

    ``gpus`` are the names by which CUDA knows the devices; workers take them in turn. Without a
    number of workers there are ``workers_per_gpu`` on each, or one per core of the CPU, up to four.
    """
    total = workers or len(gpus) * workers_per_gpu or min(cores, MOST_ON_CPU)
    if gpus and total > len(gpus) * workers_per_gpu:
        raise UserError(
            f"workers={total} on {len(gpus)} GPUs with workers_per_gpu={workers_per_gpu}: expected "
            f"at most {len(gpus) * workers_per_gpu}. Raise workers_per_gpu to let trials share one."
        )
    each = threads(max(1, cores // total))
    places = [
        {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
        for number in range(total)
    ]
    return [{**each, **place} for place in places]


def threads(cores: int) -> dict[str, str]:
    """What libraries read how many threads they may have, where nobody has chosen that."""
    return {name: str(cores) for name in THREADS if name not in os.environ}


def available_cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def own_gpu(wanted: str | None, folder: Path) -> Iterator[None]:
    """A GPU for a worker that nobody launched: of this machine's, the one with fewest of them.

    Which are taken is known by locks in ``folder``, which end with their process. It has to come
    before anything is done on a GPU, since CUDA then no longer asks which it may see.
    """
    gpus = visible_gpus(wanted)
    with ExitStack() as held:
        for number in count() if gpus else ():
            sharing, place = divmod(number, len(gpus))
            try:
                held.enter_context(lock(folder / f"{gpus[place]}-{sharing}.lock", gpus[place]))
            except UserError:
                continue
            os.environ["CUDA_VISIBLE_DEVICES"] = gpus[place]
            break
        yield


def visible_gpus(wanted: str | None) -> list[str]:
    """The CUDA devices that a network would train on; none where ``wanted`` is the CPU or None."""
    if wanted in (None, "cpu"):
        return []
    import torch

    present = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:present] or [str(number) for number in range(present)]
