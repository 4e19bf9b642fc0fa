"""A process from its start to its end.

Whatever ends it politely must give its run the time to end, too.
"""

from __future__ import annotations

import atexit
import gc
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from filelock import FileLock, Timeout

from pipeline.errors import UserError
from pipeline.extras import require

COLLECT_AFTER = 50_000  # objects more than before, of which 700 are the default
POLL_SECONDS = 0.5
TRACKING_URI = "MLFLOW_TRACKING_URI"
STARTED_BY = "PIPELINE_STARTED_BY"  # the id of the process that started this one and watches it
RETRY_SECONDS = 0.02


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, distinguished from Ctrl-C."""


def torchrun() -> tuple[int, int]:
    """Which process of how many this is of those that torchrun has started; (0, 1) without it."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    if not all(name in os.environ for name in names):
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def same_command() -> str:
    """What was typed to start this process, to be typed again."""
    return shlex.join(["python", "-m", "pipeline", *sys.argv[1:]])


def collect_rarely() -> None:
    """Search for garbage seldom, and not at the end, when all goes anyway.

    Modules are objects that stay, half a million of them with torch and MLflow: to go through them
    again and again is a quarter of their import, and once more, at the end, takes a second.
    """
    gc.set_threshold(COLLECT_AFTER)
    atexit.register(gc.freeze)


def name_store() -> None:
    """Where runs go from a folder whose name URLs spell in another way, here and in our children.

    MLflow takes a folder's name for a path here and for a URL there: of one with an apostrophe it
    would make a second one beside it, and from one with a % files would go to another.
    """
    folder = Path.cwd()
    if quote(str(folder)) != str(folder):
        os.environ.setdefault(TRACKING_URI, "sqlite:///mlflow.db")
        os.environ.setdefault("_MLFLOW_SERVER_ARTIFACT_ROOT", (folder / "mlruns").as_uri())


def require_driver() -> None:
    """Refuse a tracking store that cannot be spoken to before a run begins that cannot be kept.

    Raises:
        UserError: it is on PostgreSQL, whose driver is not installed.
    """
    if os.environ.get(TRACKING_URI, "").startswith("postgres"):
        require("psycopg", "server", f"{TRACKING_URI} on PostgreSQL")


def hide_password() -> None:
    """Take the password out of the tracking server's URL, to where MLflow looks for one, too.

    MLflow prints the URL of every run that ends, and what is printed ends up in log files.
    """
    url = urlsplit(os.environ.get(TRACKING_URI, ""))
    if url.scheme in ("http", "https") and url.username and url.password:
        os.environ.setdefault("MLFLOW_TRACKING_USERNAME", unquote(url.username))
        os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", unquote(url.password))
        bare = url._replace(netloc=url.netloc.rpartition("@")[2])
        os.environ[TRACKING_URI] = urlunsplit(bare)


def end_on_signals() -> None:
    """Make SIGTERM an exception, and end when the launcher or ``mlflow run`` behind us is gone.

    ``mlflow run`` passes no signal on: without the watch, killing it would leave this process
    running and its run RUNNING.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup, or in the background
            signal.signal(number, _interrupt)
    if launcher := os.environ.pop(STARTED_BY, ""):  # what we start is not started by it
        _end_when(lambda: os.getppid() != int(launcher))
    if "MLFLOW_RUN_ID" in os.environ and Path("/proc/self/stat").exists():
        ours = _starter()
        _end_when(lambda: _starter() != ours or _is_orphan(ours))


def leave_signals_to_first() -> None:
    """As another process of torchrun: the first one ends its run on Ctrl-C, and we end with it.

    SIGTERM ends us at once, wherever we wait for the others.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_when(gone: Callable[[], bool]) -> None:
    def watch() -> None:
        while not gone():
            time.sleep(POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Keep others on this machine from doing the same at the same time.

    Raises:
        UserError: somebody does it already.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=0):
            yield
    except Timeout:
        raise UserError(
            f"{what} is being run by another process on this machine ({path} is locked): wait for "
            f"it, or end it first."
        ) from None


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold off Ctrl-C and SIGTERM, as while a run is ended: it must not stay RUNNING.

    What came meanwhile comes afterwards: a process that goes on must hear of it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    held = {
        each: signal.signal(each, lambda number, _: came.append(number))
        for each in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for each, handler in held.items():
            signal.signal(each, handler)
        for number in came:
            signal.raise_signal(number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _is_delicate(frame):
        again = threading.Timer(RETRY_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()
        return
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_IGN)  # the run is being ended: once is enough
        raise TerminatedError
    raise KeyboardInterrupt


def _is_delicate(frame: FrameType | None) -> bool:
    """Whether an exception would do harm here.

    While MLflow writes to its database, it would leave SQLite locked by us. While a module is
    imported, it would leave half of it, and Python exits as if killed once an interruption has
    passed a text that is executed, as many modules do, even if it is handled.
    """
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name.endswith((".sqlalchemy_store", "importlib._bootstrap")):
            return True
        frame = frame.f_back
    return False


def _is_orphan(starter: int) -> bool:
    """Whether the starter was gone before we looked, so that init has taken its place."""
    return starter == 1 and b"mlflow" not in Path("/proc/1/cmdline").read_bytes()


def _starter() -> int:
    """The process id of ``mlflow run``: our parent, or its parent where bash stands between."""
    parent = os.getppid()
    try:
        # Fields of stat: id (name) state parent ...; the name may hold anything.
        name, _, rest = Path(f"/proc/{parent}/stat").read_text().rpartition(")")
    except OSError:
        return 0
    return int(rest.split()[1]) if name.endswith("(bash") else parent
