"""server: nobody writes outside of it or reads what is another's, on files and on an object store.

Ben attacks: he has a name and a password and no permission.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from moto.server import ThreadedMotoServer

from tests.ops.teams import PASSWORDS, REFUSED, Team, attempts_on, team_server
from tests.steps.workplace import Workplace, make_workplace

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
KEYS = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}
SECRET = "what lies beside the artifacts"


class Kept:
    """A server's artifacts, and a file beside them that is none of its."""

    def __init__(self, folder: Path, address: str | None) -> None:
        self.folder, self.address = folder, address
        if address is not None:
            self.s3 = boto3.client("s3", endpoint_url=address)
            self.s3.create_bucket(Bucket="team")
            self.s3.put_object(Bucket="team", Key="beside/secret.txt", Body=SECRET)
        (folder / "beside").mkdir()
        (folder / "beside" / "secret.txt").write_text(SECRET)

    @property
    def outside(self) -> list[str]:
        """Places that are none of a client's business."""
        beside = self.folder / "beside"
        buckets = ["s3://team/beside", "S3://team/beside", "s3://team/artifacts/1"]
        return [str(beside), beside.as_uri(), "/etc", "beside", "../beside", *buckets]

    def names(self) -> set[str]:
        """All that there is, inside and out."""
        names = {str(path) for path in (self.folder / "beside").rglob("*")}
        if self.address is not None:
            names |= {each["Key"] for each in self.s3.list_objects(Bucket="team")["Contents"]}
        return names


@pytest.fixture(scope="module", params=["files", "s3"])
def place(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    store: Path,
    ratings: Any,
) -> Iterator[tuple[Workplace, Kept, str | None]]:
    workplace = make_workplace(tmp_path_factory.mktemp("doors"), ratings, store)
    if request.param == "files":
        yield workplace, Kept(workplace.folder, None), None
        return
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        moto.start()
        address = "http://{}:{}".format(*moto.get_host_and_port())
        patch.setenv("MLFLOW_S3_ENDPOINT_URL", address)
        yield workplace, Kept(workplace.folder, address), address
        moto.stop()


@pytest.fixture(scope="module")
def kept(place: tuple[Workplace, Kept, str | None]) -> Kept:
    return place[1]


@pytest.fixture(scope="module")
def team(place: tuple[Workplace, Kept, str | None]) -> Iterator[Team]:
    workplace, _, address = place
    flags, variables = [], {}
    if address is not None:
        flags, variables = ["--artifacts=s3://team/artifacts"], {"MLFLOW_S3_ENDPOINT_URL": address}
    with team_server(workplace, *flags, **variables) as team:
        with team.administered() as users:
            for name in ("ada", "ben"):
                users.create_user(name, PASSWORDS[name])
        yield team


@pytest.fixture(scope="module")
def adas(team: Team) -> dict[str, str]:
    """What ada has: an experiment, a run with a file, a logged model, a registered one."""
    experiment = team.experiment("ada", "ada's")
    run = team.post("ada", "runs/create", experiment_id=experiment).json()["run"]["info"]
    file = f"{ARTIFACTS}/{experiment}/{run['run_id']}/artifacts/weights.txt"
    assert team.request("ada", "PUT", file, data=SECRET).status_code == 200
    made = team.post("ada", "logged-models", experiment_id=experiment, name="m").json()
    model = made["model"]["info"]["model_id"]
    assert team.post("ada", "registered-models/create", name="hers").status_code == 200
    source = f"runs:/{run['run_id']}/weights.txt"
    version = team.post(
        "ada", "model-versions/create", name="hers", source=source, run_id=run["run_id"]
    )
    assert version.status_code == 200, version.text
    return {
        "experiment": experiment,
        "run": run["run_id"],
        "uri": run["artifact_uri"],
        "model": model,
    }


