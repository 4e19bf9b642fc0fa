"""One store copied to another: everything arrives, once, whatever happens on the way."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import psycopg
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url

from pipeline.errors import UserError
from pipeline.ops.migration.migrate import migrate
from tests.steps.workplace import PASSWORD, Workplace, make_team, make_workplace, served
from tests.tracking.stores import END, fill, held, make_run

WRITES = (
    "create_experiment", "create_run", "set_tag", "log_batch", "log_inputs", "log_outputs",
    "create_logged_model", "set_logged_model_tags", "finalize_logged_model",
    "create_registered_model", "create_model_version", "set_registered_model_alias",
)  # fmt: skip


@pytest.fixture(scope="module")
def source(shared: Workplace) -> Workplace:
    """A store with something of everything; tests that change it copy it first."""
    fill(shared)
    return shared


@pytest.fixture
def copied(source: Workplace, tmp_path: Path) -> Workplace:
    """A copy of the source's database; its artifacts are those of the source."""
    (tmp_path / "source").mkdir()
    shutil.copy(source.folder / "mlflow.db", tmp_path / "source")
    return Workplace(tmp_path / "source")


@pytest.fixture
def target(tmp_path: Path, ratings: pd.DataFrame, store: Path) -> Iterator[Workplace]:
    """An empty SQLite store, in whose folder this process works."""
    (tmp_path / "target").mkdir()
    place = make_workplace(tmp_path / "target", ratings, store)
    with place.entered():
        yield place


@pytest.fixture(scope="module")
def team(
    tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame, store: Path
) -> Iterator[str]:
    """The URL of a server of a team, which keeps artifacts."""
    with served(make_team(tmp_path_factory.mktemp("team"), ratings, store), "127.0.0.1") as url:
        yield url


@pytest.fixture(scope="module")
def database(postgresql: str) -> str:
    """The URL of an empty database of its own in PostgreSQL."""
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("CREATE DATABASE tracking")
    return make_url(postgresql).set(database="tracking").render_as_string(hide_password=False)


@pytest.mark.parametrize("kind", ["team", "database"])
def test_everything_arrives_once(
    source: Workplace, target: Workplace, kind: str, request: pytest.FixtureRequest
) -> None:
    uri: str = request.getfixturevalue(kind)
    first = migrate(source.uri, uri)
    assert first.source == first.now
    assert first.is_whole, first.problems
    expected = held(source.uri)
    assert held(uri) == expected
    assert expected["run parent"]["state"][2] == END
    runs = [name for name in expected if name.startswith("run ")]
    assert first.source["runs"] == len(runs) == 4
    points = sum(len(each) for name in runs for each in expected[name]["points"].values())
    assert first.source["metric points"] == points > 2500
    assert first.before["runs"] == 0
    assert (first.now["versions"], first.now["aliases"]) == (2, 2)
    again = migrate(source.uri, uri)
    assert again.is_whole
    assert again.before == again.now == first.now
    assert held(uri) == expected


def test_a_copied_model_predicts_the_same_under_its_new_run(
    source: Workplace, team: str, target: Workplace
) -> None:
    migrate(source.uri, team)
    wanted = pd.DataFrame({"user": ["10", "13", "nobody"]})
    lists = []
    for uri in (source.uri, team):
        mlflow.set_tracking_uri(uri)
        model = mlflow.pyfunc.load_model("models:/lists@champion")
        run = mlflow.get_run(model.metadata.run_id)
        assert run.data.tags["step"] == "train"
        assert run.outputs.model_outputs[0].model_id == model.metadata.model_id
        lists.append(model.predict(wanted, params={"k": 5}))
    assert len(lists[0]) == 15
    pd.testing.assert_frame_equal(*lists)


def test_a_server_is_a_source_too(source: Workplace, team: str, target: Workplace) -> None:
    migrate(source.uri, team)
    back = migrate(team, target.uri)
    assert back.is_whole, back.problems
    assert held(target.uri) == held(source.uri)


