"""The load reaches a model that is really served."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import serving
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
    assert [(row["request"], row["calls"]) for row in rows] == [
        ("one user", 3),
        ("one by five items", 2),
        ("7 users", 2),
    ]
