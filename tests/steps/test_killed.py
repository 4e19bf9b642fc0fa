"""Commands that are killed at any moment: what is left is gone on with, and nothing is lost."""

from __future__ import annotations

import pytest
from mlflow.entities import Run as MlflowRun

from pipeline.outbox.journal import ROOT as OUTBOX
from pipeline.tracking.track import track
from tests.steps.dying import ENTRY, die
from tests.steps.test_import_ledger import TEXT as LEDGER
from tests.steps.workplace import Workplace, equal, untimed

TRAIN = ("train", "--config=small.yaml", "--dataset=ratings.csv", "--windows=0.85", "--epochs=2")
IMPORT = ("import_ledger", "--csv=ledger.csv")
INPUTS, MACHINE = 1, 5  # entries of the beginning of a run


@pytest.fixture(scope="module")
def whole(shared: Workplace) -> MlflowRun:
    """The run that was never killed."""
    outcome = shared.cli(*TRAIN)
    assert outcome.status == 0, outcome.told
    return shared.run(step="train")


@pytest.mark.parametrize("entry", [INPUTS, MACHINE])
def test_a_run_that_lacks_its_beginning_gets_it(
    shared: Workplace, whole: MlflowRun, entry: int
) -> None:
    die(shared, ENTRY, entry, *TRAIN, "--reuse=false")
    run = shared.runs(step="train")[0]
    assert run.info.run_id != whole.info.run_id
    outcome = shared.cli("train", "--resume", run.info.run_id)
    assert outcome.status == 0, outcome.told
    assert f"to go on with it: python -m pipeline train --resume {run.info.run_id}" in outcome.told
    run = shared.client.get_run(run.info.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == whole.data.params
    assert untimed(run.data.metrics) == untimed(whole.data.metrics)
    assert run.data.tags.keys() == whole.data.tags.keys()
    assert [each.dataset for each in run.inputs.dataset_inputs] == [
        each.dataset for each in whole.inputs.dataset_inputs
    ]
    assert shared.files(run) == shared.files(whole)
    assert equal(shared.weights(run), shared.weights(whole))
    for metric in whole.data.metrics:
        assert shared.history(run, metric).keys() == shared.history(whole, metric).keys()


def test_a_run_is_finished_and_reused_only_when_it_is_complete(workplace: Workplace) -> None:
    assert workplace.cli(*TRAIN).status == 0
    run = workplace.run(step="train")
    workplace.artifact(run, "environment/machine.json").unlink()
    outcome = workplace.cli(*TRAIN)
    told = f"Run {run.info.run_id} is not reused: it lacks file environment/machine.json"
    assert told in outcome.told
    assert len(workplace.runs(step="train")) == 2
    outcome = workplace.cli("train", "--resume", run.info.run_id)
    assert outcome.status == 0, outcome.told
    assert workplace.artifact(run, "environment/machine.json").exists()
    again = workplace.cli("train", "--resume", run.info.run_id)
    assert f"Run {run.info.run_id} is finished: there is nothing to resume" in again.told


def test_a_killed_evaluate_that_is_repeated_doubles_nothing(
    shared: Workplace, whole: MlflowRun
) -> None:
    evaluate = ("evaluate", "--run_id", whole.info.run_id, "--reuse=false")
    die(shared, ENTRY, 3, *evaluate)
    for _ in range(2):
        outcome = shared.cli(*evaluate)
        assert outcome.status == 0, outcome.told
    run = shared.client.get_run(whole.info.run_id)
    assert run.info.status == "FINISHED"
    assert "test/ndcg_at_10" in run.data.metrics
    for metric in run.data.metrics:
        shared.history(run, metric)  # no step twice


def test_what_was_killed_is_ended_by_sync(workplace: Workplace) -> None:
    die(workplace, ENTRY, 2, "prepare", "--dataset=ratings.csv")
    run = workplace.run(step="prepare")
    assert run.info.status == "RUNNING"
    outcome = workplace.cli("sync")
    assert outcome.status == 0, outcome.told
    run = workplace.run(step="prepare")
    assert run.info.status == "KILLED"
    assert "its process was killed" in run.data.tags["ended"]
    assert not list((workplace.folder / OUTBOX).glob("[0-9]*"))


def test_what_was_killed_is_ended_by_the_next_command_from_its_first_moment(
    workplace: Workplace,
) -> None:
    die(workplace, "mlflow.tracking.client:MlflowClient.create_run", 1, *TRAIN)
    (killed,) = workplace.runs()
    assert killed.info.status == "RUNNING"
    outcome = workplace.cli("prepare", "--dataset=ratings.csv", "--windows=0.85")
    assert outcome.status == 0, outcome.told
    run_id = killed.info.run_id
    assert f"Run {run_id} (small windows=0.85 epochs=2) is ended as KILLED" in outcome.told
    killed = workplace.client.get_run(run_id)
    assert killed.info.status == "KILLED"
    assert "the same command does it again" in killed.data.tags["ended"]


def test_an_import_that_was_killed_is_ended_and_then_completed(workplace: Workplace) -> None:
    (workplace.folder / "ledger.csv").write_text(LEDGER)
    die(workplace, "mlflow.tracking.client:MlflowClient.create_run", 2, *IMPORT)
    (killed,) = (run for run in workplace.runs() if run.info.status == "RUNNING")
    outcome = workplace.cli("sync")
    assert outcome.status == 0, outcome.told
    killed = workplace.client.get_run(killed.info.run_id)
    assert killed.info.status == "KILLED"
    assert "the same command does it again" in killed.data.tags["ended"]
    assert not list((workplace.folder / OUTBOX).glob("[0-9]*"))
    outcome = workplace.cli(*IMPORT)
    assert outcome.status == 0, outcome.told
    runs = workplace.runs(step="import_ledger")
    assert [run.info.status for run in runs] == ["FINISHED"] * 3


def test_what_lives_is_not_ended(workplace: Workplace) -> None:
    with workplace.entered(), track("mine", {"step": "train"}) as run:
        outcome = workplace.call("pipeline", "sync")
        assert outcome.status == 0, outcome.told
        assert workplace.client.get_run(run.id).info.status == "RUNNING"
