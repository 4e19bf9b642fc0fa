"""Servers of this machine for the time of a ``with`` block."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SECONDS = 60.0  # until a server answers


@contextmanager
def tracking_server(folder: Path) -> Iterator[str]:
    """The URL of an ``mlflow server`` with a database and artifacts in ``folder``, made for it.

    Raises:
        RuntimeError: it ended, or did not answer in time.
    """
    folder.mkdir()
    words = (
        *("server", "--workers=1", f"--backend-store-uri=sqlite:///{folder / 'mlflow.db'}"),
        f"--artifacts-destination={folder / 'artifacts'}",
    )
    with _listening(words, folder, "health") as url:
        yield url


@contextmanager
def model_server(uri: str, folder: Path) -> Iterator[str]:
    """The URL of ``mlflow models serve`` with the model ``uri``; its log goes into ``folder``.

    Raises:
        RuntimeError: it ended, or did not answer in time.
    """
    words = ("models", "serve", "--env-manager=local", f"--model-uri={uri}")
    with _listening(words, folder, "ping") as url:
        yield url


@contextmanager
def _listening(words: tuple[str, ...], folder: Path, page: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "server.log"
    # A log file and not a pipe: a server whose pipe nobody empties stops answering.
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words, "--host=127.0.0.1", f"--port={port}"],
            cwd=folder,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + SECONDS
        while not _answers(f"{url}/{page}"):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"No server: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield url
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and its workers, politely if they will."""
    for each in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, each)
            process.wait(timeout=10)


def _answers(page: str) -> bool:
    try:
        with urllib.request.urlopen(page, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
