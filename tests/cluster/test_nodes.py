"""Work on a Ray cluster: two nodes on this machine, one of which is killed and another comes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import psutil
import pytest

from pipeline.cluster.connection import _gather, connected
from pipeline.cluster.nodes import Cluster
from pipeline.cluster.shares import Share, share
from pipeline.errors import UserError
from tests.steps.workplace import wait_until

ONE = Share(1, 1, 0.0, 1)  # a node's CPU


@pytest.fixture(scope="module")
def cluster(nodes: Any) -> Iterator[Cluster]:
    """A connection to it."""
    with connected(nodes.address) as found:
        yield found


@pytest.mark.parametrize(
    ("nodes_", "workers", "per_gpu", "on_gpu", "expected"),
    [
        ([(1, 0), (1, 0)], None, 1, False, Share(2, 1, 0.0, 2)),
        ([(16, 0), (16, 0)], None, 1, False, Share(8, 4, 0.0, 8)),
        ([(16, 0), (16, 0)], 3, 1, False, Share(3, 8, 0.0, 4)),
        ([(3, 0), (5, 0)], 2, 1, False, Share(2, 3, 0.0, 2)),
        ([(1, 0), (1, 0)], 3, 1, False, Share(3, 1, 0.0, 2)),
        ([], None, 1, False, Share(1, 1, 0.0, 0)),
        ([(64, 0), (16, 2)], None, 1, True, Share(2, 8, 1.0, 2)),
        ([(64, 0), (16, 2)], None, 4, True, Share(8, 2, 0.25, 8)),
        ([(16, 2)], 3, 1, True, Share(3, 8, 1.0, 2)),
        ([(16, 2)], None, 1, False, Share(4, 4, 0.0, 4)),
        ([(4, 0)], None, 1, True, Share(4, 1, 0.0, 4)),
    ],
)
def test_shares(
    nodes_: list[tuple[int, int]],
    workers: int | None,
    per_gpu: int,
    on_gpu: bool,
    expected: Share,
) -> None:
    found = [{"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus} for cpus, gpus in nodes_]
    assert share(found, workers, per_gpu, on_gpu=on_gpu) == expected


def start(cluster: Cluster, log: Path, code: str, **environment: str) -> Any:
    command = ["python", "-c", f"import os, signal, sys, time\n{code}"]
    return cluster.start(ONE, command, environment, log)


def says(log: Path, text: str) -> Callable[[], bool]:
    return lambda: text in log.read_text()


def test_a_command_runs_with_our_code_its_environment_and_status(
    cluster: Cluster, tmp_path: Path
) -> None:
    code = """
import pipeline
print(pipeline.__file__, os.environ["GIVEN"], flush=True)
print("odd", file=sys.stderr)
sys.exit(3)
"""
    log = tmp_path / "log"
    placed = start(cluster, log, code, GIVEN="given")
    assert placed.wait() == placed.poll() == 3
    _, found, odd = log.read_text().splitlines()
    assert re.match(rf"{gettempdir()}/ncf-pipeline-\d+/\w+/pipeline/__init__.py given", found)
    assert odd == "odd"
    assert cluster.others == []


def test_signals_reach_a_command_and_one_that_waits_is_taken_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    # Heard of even where SIGINT is ignored, as in the background of a shell.
    wait = "signal.signal(signal.SIGINT, lambda *_: sys.exit(4))\nprint('begun', flush=True)\n"
    logs = [tmp_path / str(number) for number in range(3)]
    placed = [start(cluster, log, f"{wait}time.sleep(60)") for log in logs]
    for log in logs[:2]:
        wait_until(says(log, "begun"))
    assert placed[2].waiting
    assert not placed[0].waiting
    placed[2].send_signal(signal.SIGTERM)
    assert placed[2].wait() == 0  # it has left nothing undone
    placed[0].send_signal(signal.SIGINT)
    assert placed[0].wait() == 4
    placed[1].send_signal(signal.SIGKILL)
    assert placed[1].wait() == -signal.SIGKILL
    assert not any(each.is_lost for each in placed)  # they ended as they were told to


DRIVER = """
import sys, time
from pathlib import Path
from pipeline.cluster.connection import connected
from pipeline.cluster.shares import Share

with connected(sys.argv[1]) as cluster:
    code = "import os, time; print('pid', os.getpid(), flush=True); time.sleep(600)"
    each = Share(1, 1, 0.0, 1)
    cluster.start(each, ["python", "-c", code], {}, Path(sys.argv[2])).wait()
"""


def test_a_killed_launcher_leaves_nothing_running(nodes: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, nodes.address, str(log)])
    wait_until(says(log, "pid "))
    time.sleep(0.1)
    pid = int(log.read_text().split()[-1])
    assert psutil.pid_exists(pid)
    driver.kill()
    driver.wait()
    wait_until(lambda: not psutil.pid_exists(pid))


def _double(block: list[int], more: int) -> list[int]:
    if 7 in block:
        raise UserError("seven is not doubled")
    return [2 * each + more + int(os.environ["GIVEN"]) for each in block]


def test_blocks_are_answered_in_their_order_and_errors_come_back(cluster: Cluster) -> None:
    taken = []

    def blocks(numbers: list[int]) -> Iterator[list[int]]:
        for number in numbers:
            taken.append(number)
            yield [number]

    answers = cluster.map(ONE, _double, blocks([1, 2, 3, 4, 5]), {"GIVEN": "10"}, 100)
    assert next(answers) == [112]
    assert taken == [1, 2, 3]  # few are held at a time
    assert list(answers) == [[114], [116], [118], [120]]
    with pytest.raises(UserError, match=r"^seven is not doubled$"):
        list(cluster.map(ONE, _double, blocks([7]), {"GIVEN": "10"}, 100))


def test_there_is_no_such_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^There is no Ray cluster at 127.0.0.1:1 that .* refused"):
        connected("127.0.0.1:1").__enter__()
    with pytest.raises(UserError, match=r"^ray://head:10001 is an address of Ray Client"):
        connected("ray://head:10001").__enter__()
    monkeypatch.setattr("pipeline.cluster.connection.LATEST", tmp_path / "killed")
    (tmp_path / "killed").write_text("127.0.0.1:2")
    with pytest.raises(
        UserError, match=r"^There is no Ray cluster at 127.0.0.1:2 that .* ray stop"
    ):
        connected(None).__enter__()


def test_ray_is_not_imported_before_it_is_asked_for() -> None:
    code = "import sys, pipeline.cli, pipeline.cluster.nodes; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_ones_own_code_travels_as_the_folder_of_the_command_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ["sub/my_travelling_model.py", "my_travelling_package/__init__.py"]
    for file in (*files, "sub/my_other.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / files[0]).write_text("import my_other\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "sub"), str(tmp_path), *sys.path])
    _gather(["my_travelling_model", "my_travelling_package"], tmp_path / "gathered")
    gathered = (tmp_path / "gathered").rglob("*.py")
    found = {str(path.relative_to(tmp_path / "gathered")) for path in gathered}
    assert {*files, "sub/my_other.py", "pipeline/__main__.py"} <= found
