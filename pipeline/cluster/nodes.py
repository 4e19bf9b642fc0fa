"""Commands and calls on the nodes of a cluster.

launcher   starts a command, gets what it says line by line, sends it signals
node       an actor of Ray's runs it as a process of its own, as it would be run at a shell
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pipeline.cluster.shares import Share
from pipeline.disk import unfinished
from pipeline.errors import UserError
from pipeline.process import STARTED_BY

AHEAD = 2  # blocks per share that are on their way at a time
RETRIES = 5  # of a block whose node was lost
HANDLED = (signal.SIGINT, signal.SIGTERM)

Block = TypeVar("Block")
Answer = TypeVar("Answer")


class Cluster:
    """The cluster that this process is connected to."""

    @property
    def nodes(self) -> list[dict[str, float]]:
        """The resources of the nodes that are there now, as CPU and GPU."""
        return [node["Resources"] for node in self._alive()]

    @property
    def others(self) -> list[str]:
        """The names of other hosts than this one."""
        return sorted({str(node["NodeManagerHostname"]) for node in self._alive()} - {_host()})

    def _alive(self) -> list[dict[str, Any]]:
        import ray

        return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]

    def start(
        self, each: Share, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> Placed:
        """Run a command on a node, as soon as one has room for it; what it says comes to ``log``.

        The first word of ``command`` is Python, whose place is the node's own.
        """
        import ray

        runner: Any = ray.remote(_Runner).options(max_concurrency=2, **_options(each)).remote()
        said = runner.run.options(num_returns="streaming").remote(command[1:], dict(environment))
        return Placed(runner, said, log)

    def map(
        self,
        each: Share,
        function: Callable[..., Answer],
        blocks: Iterable[Block],
        environment: Mapping[str, str],
        *more: object,
    ) -> Iterator[Answer]:
        """``function(block, *more)`` of each block, in their order; few blocks are held at a time.

        Raises:
            UserError: the function has raised one, or a block was lost again and again.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError

        task: Any = ray.remote(max_retries=RETRIES, **_options(each))(_call)
        coming: deque[Any] = deque()
        try:
            for block in blocks:
                if len(coming) == AHEAD * each.count:
                    yield ray.get(coming.popleft())
                coming.append(task.remote(function, dict(environment), block, *more))
            while coming:
                yield ray.get(coming.popleft())
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            raise UserError(f"Ray lost what it was given, {RETRIES} times over: {error}") from None


class Placed:
    """A command on a node; what of ``subprocess.Popen`` is needed to watch it."""

    def __init__(self, runner: Any, said: Iterator[Any], log: Path) -> None:
        self.runner, self.said, self.log = runner, said, log
        self.returncode: int | None = None
        self.place = ""
        self.is_dismissed = self.is_killed = self.is_lost = False
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    @property
    def waiting(self) -> bool:
        """Whether it has found no node yet."""
        return self.returncode is None and not self.place

    def poll(self) -> int | None:
        """Its status once it has ended; one that was lost with its node was killed."""
        return self.returncode

    def wait(self) -> int:
        """Its status, as soon as it ends."""
        self.thread.join()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal; one that has not begun is taken back, whatever the signal."""
        import ray

        self.is_dismissed, self.is_killed = self.waiting, number == signal.SIGKILL
        if self.is_dismissed or self.is_killed:
            ray.kill(self.runner)
        else:
            self.runner.signal.remote(number)

    def _follow(self) -> None:
        """Write down what it says, up to its end."""
        import ray
        from ray.exceptions import RayError

        status = -signal.SIGKILL
        with self.log.open("ab", buffering=0) as file:
            try:
                for reference in self.said:
                    said = ray.get(reference)
                    if isinstance(said, bytes):
                        file.write(said)
                    elif isinstance(said, str):
                        self.place = said
                        file.write(f"On {said}.\n".encode())
                    else:
                        status = said
            except RayError as error:
                self.is_lost = not (self.is_dismissed or self.is_killed)
                why = "Not needed any more." if self.is_dismissed else f"Lost: {error}"
                file.write(f"{why}\n".encode())
        ray.kill(self.runner)  # another may have its place; or it may not be lost for good
        self.returncode = 0 if self.is_dismissed else status


class _Runner:
    """An actor that runs a command on its node; it is gone when Ray, its node or launcher are."""

    def run(
        self, words: Sequence[str], environment: Mapping[str, str]
    ) -> Iterator[str | bytes | int]:
        """Its host, then what it says, then its status."""
        folder = _workplace()
        # Ray blocks SIGINT in its processes, and they would leave that to ours.
        before = signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        try:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                cwd=folder,
                env={**os.environ, **environment, STARTED_BY: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield _host()
        assert self.process.stdout is not None
        while said := os.read(self.process.stdout.fileno(), 1 << 16):
            yield said
        yield self.process.wait()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)


def _workplace() -> Path:
    """A folder on this node with the code that has come, for all that comes with the same.

    Ray's own, where we are, is no place to leave anything: when another node of this machine
    starts, it is made anew.
    """
    code = Path.cwd()
    folder = Path(tempfile.gettempdir()) / f"ncf-pipeline-{os.getuid()}" / code.name
    if not folder.exists():
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        with unfinished(folder.parent, folder.name) as partial:
            shutil.copytree(code, partial)
            with suppress(OSError):  # another was quicker
                partial.replace(folder)
    return folder


def _call(function: Callable[..., Answer], environment: Mapping[str, str], *given: Any) -> Answer:
    os.environ.update(environment)
    return function(*given)


def _options(each: Share) -> dict[str, Any]:
    return {"num_cpus": each.cpus, "num_gpus": each.gpus, "scheduling_strategy": "SPREAD"}


def _host() -> str:
    return platform.node()
