"""A tracking server that can be killed and started again, and a way to it that can be cut."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.steps.workplace import DEADLINE, environment


class Server:
    """``mlflow server`` on SQLite, always at the same port; artifacts go through it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = (
            *("server", "--workers=1", "--host=127.0.0.1", f"--port={self.port}"),
            f"--backend-store-uri=sqlite:///{self.folder / 'mlflow.db'}",
            f"--artifacts-destination={self.folder / 'artifacts'}",
        )
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *words],
                cwd=self.folder,
                env={**environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until = time.monotonic() + DEADLINE
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < until
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL for it and all its workers."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """A server for the time of a ``with`` block."""
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


class Way:
    """A port that leads to another; ``watch`` sees all that goes there.

    It is called with each piece of a request before that is passed on, and returns how many bytes
    of it may pass; if not all, the connection is cut after them.
    """

    def __init__(self, port: int, watch: Callable[[bytes], int]) -> None:
        self.target, self.watch = port, watch
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Nobody can come this way any more."""
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self.listener.accept()
            except OSError:
                return
            try:
                there = socket.create_connection(("127.0.0.1", self.target), 5)
            except OSError:
                here.close()
                continue
            for each in ((here, there, self.watch), (there, here, len)):
                threading.Thread(target=self._pass, args=each, daemon=True).start()

    def _pass(
        self, source: socket.socket, target: socket.socket, watch: Callable[[bytes], int]
    ) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                passing = watch(piece)
                target.sendall(piece[:passing])
                if passing < len(piece):
                    break
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
