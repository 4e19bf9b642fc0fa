"""A benchmark leaves no server running."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest

from benchmarks.servers import tracking_server


def test_the_server_ends_with_the_benchmark(tmp_path: Path) -> None:
    with (
        tracking_server(tmp_path / "server") as url,
        urllib.request.urlopen(f"{url}/health") as answer,
    ):
        assert answer.status == 200
    until = time.monotonic() + 20
    while time.monotonic() < until:  # a worker may outlive the server for a moment
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5)
        except URLError:
            return
        time.sleep(0.1)
    pytest.fail("the server still answers")