def test_no_experiment_says_where_its_files_go(
    team: Team, kept: Kept, adas: dict[str, str]
) -> None:
    before = kept.names()
    inside = [adas["uri"], f"mlflow-artifacts:/{adas['experiment']}", "mlflow-artifacts:/", "x"]
    for number, place in enumerate([*kept.outside, *inside]):
        body = {"name": f"there-{number}", "artifact_location": place}
        for user in ("ben", "admin"):
            for path in ("/api/2.0", "/ajax-api/2.0"):
                path = f"{path}/mlflow/experiments/create"
                for sent in (
                    {"json": body},
                    {"data": json.dumps(body)},
                    {"data": json.dumps(body), "headers": {"Content-Type": "text/plain"}},
                    {"json": json.dumps(body)},
                ):
                    answer = team.request(user, "POST", path, **sent)
                    assert 400 <= answer.status_code < 500, (place, answer.text)
    assert "artifact_location is not for clients" in answer.text
    found = team.post("admin", "experiments/search", max_results=100).json()["experiments"]
    assert {each["name"] for each in found} == {"Default", "ada's"}
    assert kept.names() == before
    own = team.experiment("ben", "his own")
    run = team.post("ben", "runs/create", experiment_id=own).json()["run"]["info"]
    assert run["artifact_uri"] == f"mlflow-artifacts:/{own}/{run['run_id']}/artifacts"


def test_model_versions_come_of_runs_and_models_that_one_may_read(
    team: Team, kept: Kept, adas: dict[str, str]
) -> None:
    assert team.post("ben", "registered-models/create", name="his").status_code == 200
    own = team.experiment("ben", "of his models")
    run = team.post("ben", "runs/create", experiment_id=own).json()["run"]["info"]
    hers = {"run_id": adas["run"]}, {"model_id": adas["model"]}
    ids: list[dict[str, str]] = [{}, {"run_id": run["run_id"]}, *hers, {"run_id": ""}]
    sources = [
        *kept.outside, adas["uri"], f"{adas['uri']}/weights.txt",
        f"runs:/{adas['run']}/weights.txt", f"models:/{adas['model']}", "models:/hers/1",
        "models:/hers@x", "file:///etc/passwd",
        f"{run['artifact_uri']}/../../../{adas['experiment']}/{adas['run']}/artifacts",
        f"mlflow-artifacts://elsewhere/{adas['run']}", "http://127.0.0.1:1/x", "RUNS:/x", "",
    ]  # fmt: skip
    for source in sources:
        for given in ids:
            for prefix in ("/api", "/ajax-api"):
                path = f"{prefix}/2.0/mlflow/model-versions/create"
                body = {"name": "his", "source": source, **given}
                answer = team.request("ben", "POST", path, json=body)
                assert 400 <= answer.status_code < 500, (source, given, answer.text)
    found = team.get("admin", "model-versions/search", filter="name='his'").json()
    assert not found.get("model_versions")
    for source in (f"runs:/{run['run_id']}/m", f"{run['artifact_uri']}/m"):
        body = {"name": "his", "source": source, "run_id": run["run_id"]}
        assert team.post("ben", "model-versions/create", **body).status_code == 200


def test_ben_reads_and_changes_nothing_of_adas(team: Team, adas: dict[str, str]) -> None:
    experiment, run = adas["experiment"], adas["run"]
    file = f"{experiment}/{run}/artifacts/weights.txt"
    attempts = attempts_on(experiment, run, adas["model"], "hers", "weights.txt")
    for method, path, body in attempts:
        answer = team.request("ben", method, path, json=body)
        assert answer.status_code in REFUSED, (method, path, answer.text)
        assert SECRET not in answer.text
    query = f'{{ mlflowGetRun(input: {{runId: "{run}"}}) {{ run {{ info {{ artifactUri }} }} }} }}'
    answer = team.request("ben", "POST", "/graphql", json={"query": query})
    assert adas["uri"] not in answer.text
    kept = team.request("ada", "GET", f"{ARTIFACTS}/{file}")
    assert kept.text == SECRET
    told = team.get("ada", "runs/get", run_id=run).json()["run"]
    assert told["info"]["status"] == "RUNNING"
    assert not told["data"].get("metrics")


