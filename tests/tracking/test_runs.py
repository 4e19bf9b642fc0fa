"""Runs end in a true state, adopt what ``mlflow run`` has made, and are found again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.outbox.delivery import shown_uri
from pipeline.tracking import runs
from pipeline.tracking.links import address, how_to_see
from pipeline.tracking.runs import Run, tracking_uri
from pipeline.tracking.track import track
from tests.steps.workplace import Workplace

TAGS = {"step": "train", "model": "none"}


@pytest.fixture
def here(workplace: Workplace) -> Iterator[Workplace]:
    with workplace.entered():
        yield workplace


@pytest.fixture
def adopted(here: Workplace, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run as ``mlflow run -P learning_rate=1e-3`` makes it."""
    run = here.client.create_run("0", run_name="abundant-dog-12")
    here.client.log_param(run.info.run_id, "learning_rate", "1e-3")
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    return str(run.info.run_id)


def test_a_run_that_ends_well_is_finished(here: Workplace) -> None:
    with track("mine", TAGS) as run:
        assert run.status == "RUNNING"
    assert run.status == "FINISHED"
    assert run.name == "mine"
    assert run.tags["step"] == "train"
    assert "ended" not in run.tags


def test_what_a_killed_process_has_left_of_an_upload_is_removed(here: Workplace) -> None:
    with track("mine", TAGS) as run:
        run.log_text("whole", "a/b.txt")
    folder = here.artifact(here.client.get_run(run.id), "a")
    (folder / ".artifact.uploading.x1").write_text("who")
    with track("mine", TAGS, resume=run):
        pass
    assert [file.name for file in folder.iterdir()] == ["b.txt"]


def test_a_run_has_its_tags_from_the_first_moment(
    here: Workplace, adopted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "set_tags", lambda run, tags: None)  # the process is killed before it
    with track("all", TAGS) as parent, track("one", TAGS, parent=parent) as child:
        pass
    with track("two", {"step": "again"}, resume=child):
        pass
    assert parent.id == adopted
    assert parent.tags["step"] == "train"
    assert child.tags["step"] == "again"
    assert {"model", "git_commit", "git_dirty"} <= parent.tags.keys() & child.tags.keys()


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (KeyboardInterrupt(), "KILLED", "interrupted (KeyboardInterrupt)"),
        (UserError("too wide"), "FAILED", "UserError: too wide"),
        (ValueError("x" * 9000), "FAILED", "ValueError: xxx"),
        (SystemExit(3), "FAILED", "SystemExit: 3"),
    ],
)
def test_a_run_that_ends_badly_says_how(
    here: Workplace, error: BaseException, status: str, told: str
) -> None:
    with pytest.raises(type(error)), track("mine", TAGS) as run:
        raise error
    assert run.status == status
    assert run.tags["ended"].startswith(told)


