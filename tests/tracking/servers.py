"""A tracking server that can be killed and started again, and a way to it that can be cut."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.steps.workplace import (
    PROXIED,
    Workplace,
    answers,
    copy_store,
    free_port,
    start_server,
    wait_until,
)


class Server:
    """``mlflow server`` on SQLite, always at the same port; artifacts go through it."""

    def __init__(self, folder: Path) -> None:
        self.place = Workplace(folder)
        self.port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = start_server(self.place, "127.0.0.1", self.port)
        wait_until(lambda: answers(self.url), self.process)

    def kill(self) -> None:
        """SIGKILL for it and all its workers."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@contextmanager
def running(folder: Path, store: Path | None = None) -> Iterator[Server]:
    """A server for the time of a ``with`` block; with ``store``, it need not make its own."""
    if store is not None:
        copy_store(store, folder, PROXIED)
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


class Proxy(ThreadingHTTPServer):
    """An ingress before a server: while it is out of order, it answers with a page of its own.

    ``out_of_order`` says, by method and path, which requests do not reach the server then;
    ``pages`` counts the answers that were given for it.
    """

    daemon_threads = True

    def __init__(self, port: int, status: int, page: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.port, self.status, self.page = port, status, page
        self.out_of_order: Callable[[str, str], bool] = lambda method, path: False
        self.pages = 0
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def disturb(self, request: Passing, body: bytes) -> None:
        """Do what is wrong with a request for which it is out of order."""
        request.answer(self.status, "text/html", self.page)


class Passing(BaseHTTPRequestHandler):
    """A request to a proxy."""

    server: Proxy

    def _pass(self) -> None:
        body = self._body()
        if self.server.out_of_order(self.command, self.path):
            self.server.pages += 1
            self.server.disturb(self, body)
            return
        self.answer(*self.forward(body))

    def _body(self) -> bytes:
        """What was sent, also in chunks, as an empty file is; it goes on in one piece."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        del self.headers["Transfer-Encoding"]
        self.headers["Content-Length"] = str(len(body))
        return body

    def forward(self, body: bytes) -> tuple[int, str, bytes]:
        """What the server answers: status, type and content."""
        there = HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        there.request(self.command, self.path, body, dict(self.headers))
        answer = there.getresponse()
        content = answer.status, answer.getheader("Content-Type", ""), answer.read()
        there.close()
        return content

    def answer(
        self, status: int, kind: str, body: bytes, length: int | None = None, **more: str
    ) -> None:
        """Answer the client; ``length`` may promise more than the body has."""
        headers = {"Content-Type": kind, "Content-Length": str(length or len(body)), **more}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""
