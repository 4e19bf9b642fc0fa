"""Worker processes, real but tiny: what they are given, replaced and ended."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.tuning import workers as workers_module
from pipeline.tuning.workers import (
    DEATHS,
    THREADS,
    Workers,
    own_gpu,
    visible_gpus,
    worker_environments,
)

MakeWorkers = Callable[..., Workers]
SECONDS = 20.0  # that no process here should need


@pytest.fixture
def make_workers(tmp_path: Path) -> Iterator[MakeWorkers]:
    """Makes workers that run a line of Python, and leaves none behind."""
    made: list[Workers] = []

    def make(code: str, count: int = 1, **environment: str) -> Workers:
        command = [sys.executable, "-c", f"import os, signal, sys, time\n{code}"]
        made.append(Workers(command, [environment] * count, tmp_path / "logs"))
        return made[-1]

    yield make
    for workers in made:
        workers.signal(signal.SIGKILL)
        for process in workers.processes.values():
            process.wait()


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def said(workers: Workers, number: int = 0) -> str:
    return workers.log(number).read_text()


def replace(workers: Workers, *, progress: bool = False) -> list[str]:
    """Wait for the first worker to end, then replace it."""
    workers.processes[0].wait(SECONDS)
    return workers.replace_dead(progress=progress)


@pytest.mark.parametrize(
    ("workers", "per_gpu", "gpus", "cores", "threads", "places"),
    [
        (None, 1, [], 8, 2, [None] * 4),
        (None, 1, [], 2, 1, [None] * 2),
        (3, 1, [], 8, 2, [None] * 3),
        (4, 1, [], 2, 1, [None] * 4),
        (None, 1, ["0", "1"], 8, 4, ["0", "1"]),
        (None, 2, ["0", "1"], 8, 2, ["0", "1", "0", "1"]),
        (3, 2, ["0", "1"], 9, 3, ["0", "1", "0"]),
        (1, 1, ["GPU-7f"], 16, 16, ["GPU-7f"]),
    ],
)
def test_environments(
    workers: int | None,
    per_gpu: int,
    gpus: list[str],
    cores: int,
    threads: int,
    places: list[str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    found = worker_environments(workers, per_gpu, gpus, cores)
    assert [each.get("CUDA_VISIBLE_DEVICES") for each in found] == places
    assert all(each[name] == str(threads) for each in found for name in THREADS)


def test_threads_that_a_person_has_chosen_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert "OMP_NUM_THREADS" not in worker_environments(2, 1, [], 8)[0]


def test_more_workers_than_gpus_have_room_for() -> None:
    with pytest.raises(UserError, match=r"workers=3 on 2 GPUs .* at most 2\. Raise"):
        worker_environments(3, 1, ["0", "1"], 8)


@pytest.mark.parametrize("wanted", [None, "cpu"])
def test_no_gpu_is_wanted(wanted: str | None) -> None:
    assert visible_gpus(wanted) == []


def test_gpus_keep_the_names_that_the_environment_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus("auto") == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-7f")
    assert visible_gpus("cuda") == ["3", "GPU-7f"]


def test_workers_that_nobody_launched_take_the_gpus_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    taken = list[str]()
    with ExitStack() as workers:
        for _ in range(5):
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-7f")  # each begins with both
            workers.enter_context(own_gpu("auto", tmp_path))
            taken.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert taken == ["3", "GPU-7f", "3", "GPU-7f", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-7f")
    with own_gpu("auto", tmp_path):  # those before have ended
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"


def test_a_worker_on_the_cpu_takes_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with own_gpu("cpu", tmp_path):
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert list(tmp_path.iterdir()) == []


def test_each_has_its_number_its_environment_and_ours(
    make_workers: MakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "kept")
    code = "print(sys.argv[1], os.environ['OURS'], os.environ['THEIRS'])"
    workers = make_workers(f"{code}; print('odd', file=sys.stderr)", 2, THEIRS="given")
    assert not workers.running
    workers.start()
    wait_for(lambda: not workers.running)
    for number in range(2):
        told = sorted(said(workers, number).splitlines())
        assert told == [f"{number} kept given", "odd"]


def test_a_worker_that_is_done_is_not_replaced(make_workers: MakeWorkers) -> None:
    workers = make_workers("pass")
    workers.start()
    first = workers.processes[0]
    assert replace(workers) == []
    assert workers.processes[0] is first
    assert not workers.running


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "worker 0 ended by signal SIGKILL; another takes"),
        ("sys.exit(3)", "worker 0 ended by status 3; another takes"),
    ],
)
def test_a_dead_worker_is_replaced(make_workers: MakeWorkers, code: str, told: str) -> None:
    """By one with the same number and log; the others are left alone."""
    workers = make_workers(
        f"print('here', flush=True)\nif sys.argv[1] == '1': time.sleep(60)\n{code}", 2
    )
    workers.start()
    first, other = workers.processes[0], workers.processes[1]
    (line,) = replace(workers)
    assert told in line
    assert workers.processes[0] is not first
    assert workers.processes[1] is other
    workers.processes[0].wait(SECONDS)
    assert said(workers).splitlines() == ["here", "here"]
    assert workers.running


def test_workers_that_only_die_end_the_study(make_workers: MakeWorkers) -> None:
    workers = make_workers("print('no such thing'); sys.exit(1)")
    workers.start()
    for _ in range(DEATHS):
        assert len(replace(workers)) == 1
    with pytest.raises(UserError) as caught:
        replace(workers)
    message = str(caught.value)
    assert "6 workers in a row ended without a trial done, the last one by status 1" in message
    assert f"{workers.log(0)}:\nno such thing" in message


def test_more_is_forgiven_where_a_node_takes_several_with_it(make_workers: MakeWorkers) -> None:
    workers = make_workers("sys.exit(1)")
    workers.forgiven = DEATHS + 2
    workers.start()
    for _ in range(DEATHS + 2):
        assert len(replace(workers)) == 1
    with pytest.raises(UserError, match="8 workers in a row"):
        replace(workers)


def test_progress_forgives(make_workers: MakeWorkers) -> None:
    workers = make_workers("sys.exit(1)")
    workers.start()
    for _ in range(DEATHS + 2):
        assert len(replace(workers, progress=True)) == 1


def test_the_end_comes_gently(make_workers: MakeWorkers) -> None:
    code = """
