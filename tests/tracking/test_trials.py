"""Runs of trials end in a true state, whatever ends the trial or its process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping

import pytest

from pipeline.errors import UserError
from pipeline.tracking.runs import Run
from pipeline.tracking.track import track
from pipeline.tracking.trials import (
    COMPLETE,
    FAILED,
    INTERRUPTED,
    LOST,
    PRUNED,
    RUNNING,
    STUDY,
    TRIAL,
    TRIAL_STATE,
    end_left,
    end_lost,
    track_trial,
)
from tests.steps.workplace import DEADLINE, Workplace

TAGS = {"step": "trial", STUDY: "small"}
PROCESS = """
import sys, time
from pipeline.tracking.runs import Run
from pipeline.tracking.trials import track_trial

with track_trial("trial 3", {"step": "trial"}, Run(sys.argv[1]), 3, LookupError) as run:
    print(run.id, flush=True)
    time.sleep(600)
"""


class HopelessError(Exception):
    """What Optuna calls TrialPruned."""


@pytest.fixture
def here(workplace: Workplace) -> Iterator[Workplace]:
    with workplace.entered():
        yield workplace


@pytest.fixture
def parent(here: Workplace) -> Run:
    """The run of a study, opened by another process."""
    return Run(here.client.create_run("0").info.run_id)


def begun(parent: Run, number: int) -> Run:
    """The run of a trial whose process is gone."""
    tags = {**TAGS, TRIAL: str(number), TRIAL_STATE: RUNNING, "mlflow.parentRunId": parent.id}
    return Run(parent.client.create_run(parent.experiment_id, tags=tags).info.run_id)


def ends(runs: list[Run]) -> list[tuple[str, str]]:
    return [(run.status, run.tags[TRIAL_STATE]) for run in runs]


def test_a_trial_is_a_child_with_its_number_and_state(
    here: Workplace, parent: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = here.client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", own)
    with track_trial("trial 7", TAGS, parent, 7, HopelessError) as run:
        during = run.tags
        assert os.environ["MLFLOW_RUN_ID"] == own
    assert run.id not in (own, parent.id)
    assert run.name == "trial 7"
    assert during.items() >= {**TAGS, TRIAL: "7", TRIAL_STATE: RUNNING}.items()
    assert {"mlflow.parentRunId", "git_commit"} <= during.keys()
    assert ends([run]) == [("FINISHED", COMPLETE)]
    assert "ended" not in run.tags


@pytest.mark.parametrize(
    ("error", "status", "state", "told"),
    [
        (HopelessError("at step 2"), "FINISHED", PRUNED, None),
        (KeyboardInterrupt(), "KILLED", INTERRUPTED, "interrupted (KeyboardInterrupt)"),
        (ValueError("nan"), "FAILED", FAILED, "ValueError: nan"),
        (SystemExit(3), "FAILED", FAILED, "SystemExit: 3"),
    ],
)
def test_a_trial_ends_by_what_ends_it(
    here: Workplace,
    parent: Run,
    error: BaseException,
    status: str,
    state: str,
    told: str | None,
) -> None:
    with (
        pytest.raises(type(error)) as raised,
        track_trial("trial", TAGS, parent, 0, HopelessError) as run,
    ):
        raise error
    assert raised.value is error
    assert ends([run]) == [(status, state)]
    assert run.tags.get("ended") == told


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (None, ("FINISHED", COMPLETE)),
        (HopelessError(), ("FINISHED", PRUNED)),
        (ValueError(), ("FAILED", FAILED)),
        (KeyboardInterrupt(), ("KILLED", INTERRUPTED)),
    ],
)
def test_a_signal_while_a_trial_ends_changes_nothing_and_is_heard(
    here: Workplace,
    parent: Run,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException | None,
    end: tuple[str, str],
) -> None:
    set_tags = Run.set_tags
    found = []

    def trial() -> None:
        with track_trial("trial", TAGS, parent, 0, HopelessError) as run:
            found.append(run)
            monkeypatch.setattr(Run, "set_tags", impatient)
            if error is not None:
                raise error

    def impatient(run: Run, tags: Mapping[str, str]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        set_tags(run, tags)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt) as raised:
            trial()
    finally:
        signal.signal(signal.SIGINT, before)
    assert raised.value is not error
    assert ends(found) == [end]


def test_the_run_of_a_killed_process_is_ended(workplace: Workplace) -> None:
    (workplace.folder / "trial.py").write_text(PROCESS)
    with workplace.entered():
        with track("study", TAGS) as parent:
            process = workplace.start("trial", parent.id)
            try:
                assert process.stdout is not None
                run = Run(process.stdout.readline().strip())
                assert end_lost(parent, lambda: {3: RUNNING}) == []
            finally:
                process.kill()
                process.wait(timeout=DEADLINE)
                process.communicate()
            assert ends([run]) == [("RUNNING", RUNNING)]
            assert run.tags[TRIAL] == "3"
            assert end_lost(parent, lambda: {3: LOST}) == [run.id]
        assert ends([run]) == [("KILLED", LOST)]
        assert end_lost(parent, lambda: {3: LOST}) == []
        assert ends([run]) == [("KILLED", LOST)]


def test_runs_end_as_their_trials_have_ended(here: Workplace, parent: Run) -> None:
    words = [COMPLETE, PRUNED, FAILED, INTERRUPTED, LOST, RUNNING, "waiting"]
    runs = [begun(parent, number) for number in range(len(words) + 1)]
    stranger = begun(Run(here.client.create_run("0").info.run_id), 0)
    refit = here.client.create_run("0", tags={"mlflow.parentRunId": parent.id}).info.run_id
    ended = end_lost(parent, lambda: dict(enumerate(words)))
    assert set(ended) == {run.id for number, run in enumerate(runs) if number not in (5, 6)}
    assert ends(runs) == [
        ("FINISHED", COMPLETE),
        ("FINISHED", PRUNED),
        ("FAILED", FAILED),
        ("KILLED", INTERRUPTED),
        ("KILLED", LOST),
        ("RUNNING", RUNNING),
        ("RUNNING", RUNNING),
        ("KILLED", LOST),  # the study knows no such trial
    ]
    assert ends([stranger]) == [("RUNNING", RUNNING)]
    assert Run(refit).status == "RUNNING"


def test_a_trial_that_begins_meanwhile_is_not_lost(here: Workplace, parent: Run) -> None:
    first, begun_since = begun(parent, 0), []

    def states() -> dict[int, str]:
        begun_since.append(begun(parent, 1))
        return {0: FAILED}

    assert end_lost(parent, states) == [first.id]
    assert ends(begun_since) == [("RUNNING", RUNNING)]


def test_a_trial_whose_end_the_study_never_heard_of_is_lost(parent: Run) -> None:
    with track_trial("trial 0", TAGS, parent, 0, HopelessError) as run:
        pass
    assert ends([run]) == [("FINISHED", COMPLETE)]
    assert end_lost(parent, lambda: {0: RUNNING}) == []
    assert end_lost(parent, lambda: {0: LOST}) == [run.id]
    assert ends([run]) == [("KILLED", LOST)]


def test_a_refit_whose_process_is_gone_is_ended(here: Workplace, parent: Run) -> None:
    trial = begun(parent, 0)
    tags = {"mlflow.parentRunId": parent.id}
    refit = Run(here.client.create_run("0", tags=tags).info.run_id)
    end_left(parent)
    assert (refit.status, trial.status) == ("KILLED", "RUNNING")
    assert refit.tags["ended"] == "its process was killed"


def test_an_interrupted_trial_stays_one(parent: Run) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        track_trial("trial 0", TAGS, parent, 0, HopelessError) as run,
    ):
        raise KeyboardInterrupt
    assert end_lost(parent, lambda: {0: LOST}) == []
    assert ends([run]) == [("KILLED", INTERRUPTED)]


def test_an_unknown_parent_is_told(here: Workplace) -> None:
    with pytest.raises(UserError, match="Run 0123"):
        end_lost(Run("0123"), dict)
    with (
        pytest.raises(UserError, match="Run 0123"),
        track_trial("trial", TAGS, Run("0123"), 0, HopelessError),
    ):
        pass
