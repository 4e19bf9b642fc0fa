"""What a command has on another node: the same store, or a sentence that it cannot be reached."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from pipeline.errors import UserError
from pipeline.tracking.elsewhere import environment_elsewhere, require_reachable
from pipeline.tracking.track import code_version


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///runs.db",
        "sqlite:////shared/runs.db",
        "/shared/mlruns",
        "file:///shared/mlruns",
        "http://localhost:5000",
        "http://127.0.0.1:5000",
        "postgresql://ada:s3cret@/runs?host=/tmp",
        "postgresql://ada:s3cret@localhost/runs",
    ],
)
def test_stores_of_this_machine_are_refused_where_there_are_others(url: str) -> None:
    require_reachable(url, [], "The storage", "PostgreSQL")
    wanted = r"^The storage is .* other hosts of the cluster \(one, two\) .* PostgreSQL is needed"
    with pytest.raises(UserError, match=wanted) as refused:
        require_reachable(url, ["one", "two"], "The storage", "PostgreSQL")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("url", ["https://mlflow.example.org", "postgresql://ada:s3cret@db/runs"])
def test_others_are_taken(url: str) -> None:
    require_reachable(url, ["one"], "The storage", "PostgreSQL")


def test_a_command_elsewhere_has_what_leads_to_the_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "sqlite:///runs.db")
    given = {"MLFLOW_TRACKING_TOKEN": "t", "AWS_ACCESS_KEY_ID": "a", "OMP_NUM_THREADS": "3"}
    kept = {"MLFLOW_RUN_ID": "r", "PIPELINE_DATA_DIR": "/data", "HOME": "/home/ada"}
    for name, value in (given | kept).items():
        monkeypatch.setenv(name, value)
    found = environment_elsewhere([])
    assert found["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/runs.db"
    assert given.items() <= found.items()
    assert not kept.keys() & found.keys()
    here = code_version()
    monkeypatch.setenv("PIPELINE_CODE_VERSION", found["PIPELINE_CODE_VERSION"])
    assert code_version() == here
    monkeypatch.setenv("PIPELINE_CODE_VERSION", "abc true")
    assert code_version() == {"git_commit": "abc", "git_dirty": "true"}
