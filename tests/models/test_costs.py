from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from pipeline.errors import UserError
from pipeline.models import costs

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
    assert costs.available_memory(machine(tmp_path, 5 * GIB)) == 5 * GIB


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
    assert costs.available_memory(machine(tmp_path, 5 * GIB, groups)) == 1.5 * GIB


def test_a_container_without_a_limit(tmp_path: Path) -> None:
    groups = {"memory.max": "max\n", "memory.current": "7\n", "memory.stat": ""}
    named = {f"sys/fs/cgroup/{name}": text for name, text in groups.items()}
    assert costs.available_memory(machine(tmp_path, 5 * GIB, named)) == 5 * GIB


def test_a_machine_that_shows_nothing(tmp_path: Path) -> None:
    assert costs.available_memory(tmp_path) > 2**20


@pytest.mark.parametrize(
    ("seconds", "memory", "said"),
    [
        (4, 1000, []),
        (6, 1000, ["EASE: a fit takes about 0.0 GiB of memory and 6 s"]),
        (1, 3 * GIB, ["EASE: a fit takes about 3.0 GiB of memory and 1 s"]),
        (300, 3 * GIB, ["EASE: a fit takes about 3.0 GiB of memory and 5 minutes"]),
        (9000, 3 * GIB, ["EASE: a fit takes about 3.0 GiB of memory and 2 hours"]),
    ],
)
def test_what_is_not_small_is_said(
    seconds: float,
    memory: float,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(costs, "available_memory", lambda: 4.0 * GIB)
    costs._say.cache_clear()
    for _ in range(2):
        costs.announce("EASE", seconds, memory, "Take less.")
    assert caplog.messages == said


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "available_memory", lambda: 4.0 * GIB)
    with pytest.raises(UserError) as caught:
        costs.announce("EASE of 90,000 items", 9000, 121 * GIB, "Take less.")
    assert str(caught.value) == (
        "EASE of 90,000 items: a fit takes about 121.0 GiB of memory and 2 hours, and 4.0 GiB of "
        "memory are left here. Take less."
    )


def test_pairs_of_interactions() -> None:
    matrix = sparse.csr_matrix(np.array([[1, 1, 0], [0, 0, 0], [1, 1, 1]]))
    assert costs.pairs_of_interactions(matrix) == 4 + 9
