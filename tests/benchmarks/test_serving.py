"""The load reaches a model that is really served."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from benchmarks import abuse, serving
from benchmarks.servers import model_server
from tests.steps.workplace import Workplace


def test_every_kind_of_request_is_answered(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", workplace.uri)
    for name, count in {"CALLS": 3, "FOLDED": 2, "BATCHES": 2, "BATCH": 7}.items():
        monkeypatch.setattr(serving, name, count)
    with workplace.entered():
        uri, users, items = serving.logged_model("ratings.csv", 1)
        with model_server(uri, tmp_path) as url:
            rows = serving.load(url, users, items)
            with pytest.raises(RuntimeError, match=r"400: .*is no id"):
                serving.ask(serving.requests.Session(), url, [{"user": [1]}])
            random, before = Random(1), abuse.memory_mb(url, "VmHWM")
            sent = [abuse.whole(users, random), abuse.largest(users, items, random)]
            sent += [abuse.broken(random, users, items) for _ in range(150)]
            statuses = abuse.fuzz(url, iter(sent))
            grown = abuse.memory_mb(url, "VmHWM") - before
    assert [(row["request"], row["calls"]) for row in rows] == [
        ("one user", 3),
        ("one by five items", 2),
        ("7 users", 2),
    ]
    assert set(abuse.KINDS) <= set(statuses)
    assert all(
        status == 200 or 400 <= status < 500 for each in statuses.values() for status in each
    )
    assert statuses["good"][200] == statuses["the largest answered"][200] == 1
    assert not any(statuses[kind][200] for kind in ("k", "deep", "wide", "ragged", "rows", "large"))
    assert grown < 300
