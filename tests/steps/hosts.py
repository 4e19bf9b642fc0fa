"""Other hosts for tests: network namespaces where they can be made, else processes alone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress

NETWORK = "10.77.41"  # of a bridge of the test's own; nothing behind it is reached
BRIDGE = "ncf-bridge"


def can_make_namespaces() -> bool:
    """Whether this process may, which takes root and the ``ip`` command."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode == 0


@contextmanager
def hosts(*names: str) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """An address that all hosts reach, and by the name of each what to put before a command."""
    if not can_make_namespaces():
        yield "127.0.0.1", {name: [] for name in names}
        return
    _remove(names)  # what a killed test has left
    try:
        _ip(f"link add {BRIDGE} type bridge")
        _ip(f"addr add {NETWORK}.1/24 dev {BRIDGE}")
        _ip(f"link set {BRIDGE} up")
        for number, name in enumerate(names, start=2):
            _ip(f"netns add {name}")
            _ip(f"link add {name} type veth peer name eth0 netns {name}")
            _ip(f"link set {name} master {BRIDGE} up")
            _ip(f"-n {name} addr add {NETWORK}.{number}/24 dev eth0")
            _ip(f"-n {name} link set eth0 up")
            _ip(f"-n {name} link set lo up")
        yield f"{NETWORK}.1", {name: ["ip", "netns", "exec", name] for name in names}
    finally:
        _remove(names)


def _remove(names: Iterable[str]) -> None:
    for name in names:
        _ip(f"netns del {name}", check=False)
    _ip(f"link del {BRIDGE}", check=False)


def _ip(words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words.split()], check=check, capture_output=True)


@contextmanager
def relay(address: str, path: str) -> Iterator[int]:
    """A port at ``address`` that leads to the Unix socket at ``path``."""
    with closing(socket.create_server((address, 0))) as server:
        threading.Thread(target=_accept, args=(server, path), daemon=True).start()
        yield server.getsockname()[1]


def _accept(server: socket.socket, path: str) -> None:
    with suppress(OSError):  # it was closed
        while True:
            outer, _ = server.accept()
            inner = socket.socket(socket.AF_UNIX)
            inner.connect(path)
            for ends in ((outer, inner), (inner, outer)):
                threading.Thread(target=_pump, args=ends, daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
