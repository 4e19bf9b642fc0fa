"""server: on PostgreSQL, who is let in, to what, and what can be seen from outside."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import requests

from pipeline.errors import UserError
from pipeline.ops.server import administrator, flags, write_privately
from pipeline.ops.store import find_store
from tests.ops.teams import NAME, PASSWORDS, Team, new_database, team_server
from tests.steps.workplace import PASSWORD, Workplace, finish

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
SECRET = "what lies beside the artifacts"


@pytest.fixture(scope="module")
def team(shared: Workplace, postgresql: str) -> Iterator[Team]:
    with team_server(shared, DATABASE_URL=new_database(postgresql, "team")) as team:
        (shared.folder / "server" / "secret.txt").write_text(SECRET)
        with team.administered() as users:
            for name in ("ada", "ben"):
                users.create_user(name, PASSWORDS[name])
        yield team


@pytest.mark.parametrize(
    "path",
    [
        "/api/2.0/mlflow/experiments/search?max_results=5",
        "/ajax-api/2.0/mlflow/experiments/search?max_results=5",
        "/api/2.0/mlflow/users/list",
        f"{ARTIFACTS}?path=0",
        f"{ARTIFACTS}/0/x",
        "/get-artifact?path=x&run_uuid=0",
        "/",
    ],
)
def test_nobody_gets_anything(team: Team, path: str) -> None:
    assert team.request(None, "GET", path).status_code == 401
    assert team.request("ada", "GET", path).status_code != 401
    wrong = team.request(None, "GET", path, headers={"Authorization": "Basic YWRhOngK"})
    assert wrong.status_code == 401


def test_nobody_writes_anything(team: Team) -> None:
    assert team.post(None, "experiments/create", name="nobody's").status_code == 401
    assert team.request(None, "PUT", f"{ARTIFACTS}/0/x", data=b"x").status_code == 401
    assert team.request(None, "GET", "/health").status_code == 200


def test_another_name_of_the_server_is_refused(team: Team) -> None:
    path = "/api/2.0/mlflow/experiments/search?max_results=5"
    for name in ("evil.example.com", "", f"{NAME}.evil.com", "localhost", "10.0.0.1:5000"):
        assert team.request("ada", "GET", path, headers={"Host": name}).status_code == 403
    assert team.request("ada", "GET", path, headers={"Host": NAME}).status_code == 200


def test_pages_of_other_websites_write_nothing(team: Team) -> None:
    path = "/api/2.0/mlflow/experiments/search"

    def status(origin: str) -> int:
        headers = {"Origin": origin}
        answer = team.request("ada", "POST", path, json={"max_results": 5}, headers=headers)
        return answer.status_code

    assert status(f"https://{NAME}") == 200
    for origin in ("https://evil.example.com", f"http://{NAME}", "null"):
        assert status(origin) == 403


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "0/../../secret.txt",
        "%2e%2e/secret.txt",
        "0/%2e%2e/%2e%2e/secret.txt",
        "..%2fsecret.txt",
        "%2e%2e%2fsecret.txt",
        "%252e%252e%252fsecret.txt",
        "%25252e%25252e%25252fsecret.txt",
        "..%5csecret.txt",
        "0/..;/..;/secret.txt",
        "{absolute}",
        "%2F{absolute}",
        "%252F{absolute}",
        "file:{absolute}",
        "file%3A%2F%2F{absolute}",
    ],
)
def test_no_path_leads_out_of_the_artifacts(shared: Workplace, team: Team, path: str) -> None:
    path = path.format(absolute=shared.folder / "server" / "secret.txt")
    before = sorted((shared.folder / "server").iterdir())
    for prefix in (ARTIFACTS, ARTIFACTS.replace("/api/", "/ajax-api/")):
        status, told = team.raw("admin", "GET", f"{prefix}/{path}")
        assert 400 <= status < 500, told
        assert SECRET not in told
        status, told = team.raw("admin", "GET", f"{prefix}?path={path}")
        assert "secret.txt" not in told or status >= 400
        assert SECRET not in told
        for method in ("PUT", "DELETE"):
            team.raw("admin", method, f"{prefix}/{path}", "overwritten")
    assert (shared.folder / "server" / "secret.txt").read_text() == SECRET
    assert sorted((shared.folder / "server").iterdir()) == before


def test_listing_the_parent_is_refused(team: Team) -> None:
    for path in ("..", "0/../..", "%2e%2e", "%252e%252e", "/", "%2Fetc"):
        status, told = team.raw("admin", "GET", f"{ARTIFACTS}?path={path}")
        assert status == 400 or not json.loads(told).get("files"), told


def test_an_experiment_is_its_makers_until_others_are_let_in(team: Team) -> None:
    experiment = team.experiment("ada", "ada's")
    run = team.post("ada", "runs/create", experiment_id=experiment).json()["run"]["info"]["run_id"]
    model = team.post("ada", "logged-models", experiment_id=experiment, name="m")
    model_id = model.json()["model"]["info"]["model_id"]
    file = f"{ARTIFACTS}/{experiment}/{run}/artifacts/weights.txt"
    assert team.request("ada", "PUT", file, data=b"w").status_code == 200

    def reads() -> set[int]:
        answers = [
            team.get("ben", "experiments/get", experiment_id=experiment),
            team.get("ben", "experiments/get-by-name", experiment_name="ada's"),
            team.get("ben", "runs/get", run_id=run),
            team.get("ben", f"logged-models/{model_id}"),
            team.get("ben", "artifacts/list", run_id=run),
            team.get("ben", "metrics/get-history", run_id=run, metric_key="loss"),
            team.request("ben", "GET", file),
            team.request("ben", "GET", f"/get-artifact?path=weights.txt&run_uuid={run}"),
        ]
        return {answer.status_code for answer in answers}

    def writes() -> set[int]:
        metric = {"key": "loss", "value": 1.0, "timestamp": 1, "step": 1}
        answers = [
            team.post("ben", "runs/create", experiment_id=experiment),
            team.post("ben", "runs/log-metric", run_id=run, **metric),
            team.post("ben", "runs/log-batch", run_id=run, metrics=[metric]),
            team.post("ben", "runs/set-tag", run_id=run, key="k", value="v"),
            team.post("ben", "runs/update", run_id=run, status="FINISHED"),
            team.request("ben", "PUT", file, data=b"w"),
        ]
        return {answer.status_code for answer in answers}

    def found() -> set[str]:
        wanted = team.post("ben", "experiments/search", max_results=50).json()
        return {each["name"] for each in wanted.get("experiments", [])}

    assert (reads(), writes()) == ({403}, {403})
    assert "ada's" not in found()
    seen = team.post("ben", "runs/search", experiment_ids=[experiment])
    assert seen.status_code == 403 or not seen.json().get("runs")
    for permission, read, written in (("READ", 200, 403), ("EDIT", 200, 200)):
        with team.administered() as users:
            users.grant_user_permission("ben", "experiment", experiment, permission)
        assert (reads(), writes()) == ({read}, {written})
        assert "ada's" in found()
        assert team.post("ben", "experiments/delete", experiment_id=experiment).status_code == 403
        with team.administered() as users:
            users.revoke_user_permission("ben", "experiment", experiment)
    assert (reads(), writes()) == ({403}, {403})


def test_users_are_the_administrators_business(team: Team) -> None:
    experiment = team.experiment("ada", "for nobody")
    grant = {"username": "ben", "resource_type": "experiment", "resource_id": experiment}
    path = "/api/3.0/mlflow/users/permissions/grant"
    body = {**grant, "permission": "MANAGE"}
    assert team.request("ben", "POST", path, json=body).status_code == 403
    assert team.post("ben", "users/create", username="c", password="x" * 12).status_code == 403
    body = {"username": "ben", "is_admin": True}
    assert (
        team.request("ben", "PATCH", "/api/2.0/mlflow/users/update-admin", json=body).status_code
        == 403
    )


def test_a_changed_password_is_the_only_one_at_once(team: Team) -> None:
    with team.administered() as users:
        users.create_user("eve", "first-Passw0rd-1")
    path = f"{team.url}/api/2.0/mlflow/experiments/search?max_results=5"

    def status(password: str) -> int:
        return requests.get(path, auth=("eve", password), timeout=30).status_code

    assert (status("first-Passw0rd-1"), status("other-Passw0rd-2")) == (200, 401)
    with team.administered() as users:
        users.update_user_password("eve", "other-Passw0rd-2")
    assert (status("first-Passw0rd-1"), status("other-Passw0rd-2")) == (401, 200)
    with team.administered() as users:
        users.delete_user("eve")
    assert status("other-Passw0rd-2") == 401


def test_train_with_a_users_name_and_password(shared: Workplace, team: Team) -> None:
    words = ("train", "--config", "small.yaml", "--dataset", "ratings.csv", "--epochs=1")
    with team.logged_in("ada") as client, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "films")
        outcome = shared.cli(*words, uri=team.url)
        assert outcome.status == 0, outcome.told
        films = client.get_experiment_by_name("films")
        (run,) = client.search_runs([films.experiment_id], "tags.step = 'train'")
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.user"]
    assert PASSWORDS["ada"] not in json.dumps(run.to_dictionary(), default=str)
    with team.administered() as users:
        users.grant_user_permission("ben", "experiment", films.experiment_id, "READ")
    with team.logged_in("ben"), shared.entered(team.url):
        model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
        lists = model.predict(pd.DataFrame({"user": ["nobody"]}), params={"k": 3})
        assert lists["rank"].tolist() == [1, 2, 3]
    with team.logged_in("ben"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "films")
        refused = shared.cli(*words, "--seed=5", uri=team.url)
    assert refused.status != 0
    assert "Permission denied" in refused.told


def test_no_secret_can_be_seen(shared: Workplace, team: Team) -> None:
    seen = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            seen.append(process.read_bytes().decode(errors="replace"))
        except OSError:
            continue  # it has ended
    assert any("pipeline.ops.team" in command for command in seen)
    key = (shared.folder / "server" / "secret_key").read_text()
    for secret in (PASSWORD, PASSWORDS["admin"], key):
        assert not any(secret in command for command in seen)
    files = [path for path in (shared.folder).rglob("*") if path.is_file()]
    assert shared.folder / "server.log" in files
    for path in files:
        found = path.read_bytes()
        assert PASSWORD.encode() not in found, path
        assert PASSWORDS["admin"].encode() not in found, path
    for name in ("basic_auth.ini", "secret_key"):
        assert (shared.folder / "server" / name).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("password", "why"),
    [
        (None, "is not set"),
        ("", "is not set"),
        ("admin", "has less than 12"),
        ("changeme", "has less than 12"),
        ("aB3$efgh1jk", "has less than 12"),
        ("abababababab", "has less than 5 different"),
        ("password1234", "is of names and common words"),
        ("Password-12345", "is of names and common words"),
        ("ChangeMe!ChangeMe!", "is of names and common words"),
        ("grace-mlflow-2026", "is of names and common words"),
        ("123456789012345", "is of names and common words"),
    ],
)
def test_passwords_that_are_refused(password: str | None, why: str) -> None:
    environment = {"MLFLOW_AUTH_ADMIN_USERNAME": "grace"}
    if password is not None:
        environment["MLFLOW_AUTH_ADMIN_PASSWORD"] = password
    with pytest.raises(UserError, match=why) as told:
        administrator(environment)
    assert "MLFLOW_AUTH_ADMIN_PASSWORD" in str(told.value)
    assert password is None or len(password) < 6 or password not in str(told.value)


def test_good_passwords() -> None:
    for password in (*PASSWORDS.values(), "correct horse", "kX8/+aZq0vVd"):
        assert administrator({"MLFLOW_AUTH_ADMIN_PASSWORD": password}) == ("admin", password)


@pytest.mark.parametrize(
    ("variables", "words", "why"),
    [
        ({"MLFLOW_AUTH_ADMIN_PASSWORD": ""}, (), "MLFLOW_AUTH_ADMIN_PASSWORD is not set"),
        (
            {"DATABASE_URL": f"postgres://u:{PASSWORD}@127.0.0.1:1/x"},
            (),
            r"database postgresql\+psycopg://u:\*\*\*@127.0.0.1:1/x cannot be used: .*refused",
        ),
        ({"DATABASE_URL": "mysql://u@h/x"}, (), "names a database of mysql: expected postgresql"),
        ({}, ("--folder", "ratings.csv/server"), "cannot be written: Not a directory"),
        ({}, ("--host", "192.0.2.1"), "Nobody can listen at 192.0.2.1"),
    ],
)
def test_why_it_does_not_start(
    workplace: Workplace, variables: dict[str, str], words: tuple[str, ...], why: str
) -> None:
    given = {"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORDS["admin"], **variables}
    outcome = finish(workplace.start("pipeline", "server", "--port=5999", *words, **given))
    assert outcome.status == 1
    assert re.search(f"^error: .*{why}", outcome.told)
    assert outcome.told.count("\n") == 1
    assert PASSWORD not in outcome.told


def test_a_port_in_use(workplace: Workplace, team: Team) -> None:
    port = team.url.rpartition(":")[2]
    words = ("pipeline", "server", "--port", port)
    process = workplace.start(*words, MLFLOW_AUTH_ADMIN_PASSWORD=PASSWORDS["admin"])
    assert f"error: Port {port} is in use" in finish(process).told


def test_protection_stays_on(tmp_path: Path) -> None:
    given = flags(find_store(tmp_path, None), "127.0.0.1", 5000, [NAME, "10.0.0.5:5000"])
    assert f"--allowed-hosts=localhost:5000,127.0.0.1:5000,{NAME},10.0.0.5:5000" in given
    origins = f"https://{NAME},http://10.0.0.5:5000,https://10.0.0.5:5000"
    assert f"--cors-allowed-origins={origins}" in given
    assert "--workers=1" in given


def test_a_private_file_was_never_open_to_others(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("old")
    (tmp_path / "key").chmod(0o644)
    write_privately(tmp_path / "key", "new")
    assert (tmp_path / "key").read_text() == "new"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
