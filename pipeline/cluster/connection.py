"""The cluster that a command works on, and our code on its nodes."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from pipeline.cluster.nodes import HANDLED, Cluster
from pipeline.code import own_code
from pipeline.errors import UserError
from pipeline.extras import require

PACKAGE = Path(__file__).parents[1]
# Where Ray keeps the address of this machine's cluster.
LATEST = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray" / "ray_current_cluster"
ANSWER_SECONDS = 10.0  # that a cluster may take
# Where Ray looks for the token of a cluster that asks for one.
TOKEN_VARIABLES, TOKEN_FILE = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"), ".ray/auth_token"


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
    if _has_token():  # ray start then asks for it, and ray.init with an address does not send it
        os.environ.setdefault("RAY_AUTH_MODE", "token")
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


def _has_token() -> bool:
    named = any(os.environ.get(variable) for variable in TOKEN_VARIABLES)
    return named or (Path.home() / TOKEN_FILE).exists()


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
        f"--address=HOST:PORT; to forget one that was killed: ray stop. A cluster may ask for a "
        f"token, in ~/.ray/auth_token where it was started, which every machine needs "
        f"(docs/cluster.md)."
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
