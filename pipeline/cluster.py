"""A Ray cluster: commands and calls on its nodes, each with a share of one, and our code with them.

    launcher   starts a command, gets what it says line by line, sends it signals
    node       an actor of Ray's runs it as a process of its own, as it would be run at a shell

Ray is imported where it is needed: most need no cluster.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline.code import own_code
from pipeline.disk import unfinished
from pipeline.errors import UserError
from pipeline.extras import require
from pipeline.process import STARTED_BY

PACKAGE = Path(__file__).parent
MOST_ON_NODE = 4  # shares of a node without GPUs: each holds the data in memory
AHEAD = 2  # blocks per share that are on their way at a time
LATEST = Path("/tmp/ray/ray_current_cluster")  # where Ray keeps the address of this machine's
ANSWER_SECONDS = 10.0  # that a cluster may take
RETRIES = 5  # of a block whose node was lost
HANDLED = (signal.SIGINT, signal.SIGTERM)

log = logging.getLogger("pipeline")
Block = TypeVar("Block")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Share:
    """What each of several workers has of the nodes."""

    count: int
    """Of workers."""
    cpus: int
    gpus: float
    fitting: int
    """Workers for which the nodes of now have room; the others wait for more."""

    def in_words(self) -> str:
        """What there is to say of it, in a line."""
        each = f"{self.cpus} CPU" + (f" and {self.gpus:.2g} GPU" if self.gpus else "")
        waiting = self.count - self.fitting
        more = f"; {waiting} of them wait for a node with room" if waiting > 0 else ""
        return f"{self.count} workers on Ray, each with {each}{more}"


def share(
    nodes: Sequence[Mapping[str, float]],
    workers: int | None = None,
    workers_per_gpu: int = 1,
    *,
    on_gpu: bool = False,
) -> Share:
    """What each of ``workers`` gets of nodes with so many ``CPU`` and ``GPU``.

    Without a number of workers there are ``workers_per_gpu`` on each GPU, or up to four on each
    node where there are none or none is wanted. They have as many CPUs as leave room for all.
    """
    with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1] if on_gpu else []
    if with_gpu:
        room = [int(node["GPU"]) * workers_per_gpu for node in with_gpu]
        cpus = min(int(node["CPU"]) // most for node, most in zip(with_gpu, room, strict=True))
        return Share(workers or sum(room), max(1, cpus), 1 / workers_per_gpu, sum(room))
    cores = [int(node.get("CPU", 0)) for node in nodes]
    count = workers or max(1, sum(min(each, MOST_ON_NODE) for each in cores))
    cpus = max([1, *cores])
    while cpus > 1 and sum(each // cpus for each in cores) < count:
        cpus -= 1
    return Share(count, cpus, 0.0, sum(each // cpus for each in cores))


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
        self.is_dismissed = False
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

        self.is_dismissed = self.waiting
        if self.waiting or number == signal.SIGKILL:
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


@contextmanager
def connected(address: str | None, own: Iterable[str] = ()) -> Iterator[Cluster]:
    """The cluster at ``address`` for the time of a ``with`` block; our code is on its nodes.

    Without an address it is the one of RAY_ADDRESS, the one of which this machine is a node, or
    one of this machine alone. ``own`` are the modules of one's own that are needed there.

    Raises:
        UserError: Ray is not installed, or there is no such cluster.
    """
    require("ray", "ray", "--launcher ray")
    _require_answer(_wanted(address))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray").setLevel(logging.ERROR)
    import ray

    handlers = {number: signal.getsignal(number) for number in HANDLED}
    with tempfile.TemporaryDirectory() as folder:
        _gather(own, Path(folder))
        try:
            ray.init(
                address,
                runtime_env={"working_dir": folder},
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _unknown(address or "", str(error).splitlines()[0]) from None
    for number, handler in handlers.items():  # Ray has put its own in their place
        signal.signal(number, handler)
    try:
        yield Cluster()
    finally:
        ray.shutdown()


def _wanted(address: str | None) -> str:
    """The address that Ray would take; "" where it knows none."""
    named = address or os.environ.get("RAY_ADDRESS", "")
    return LATEST.read_text().strip() if named in ("", "auto") and LATEST.exists() else named


def _require_answer(address: str) -> None:
    """Refuse an address where nobody answers, for which Ray would wait a minute and more."""
    if address.startswith("ray://"):
        raise UserError(
            f"{address} is an address of Ray Client, from outside a cluster. Start this on a node "
            f"of the cluster, with --ray_address HOST:PORT or auto."
        )
    host, _, port = address.rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
        except OSError as error:
            raise _unknown(address, error.strerror or str(error)) from None


def _unknown(address: str, why: str) -> UserError:
    return UserError(
        f"There is no Ray cluster {f'at {address} ' if address else ''}that this machine is a node "
        f"of ({why}). To make one: ray start --head, and on other machines ray start "
        f"--address=HOST:PORT; to forget one that was killed: ray stop (docs/cluster.md)."
    )


Placing = Callable[[Iterable[str]], AbstractContextManager[Cluster | None]]
"""The cluster for the time of a ``with`` block, with modules of one's own; None is here."""


def here(own: Iterable[str]) -> AbstractContextManager[Cluster | None]:
    """No cluster."""
    return nullcontext()


def _gather(own: Iterable[str], folder: Path) -> None:
    """Copy the package, and what of one's own is needed, as the folder of the command has it."""
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in own_code(own):
        inside = path.is_relative_to(Path.cwd()) and not path.is_relative_to(sys.prefix)
        target = folder / (path.relative_to(Path.cwd()) if inside else path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, target)