def test_rooms_that_nobody_needs_are_closed(team: Team) -> None:
    for user in ("ben", "admin"):
        for path in (
            "/api/3.0/mlflow/gateway/secrets/list",
            "/ajax-api/3.0/mlflow/gateway/secrets/config",
            "/ajax-api/3.0/mlflow/assistant/config",
            "/ajax-api/3.0/mlflow/assistant/providers",
            "/api/2.0/mlflow/webhooks",
            "/api/2.0/mlflow/traces?experiment_ids=0",
            "/ajax-api/2.0/mlflow/get-trace-artifact?request_id=x",
            "/ajax-api/3.0/jobs/x",
            "/api/3.0/mlflow/mcp-servers",
            "/api/3.0/mlflow/scorers/list?experiment_id=0",
            "/gateway/mlflow/v1/models",
            "/api/3.0/mlflow/workspaces",
            "/ajax-api/3.0/mlflow/demo/generate",
        ):
            for method in ("GET", "POST", "PUT"):
                assert team.request(user, method, path, json={}).status_code == 404, path
    assert "MLflow" in team.request("ben", "GET", "/").text


def test_who_else_is_there_is_the_administrators_to_know(team: Team) -> None:
    for prefix in ("/api", "/ajax-api"):
        path = f"{prefix}/2.0/mlflow/users"
        assert team.request("ben", "GET", f"{path}/list").status_code == 403
        assert team.request("ben", "GET", f"{path}/get?username=ada").status_code == 403
        assert team.request("ben", "GET", f"{path}/get?username=ben").status_code == 200
        assert "ada" in team.request("admin", "GET", f"{path}/list").text
    path = "/api/3.0/mlflow/roles/list"
    assert team.request("ben", "GET", path).status_code == 403
    path = "/api/3.0/mlflow/users/permissions/list?username=ada"
    assert team.request("ben", "GET", path).status_code == 403
    assert team.request("ben", "GET", "/signup").status_code == 403


@pytest.mark.parametrize("password", ["short", "password1234", "{0}-{0}-12345", "abababababab", ""])
def test_a_weak_password_is_nobodys(team: Team, password: str) -> None:
    for prefix in ("/api", "/ajax-api"):
        path = f"{prefix}/2.0/mlflow/users"
        made = {"username": "carl", "password": password.format("carl")}
        answer = team.request("admin", "POST", f"{path}/create", json=made)
        assert answer.status_code == 400, answer.text
        own = {"username": "ben", "password": password.format("ben")}
        own["current_password"] = PASSWORDS["ben"]
        for user in ("ben", "admin"):
            answer = team.request(user, "PATCH", f"{path}/update-password", json=own)
            assert answer.status_code == 400, answer.text
    assert "carl" not in team.request("admin", "GET", f"{path}/list").text
    form = {"username": "carl", "password": password.format("carl")}
    team.request("admin", "POST", "/ajax-api/2.0/mlflow/users/create-ui", data=form)
    assert "carl" not in team.request("admin", "GET", f"{path}/list").text
    assert team.get("ben", "users/get", username="ben").status_code == 200


def test_guessing_passwords_takes_time(team: Team) -> None:
    path = f"{team.url}/api/2.0/mlflow/experiments/search?max_results=5"

    def status(password: str) -> int:
        return requests.get(path, auth=("dora", password), timeout=30).status_code

    statuses = [status(f"guess {number}") for number in range(12)]
    assert statuses[:10] == [401] * 10
    assert statuses[-1] == 429
    told = requests.get(path, auth=("dora", "another"), timeout=30)
    assert int(told.headers["Retry-After"]) >= 1
    assert "Too many wrong logins" in told.json()["message"]
    assert team.get("ben", "experiments/search", max_results=5).status_code == 200
