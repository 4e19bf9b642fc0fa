"""What may be wrong on the way to a tracking server, each as it happens to one request."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from tests.tracking.servers import Passing, Proxy, Server

TIMEOUT = 5  # seconds that a client waits for an answer
AWAY = 1.5  # seconds for which nobody listens
HTML = b"<html><body><h1>default backend</h1></body></html>"
LOGIN = "/login"

Fault = Callable[["Way", Passing, bytes], None]


class Way(Proxy):
    """A proxy before ``server`` that does a fault to some requests, or from some moment to all."""

    def __init__(self, server: Server, name: str) -> None:
        super().__init__(server.port, 200, HTML)
        self.fault, self.behind = FAULTS[name], server
        self.guard, self.asked, self.left = threading.Lock(), 0, RARELY.get(name, FAULTY)
        self.for_good = False

    def disturb(self, request: Passing, body: bytes) -> None:
        """Do the fault."""
        if request.path.startswith(LOGIN):
            request.answer(200, "text/html", HTML)
        else:
            self.fault(self, request, body)

    def often(self, method: str, path: str) -> bool:
        """Every third request, for a while; and a login page is one for everybody."""
        with self.guard:
            if path.startswith(LOGIN):
                return True
            self.asked += 1
            chosen = self.asked % 3 == 0 and self.left > 0
            self.left -= chosen
            return chosen

    def from_the_first_metrics_on(self, method: str, path: str) -> bool:
        """Every request, once a run logs metrics."""
        self.for_good = self.for_good or path.endswith("log-batch")
        return self.for_good

    def refuse(self) -> None:
        """Let nobody listen for a while."""
        self.shutdown()
        self.socket.close()
        time.sleep(AWAY)
        while not self._listens():
            time.sleep(0.1)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def _listens(self) -> bool:
        """Whether it listens again; its port may be in use for a moment."""
        self.socket = socket.socket()
        try:
            self.server_bind()
            self.server_activate()
        except OSError:
            self.socket.close()
            return False
        return True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: that a connection breaks is meant."""


def page(status: int, body: bytes = HTML, kind: str = "text/html", **headers: str) -> Fault:
    """A page of the proxy's own in the place of an answer."""
    return lambda way, request, body_: request.answer(status, kind, body, **headers)


def reset(way: Way, request: Passing, body: bytes) -> None:
    """The connection ends in the middle, not as it should."""
    at_once = struct.pack("ii", 1, 0)
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    os.close(request.connection.detach())


def refused(way: Way, request: Passing, body: bytes) -> None:
    """Nobody listens, for this request and others."""
    if way.guard.acquire(blocking=False):
        with suppress(OSError):
            way.refuse()
        way.guard.release()


def lost(way: Way, request: Passing, body: bytes) -> None:
    """The server does it, and its answer is lost."""
    request.forward(body)


def cut(way: Way, request: Passing, body: bytes) -> None:
    """The server does it, and its answer ends in the middle."""
    status, kind, content = request.forward(body)
    request.answer(status, kind, content[: len(content) // 2], len(content))


def shortened(way: Way, request: Passing, body: bytes) -> None:
    """The server does it, and its answer is half of it, as if that were all."""
    status, kind, content = request.forward(body)
    request.answer(status, kind, content[: len(content) // 2])


def slow(way: Way, request: Passing, body: bytes) -> None:
    """The server does it, and its answer comes when nobody waits for it any more."""
    answer = request.forward(body)
    time.sleep(TIMEOUT + 1)
    with suppress(OSError):
        request.answer(*answer)


def silent(way: Way, request: Passing, body: bytes) -> None:
    """Nothing is done and nothing is said."""
    time.sleep(TIMEOUT + 1)


def garbage(way: Way, request: Passing, body: bytes) -> None:
    """Who listens does not speak HTTP, but TLS."""
    request.wfile.write(bytes.fromhex("15030300020228") + os.urandom(64))


def killed(way: Way, request: Passing, body: bytes) -> None:
    """The server is killed; it comes back at once, or not for now."""
    with way.guard:
        way.behind.kill()
        if not way.for_good:
            way.behind.start()


FAULTS: dict[str, Fault] = {
    "404 in HTML": page(404),
    "400 in HTML": page(400),
    "401 in HTML": page(401),
    "403 in HTML": page(403),
    "200 in HTML": page(200),
    "200 with nothing": page(200, b""),
    "200 in foreign JSON": page(200, b'{"ok": true}', "application/json"),
    "500": page(500, b"Internal Server Error", "text/plain"),
    "502 in HTML": page(502),
    "503, come back in a second": page(503, Retry_After="1"),
    "429, come back in a second": page(429, Retry_After="1"),
    "redirect to a login page": page(302, b"", Location=LOGIN),
    "connection reset": reset,
    "connection refused": refused,
    "answer lost, write done": lost,
    "answer cut in the middle": cut,
    "JSON of half an answer": shortened,
    "answer after the timeout": slow,
    "no answer": silent,
    "TLS in the place of HTTP": garbage,
    "server killed": killed,
}
FAULTY = 12  # requests, of every third; what takes many requests could never end otherwise
RARELY = {
    "connection refused": 3,
    "answer after the timeout": 3,
    "no answer": 3,
    "server killed": 2,
}
"""How often faults happen that take their time."""