def test_an_impatient_second_ctrl_c_does_not_leave_the_run_running(
    here: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_tags = Run.set_tags

    def slow(run: Run, tags: dict[str, str]) -> None:
        if "ended" in tags:
            os.kill(os.getpid(), signal.SIGINT)
        set_tags(run, tags)

    monkeypatch.setattr(Run, "set_tags", slow)
    with pytest.raises(KeyboardInterrupt), track("mine", TAGS) as run:
        raise KeyboardInterrupt
    status = run.status
    assert status == "KILLED"


def test_a_signal_while_a_run_ends_well_is_heard_after_it(
    here: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = Run.end

    def interrupted(run: Run, status: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        end(run, status)

    monkeypatch.setattr(Run, "end", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), track("mine", TAGS) as run:
            pass
    finally:
        signal.signal(signal.SIGINT, before)
    assert run.status == "FINISHED"
    assert "ended" not in run.tags


def test_the_run_of_mlflow_run_is_adopted(here: Workplace, adopted: str) -> None:
    with track("mine", TAGS) as run:
        run.log_params({"learning_rate": 0.001, "epochs": 3})
    assert run.id == adopted
    assert run.name == "mine"  # MLflow's random name says nothing
    assert here.client.get_run(adopted).data.params == {"learning_rate": "1e-3", "epochs": "3"}
    assert len(here.runs()) == 1


def test_a_name_that_somebody_gave_stays(here: Workplace, adopted: str) -> None:
    here.client.set_tag(adopted, "mlflow.runName", "tuesday")
    with track("mine", TAGS) as run:
        pass
    assert run.name == "tuesday"


def test_children_are_runs_of_their_own(here: Workplace, adopted: str) -> None:
    with track("all", TAGS) as parent:
        with track("one", TAGS, parent=parent) as child:
            child.log_params({"learning_rate": 0.5})
        with pytest.raises(UserError), track("two", TAGS, parent=parent) as failed:
            raise UserError("no")
    assert parent.id == adopted
    assert len({parent.id, child.id, failed.id}) == 3
    assert child.tags["mlflow.parentRunId"] == failed.tags["mlflow.parentRunId"] == parent.id
    assert (parent.status, child.status, failed.status) == ("FINISHED", "FINISHED", "FAILED")


def test_a_child_is_in_the_experiment_of_its_parent(
    here: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with track("all", TAGS) as parent:
        pass
    other = here.client.create_experiment("other")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", other)
    with track("one", TAGS, parent=parent) as child:
        pass
    with track("two", TAGS) as run:
        pass
    assert (parent.experiment_id, child.experiment_id, run.experiment_id) == ("0", "0", other)


def test_a_resumed_run_is_itself(here: Workplace, adopted: str) -> None:
    with pytest.raises(KeyboardInterrupt), track("mine", TAGS, parent=Run(adopted)) as run:
        raise KeyboardInterrupt
    with track("other", TAGS, resume=run) as resumed:
        assert resumed.id == run.id != adopted
        assert run.status == "RUNNING"
    assert run.status == "FINISHED"
    assert run.name == "mine"


def test_a_machine_without_git(here: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "git"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("PATH", str(here.folder))
    with track("mine", TAGS) as run:
        pass
    assert run.status == "FINISHED"
    assert (run.tags["git_commit"], run.tags["git_dirty"]) == ("none", "unknown")


def test_a_repository_that_belongs_to_somebody_else(
    here: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("init", "--quiet"), ("commit", "--quiet", "--allow-empty", "--message=a")):
        subprocess.run(["git", *who, *words], cwd=here.folder, check=True)
    monkeypatch.setattr(runs, "__file__", str(here.folder / "runs.py"))
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with track("mine", TAGS) as run:
        pass
    assert run.status == "FINISHED"
    assert run.tags["git_dirty"] == "unknown"


def test_an_unknown_run_is_told(here: Workplace) -> None:
    with pytest.raises(UserError, match=r"Run 0123: sqlite:.*not found"):
        _ = Run("0123").status
    with (
        pytest.raises(UserError, match=r"did not open a run.*not found"),
        track("mine", TAGS, resume=Run("0123")),
    ):
        pass


def test_a_store_that_cannot_be_used_is_told(here: Workplace) -> None:
    mlflow.set_tracking_uri(f"file:{here.folder}/store")
    with (
        pytest.raises(UserError, match=r"The tracking store file:.*did not open a run"),
        track("mine", TAGS),
    ):
        pass


def test_metrics_of_an_epoch_are_one_step(here: Workplace) -> None:
    with track("mine", TAGS) as run:
        assert run.steps_logged("loss") == set()
        run.log_metrics({"loss": 2.0, "ndcg": 0.1}, 1)
        run.log_metrics({"loss": 1.0}, 2)
        assert run.steps_logged("loss") == {1, 2}
        assert run.steps_logged("ndcg") == {1}
    assert run.metrics == {"loss": 1.0, "ndcg": 0.1}


def test_files_come_back_as_they_went(here: Workplace, tmp_path: Path) -> None:
    table = pd.DataFrame({"user": ["a", "b"], "ndcg": [0.5, 1.0]})
    with track("mine", TAGS) as run:
        run.log_parquet(table, "test/users.parquet")
        run.log_parquet(table, "users.parquet")
        run.log_json({"k": [1, 2]}, "inputs.json")
        run.log_text("text", "a/b.txt")
    for name in ("test/users.parquet", "users.parquet"):
        assert pd.read_parquet(run.fetch(name, tmp_path)).equals(table)
    assert run.fetch("a/b.txt", tmp_path).read_text() == "text"
    with pytest.raises(UserError, match=rf"Run {run.id} has no artifact nothing\.json"):
        run.fetch("nothing.json", tmp_path)


def test_the_command_that_opens_the_ui(here: Workplace) -> None:
    page = f"http://127.0.0.1:5000/#/experiments/0/runs/{'f' * 32}"
    assert how_to_see(page) == f"python -m pipeline ui, then {page}"
    mlflow.set_tracking_uri(f"sqlite:///{here.folder}/data/offline/mlflow.db")
    assert how_to_see(page) == f"python -m pipeline ui --offline, then {page}"
    mlflow.set_tracking_uri("http://tracking.example:5000/")
    assert address() == "http://tracking.example:5000"
    assert how_to_see(page) == page
    assert tracking_uri() == "http://tracking.example:5000/"


def test_a_run_inside_does_not_take_the_run_of_mlflow_run_away(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with workplace.entered():
        with track("parent", {}) as parent:
            pass
        monkeypatch.setenv("MLFLOW_RUN_ID", "f" * 32)
        with track("child", {}, parent=parent):
            pass
        assert os.environ["MLFLOW_RUN_ID"] == "f" * 32


def test_a_password_in_the_tracking_uri_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "postgresql://u:hunter2@h:5432/d")
    assert shown_uri() == "postgresql://u:***@h:5432/d"
    assert "hunter2" not in how_to_see(address())