def leave(*_):
    print("left", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
time.sleep(60)
"""
    workers = make_workers(code, 2)
    workers.start()
    wait_for(lambda: all("ready" in said(workers, number) for number in range(2)))
    workers.end()
    assert not workers.running
    assert [said(workers, number).split() for number in range(2)] == [["ready", "left"]] * 2
    assert [process.returncode for process in workers.processes.values()] == [0, 0]


def test_the_end_comes_for_those_too_that_do_not_listen(
    make_workers: MakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "END_SECONDS", 0.2)
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True)"
    workers = make_workers(f"{ignore}; time.sleep(60)")
    workers.start()
    wait_for(lambda: "ready" in said(workers))
    workers.end()
    assert workers.processes[0].returncode == -signal.SIGKILL


def test_the_end_of_those_that_are_over(make_workers: MakeWorkers) -> None:
    workers = make_workers("sys.exit(3)")
    workers.end()
    workers.start()
    workers.processes[0].wait(SECONDS)
    workers.end()
    assert workers.processes[0].returncode == 3


def test_ctrl_c_in_the_terminal_is_not_theirs(make_workers: MakeWorkers) -> None:
    # The tests themselves may be a shell's background job, whose children ignore SIGINT.
    heed = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    workers = make_workers(f"{heed}; print('ready', flush=True); time.sleep(60)")
    workers.start()
    wait_for(lambda: "ready" in said(workers))
    assert os.getpgid(workers.processes[0].pid) != os.getpgrp()
    workers.signal(signal.SIGINT)
    wait_for(lambda: not workers.running)
    assert "KeyboardInterrupt" in said(workers)
