from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.memory import available_memory

GIB = 2**30


def machine(root: Path, available: float, groups: dict[str, str] | None = None) -> Path:
    """What Linux shows of a machine with so much memory available, and of control groups."""
    files = {"proc/meminfo": f"MemTotal: 64 kB\nMemAvailable: {available / 1024:.0f} kB\n"}
    for name, text in {**files, **(groups or {})}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_memory_of_a_machine(tmp_path: Path) -> None:
    assert available_memory(machine(tmp_path, 5 * GIB)) == 5 * GIB


@pytest.mark.parametrize(
    ("version", "limit", "used"),
    [
        ("sys/fs/cgroup", "memory.max", "memory.current"),
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ],
)
def test_memory_of_a_container(tmp_path: Path, version: str, limit: str, used: str) -> None:
    """Files that were read count as in use and are dropped when memory is needed."""
    statistics = f"anon 5\ninactive_file {GIB // 2}\n"
    groups = {f"{version}/{limit}": str(3 * GIB), f"{version}/{used}": str(2 * GIB)}
    groups[f"{version}/memory.stat"] = statistics
    assert available_memory(machine(tmp_path, 5 * GIB, groups)) == 1.5 * GIB


def test_a_container_without_a_limit(tmp_path: Path) -> None:
    groups = {"memory.max": "max\n", "memory.current": "7\n", "memory.stat": ""}
    named = {f"sys/fs/cgroup/{name}": text for name, text in groups.items()}
    assert available_memory(machine(tmp_path, 5 * GIB, named)) == 5 * GIB


def test_a_machine_that_shows_nothing(tmp_path: Path) -> None:
    assert available_memory(tmp_path) > 2**20


def test_memory_is_that_of_a_limit_of_the_process() -> None:
    program = f"""
import resource
from pipeline.memory import available_memory
whole = available_memory()
resource.setrlimit(resource.RLIMIT_DATA, ({4 * GIB}, {4 * GIB}))
print(0 < available_memory() < min({4 * GIB}, whole) + 1)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "True\n")
