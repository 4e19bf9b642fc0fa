"""Signals become exceptions, a process whose ``mlflow run`` is gone ends itself, and quickly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.process import COLLECT_AFTER, hide_password, name_store

ROOT = Path(__file__).parents[1]
WAITS = """
import sys, time
from pipeline.process import TerminatedError, end_on_signals
try:
    end_on_signals()  # whose watch may find its starter gone before it returns
    print("ready", flush=True)
    time.sleep(30)
except KeyboardInterrupt as interruption:
    print(type(interruption).__name__, flush=True)
    time.sleep(float(sys.argv[1]))
    print("ended", flush=True)
"""
ENDS = """
import atexit, gc
from pipeline.process import collect_rarely
atexit.register(lambda: print(gc.get_threshold()[0], gc.get_freeze_count() > 1000))
collect_rarely()
"""
# What stands in the place of ``mlflow run``: it starts a command and waits.
STARTER = "import subprocess, sys; subprocess.run(sys.argv[1:])"
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        process.communicate()


def start(*command: str, run_id: str | None = None) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_RUN_ID"}
    if run_id is not None:
        environment["MLFLOW_RUN_ID"] = run_id
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        start_new_session=True,
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize(
    ("number", "told"),
    [(signal.SIGTERM, "TerminatedError"), (signal.SIGINT, "KeyboardInterrupt")],
)
def test_a_signal_is_an_exception(
    started: list[subprocess.Popen[str]], number: signal.Signals, told: str
) -> None:
    process = start(sys.executable, "-c", WAITS, "0")
    started.append(process)
    assert line(process) == "ready"
    process.send_signal(number)
    assert process.communicate(timeout=20)[0].split() == [told, "ended"]
    assert process.returncode == 0


def test_a_second_sigterm_does_not_disturb_the_ending(
    started: list[subprocess.Popen[str]],
) -> None:
    process = start(sys.executable, "-c", WAITS, "0.5")
    started.append(process)
    assert line(process) == "ready"
    process.send_signal(signal.SIGTERM)
    assert line(process) == "TerminatedError"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[0].split() == ["ended"]
    assert process.returncode == 0


def test_an_import_is_not_interrupted(started: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    """An interruption that passes a text being executed, as of a dataclass in the making, is taken
    for unhandled by Python, however well it is handled: the exit status would be that of a kill."""
    body = (
        "import time; print('importing', flush=True); time.sleep(1); print('imported', flush=True)"
    )
    (tmp_path / "slowly.py").write_text(f"exec({body!r})\n")
    code = WAITS.replace(
        'print("ready", flush=True)', "sys.path.insert(0, sys.argv[2]); import slowly"
    )
    process = start(sys.executable, "-c", code, "0", str(tmp_path))
    started.append(process)
    assert line(process) == "importing"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[0].split() == ["imported", "KeyboardInterrupt", "ended"]
    assert process.returncode == 0


@needs_proc
@pytest.mark.parametrize("shell", [False, True], ids=["directly", "through bash"])
def test_the_end_of_mlflow_run_is_sigterm(
    started: list[subprocess.Popen[str]], shell: bool
) -> None:
    command = [sys.executable, "-c", WAITS, "0"]
    if shell:  # with something left to do, so that bash stays in between
        command = ["bash", "-c", f"{sys.executable} -c '{WAITS}' 0; true"]
    starter = start(sys.executable, "-c", STARTER, *command, run_id="0123")
    started.append(starter)
    assert line(starter) == "ready"
    starter.send_signal(signal.SIGKILL)
    assert starter.communicate(timeout=20)[0].split() == ["TerminatedError", "ended"]


@needs_proc
def test_an_mlflow_run_that_is_gone_before_the_watch_begins(
    started: list[subprocess.Popen[str]],
) -> None:
    late = "import os, time\nwhile os.getppid() == int(os.environ['STARTER']): time.sleep(0.01)\n"
    command = f"STARTER=$$ {sys.executable} -c '{late.replace(chr(39), chr(34))}{WAITS}' 0 & exit"
    starter = start("bash", "-c", command, run_id="0123")
    started.append(starter)
    # It may be ended while it is still saying "ready".
    told = starter.communicate(timeout=5)[0].replace("ready", "")
    assert told.split() == ["TerminatedError", "ended"]


@needs_proc
def test_without_mlflow_run_a_process_outlives_its_starter(
    started: list[subprocess.Popen[str]],
) -> None:
    starter = start(sys.executable, "-c", STARTER, sys.executable, "-c", WAITS, "0")
    started.append(starter)
    assert line(starter) == "ready"
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    time.sleep(1.5)  # several looks of a watch that must not be there
    os.killpg(starter.pid, signal.SIGINT)
    assert starter.communicate(timeout=20)[0].split() == ["KeyboardInterrupt", "ended"]


def test_nothing_is_searched_for_garbage_at_the_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(COLLECT_AFTER), "True"]


@pytest.mark.parametrize(
    ("given", "left", "user", "password"),
    [
        ("https://ada:p%40ss@host:5000/x", "https://host:5000/x", "ada", "p@ss"),
        ("https://host:5000", "https://host:5000", None, None),
        ("postgresql://ada:pass@host/x", "postgresql://ada:pass@host/x", None, None),
        ("sqlite:///a@b:c.db", "sqlite:///a@b:c.db", None, None),
    ],
)
def test_a_password_leaves_the_url(
    given: str, left: str, user: str | None, password: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # to be taken back
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    hide_password()
    assert os.environ["MLFLOW_TRACKING_URI"] == left
    assert os.environ.get("MLFLOW_TRACKING_USERNAME") == user
    assert os.environ.get("MLFLOW_TRACKING_PASSWORD") == password


def test_a_plain_folder_leaves_the_store_to_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("MLFLOW_TRACKING_URI", "_MLFLOW_SERVER_ARTIFACT_ROOT")
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    (tmp_path / "o'neil").mkdir()
    monkeypatch.chdir(tmp_path)
    name_store()
    assert not any(name in os.environ for name in names)
    monkeypatch.chdir(tmp_path / "o'neil")
    name_store()
    assert os.environ["MLFLOW_TRACKING_URI"] == "sqlite:///mlflow.db"
