"""Database URLs: which driver they get, and what of them may be seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.database import absolute, read_url, shown, without_password
from pipeline.errors import UserError


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_is_spoken_to_by_psycopg_3(scheme: str) -> None:
    url = read_url(f"{scheme}://u:s3cret@host:1/db")
    assert url.drivername == "postgresql+psycopg"
    assert url.get_dialect().driver == "psycopg"
    assert shown(f"{scheme}://u:s3cret@host:1/db") == "postgresql+psycopg://u:***@host:1/db"


@pytest.mark.parametrize(
    "url",
    ["postgres://u:p%40ss%20w@host:1/db", "postgres://u@host:1/db?password=p%40ss%20w"],
)
def test_a_password_goes_its_own_way(url: str) -> None:
    bare, environment = without_password(read_url(url))
    assert environment == {"PGPASSWORD": "p@ss w"}
    assert bare.render_as_string(hide_password=False) == "postgresql+psycopg://u@host:1/db"


def test_without_a_password_libpq_looks_for_one_itself() -> None:
    bare, environment = without_password(read_url("postgres://u@/db?host=/run&passfile=/etc/p"))
    assert environment == {}
    assert bare.query == {"host": "/run", "passfile": "/etc/p"}


def test_a_file_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("sqlite:///runs.db") == f"sqlite:///{tmp_path}/runs.db"
    assert absolute(f"sqlite:///{tmp_path}/runs.db") == f"sqlite:///{tmp_path}/runs.db"
    assert absolute("postgresql://ada:pw@db/runs") == "postgresql://ada:pw@db/runs"


def test_a_secret_that_has_no_variable_is_refused() -> None:
    with pytest.raises(UserError, match="besides its password") as told:
        without_password(read_url("postgres://u:s3cret@host/db?sslpassword=hunter2"))
    assert "hunter2" not in str(told.value)