def test_an_interrupted_migration_goes_on(
    source: Workplace, target: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted at more and more writes, before and after them, and by a lost server."""
    for number, error in enumerate(
        [KeyboardInterrupt(), MlflowException("lost"), KeyboardInterrupt(), OSError("no route")]
    ):
        with monkeypatch.context() as patch:
            left = [1 + 5 * number]  # fewer than are left to be done
            for name in WRITES:
                patch.setattr(MlflowClient, name, _failing(name, left, error))
            with pytest.raises((KeyboardInterrupt, UserError)) as told:
                migrate(source.uri, target.uri)
            assert isinstance(error, KeyboardInterrupt) or "was broken off" in str(told.value)
    done = migrate(source.uri, target.uri)
    assert done.is_whole, done.problems
    assert 0 < done.before["runs"] <= done.now["runs"]
    assert held(target.uri) == held(source.uri)


def _failing(name: str, left: list[int], error: BaseException) -> Any:
    write = getattr(MlflowClient, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            if name != "log_outputs":  # done, but nobody heard of it
                write(*args, **kwargs)
            raise error
        return write(*args, **kwargs)

    return counted


def test_what_went_on_since_is_brought_up_to_date(copied: Workplace, target: Workplace) -> None:
    client, films = copied.client, copied.client.get_experiment_by_name("films")
    assert films is not None
    run = make_run(client, films.experiment_id, "killed", ended="interrupted")
    client.log_text(run, "12345", "state.txt")
    client.log_text(run, "12345", "other.txt")
    client.set_terminated(run, "KILLED", END)
    assert migrate(copied.uri, target.uri).is_whole
    client.delete_tag(run, "ended")
    client.set_tag(run, "mlflow.note.content", "gone on with")
    client.log_batch(run, [Metric("test/ndcg_at_10", 0.25, END, 0)])
    client.log_text(run, "54321", "state.txt")  # of the same size
    client.log_text(run, "{}", "test/lists.json")
    client.set_terminated(run, "FINISHED", END + 5)
    make_run(client, films.experiment_id, "new", **{"mlflow.parentRunId": run})
    client.set_model_version_tag("lists", "1", "card", "written later")
    (copy,) = target.client.search_runs(["1"], f"tags.migrated_from = '{run}'")
    target.client.set_tag(copy.info.run_id, "seen_by", "the team")
    done = migrate(copied.uri, target.uri)
    assert done.is_whole
    assert done.now["runs"] - done.before["runs"] == 2
    there, expected = held(target.uri), held(copied.uri)
    assert there["run killed"]["tags"].pop("seen_by") == "the team"
    assert there == expected
    assert there["run killed"]["tags"].keys().isdisjoint({"ended"})


def test_what_a_killed_one_has_left_of_a_file_is_removed(
    copied: Workplace, target: Workplace
) -> None:
    migrate(copied.uri, target.uri)
    (run, *_) = copied.client.search_runs(["0"], "attributes.run_name LIKE 'small%'")
    (copy,) = target.client.search_runs(["0"], f"tags.migrated_from = '{run.info.run_id}'")
    left = target.artifact(copy, "environment") / ".artifact.uploading.x1"
    left.write_text("half of it")
    copied.client.set_tag(run.info.run_id, "written", "later")
    assert migrate(copied.uri, target.uri).is_whole
    assert not left.exists()


def test_runs_that_cannot_be_read_are_told_and_the_rest_goes_on(
    copied: Workplace, target: Workplace
) -> None:
    lost = "mlflow-artifacts:/1/of/a/server"
    with sqlite3.connect(copied.folder / "mlflow.db") as database:
        database.execute("UPDATE runs SET artifact_uri = ? WHERE name = 'parent'", (lost,))
    database.close()
    done = migrate(copied.uri, target.uri)
    assert not done.is_whole
    (problem,) = done.problems
    assert "(parent): artifacts cannot be read: " in problem
    expected, there = held(copied.uri), held(target.uri)
    assert expected.keys() == there.keys()
    assert there["run small epochs=1 windows=none"] == expected["run small epochs=1 windows=none"]
    assert there["run parent"]["points"] == expected["run parent"]["points"]
    with sqlite3.connect(copied.folder / "mlflow.db") as database:
        location = str(copied.folder / "found")
        database.execute("UPDATE runs SET artifact_uri = ? WHERE name = 'parent'", (location,))
    database.close()
    (copied.folder / "found").mkdir()
    (copied.folder / "found" / "file").write_text("found again")
    assert migrate(copied.uri, target.uri).is_whole
    assert held(target.uri)["run parent"]["files"].keys() == {"artifacts/file"}


def test_a_model_without_its_files_is_told(copied: Workplace, target: Workplace) -> None:
    nowhere = str(copied.folder / "nowhere")
    with sqlite3.connect(copied.folder / "mlflow.db") as database:
        database.execute("UPDATE logged_models SET artifact_location = ?", (nowhere,))
    database.close()
    done = migrate(copied.uri, target.uri)
    (problem,) = done.problems
    assert f"(model): there are no files at {nowhere}" in problem


def test_what_a_team_has_under_the_same_names_stays(source: Workplace, target: Workplace) -> None:
    """An experiment takes the runs, a registered model the versions; its champion stays."""
    client = target.client
    mine = client.create_experiment("films", tags={"team": "ours"})
    ours = make_run(client, mine, "ours")
    client.create_registered_model("lists", {"n": "0"})
    client.create_model_version("lists", f"runs:/{ours}/model", ours, {"n": "0"})
    client.set_registered_model_alias("lists", "champion", "1")
    done = migrate(source.uri, target.uri)
    assert done.is_whole, done.problems
    there = held(target.uri)
    assert there["run ours"]["experiment"] == there["run parent"]["experiment"] == "films"
    assert there["experiment films"] == {"team": "ours"}
    _, _, aliases = there["registered lists"]["about"]
    assert aliases == {"champion": "0", "challenger": "1"}
    assert [tags["n"] for _, tags, _, _ in there["registered lists"]["versions"]] == ["0", "1", "3"]
    client.set_registered_model_alias("lists", "champion", "2")  # one of the copies
    migrate(source.uri, target.uri)
    assert int(client.get_registered_model("lists").aliases["champion"]) == 2


def test_a_deleted_experiment_of_the_same_name_is_told(
    source: Workplace, target: Workplace
) -> None:
    target.client.delete_experiment(target.client.create_experiment("films"))
    done = migrate(source.uri, target.uri)
    (problem,) = done.problems
    assert problem.startswith("Experiment films: the target has deleted one of this name.")
    assert "run small epochs=1 windows=none" in held(target.uri)


def refused(source: str, target: str) -> str:
    with pytest.raises(UserError) as error:
        migrate(source, target)
    return str(error.value)


def test_mistakes_are_told_before_anything_is_done(source: Workplace, target: Workplace) -> None:
    missing = target.folder / "missing.db"
    assert f"there is no file {missing}" in refused(f"sqlite:///{missing}", target.uri)
    assert not missing.exists()
    with sqlite3.connect(target.folder / "other.db") as database:
        database.execute("CREATE TABLE films (id INTEGER)")
    database.close()
    before = (target.folder / "other.db").read_bytes()
    assert "no tracking store" in refused(f"sqlite:///{target.folder}/other.db", target.uri)
    assert (target.folder / "other.db").read_bytes() == before
    assert "the same store" in refused(source.uri, f"sqlite:///{source.folder}/./mlflow.db")
    dead = f"http://ada:{PASSWORD}@127.0.0.1:9"
    told = refused(source.uri, dead)
    assert "The target http://ada:***@127.0.0.1:9 cannot be used" in told
    assert PASSWORD not in told
    for wrong in ("mlruns", "file:///home/ada/mlruns"):
        assert "mlflow migrate-filestore" in refused(wrong, target.uri)
    assert "expected the URL of a tracking store" in refused("ftp://films", target.uri)


def test_a_server_on_the_same_database_is_the_same_store(source: Workplace) -> None:
    with served(source, "127.0.0.1") as url:
        assert "the same store" in refused(source.uri, url)
