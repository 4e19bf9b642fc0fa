"""A run that is killed in mid-training goes on as if nothing had been."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
import torch
from mlflow.entities import Run as MlflowRun

from pipeline.training.checkpoint import Journal
from tests.steps.workplace import Workplace, equal, run_told, untimed, wait_until

FITS = ("window_0.85", "final")
EPOCHS = 10  # of a tenth of a second
TRAIN = ("train", "--config", "small.yaml", "--dataset", "ratings.csv")
SLOW = (*TRAIN, f"--epochs={EPOCHS}", "--patience=none", "--batch_size=64", "--windows=0.85")
QUICK = (*TRAIN, "--windows=0.85")


@pytest.fixture(scope="module")
def whole(project: Workplace) -> MlflowRun:
    """The run that was never killed."""
    outcome = project.cli(*SLOW)
    assert outcome.status == 0, outcome.told
    return project.run(step="train")


@pytest.fixture(scope="module")
def killed(project: Workplace) -> dict[str, MlflowRun]:
    """Runs of the same experiment, ended by SIGKILL amid a fit, by the name of the fit."""
    processes = {fit: project.start("pipeline", *SLOW, "--reuse=false") for fit in FITS}
    runs = {}
    for fit, process in processes.items():
        run_id = run_told(process)
        path = project.folder / "data" / "checkpoints" / run_id / "checkpoint.pt"

        def trains(path: Path = path, fit: str = fit) -> bool:
            return path.exists() and len(Journal.load(path).records.get(fit, [])) >= 2

        wait_until(trains, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        runs[fit] = project.client.get_run(run_id)
        kept = Journal.load(path)
        assert 2 <= len(kept.records[fit]) < EPOCHS
        assert fit not in kept.finished
    return runs


@pytest.fixture(scope="module", params=FITS)
def resumed(
    project: Workplace, killed: dict[str, MlflowRun], request: pytest.FixtureRequest
) -> MlflowRun:
    run = killed[request.param]
    assert run.info.status == "RUNNING"
    outcome = project.cli("train", "--resume", run.info.run_id)
    assert outcome.status == 0, outcome.told
    return project.client.get_run(run.info.run_id)


def checkpoint(workplace: Workplace, run: MlflowRun) -> Path:
    return workplace.folder / "data" / "checkpoints" / run.info.run_id / "checkpoint.pt"


def test_a_resumed_run_is_the_run_that_was_never_killed(
    project: Workplace, whole: MlflowRun, resumed: MlflowRun
) -> None:
    assert resumed.info.status == "FINISHED"
    assert equal(project.weights(resumed), project.weights(whole))
    assert untimed(resumed.data.metrics) == untimed(whole.data.metrics)
    assert resumed.data.params == whole.data.params
    for metric in ("train/loss", "val/window_0.85/loss", "val/window_0.85/ndcg_at_10"):
        history = project.history(resumed, metric)
        assert list(history) == list(range(1, EPOCHS + 1))
        assert history == project.history(whole, metric)
    assert len(resumed.inputs.dataset_inputs) == 1
    # It went on, and did not begin again.
    journal = Journal.load(project.artifact(resumed, "checkpoint/checkpoint.pt"))
    assert {fit: len(journal.records[fit]) for fit in FITS} == dict.fromkeys(FITS, EPOCHS)


def test_a_resumed_run_can_be_evaluated(project: Workplace, resumed: MlflowRun) -> None:
    outcome = project.cli("evaluate", "--run_id", resumed.info.run_id)
    assert outcome.status == 0, outcome.told
    assert "test/ndcg_at_10" in project.client.get_run(resumed.info.run_id).data.metrics


def interrupt(
    workplace: Workplace,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    call: int,
    command: tuple[str, ...] = QUICK,
) -> MlflowRun:
    """A run that Ctrl-C ends when its journal's ``method`` is called for the ``call``-th time."""
    calls = 0
    original = getattr(Journal, method)

    def interrupted(journal: Journal, *args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        original(journal, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, method, interrupted)
        outcome = workplace.cli(*command, "--reuse=false")
    assert outcome.status == 130
    run = workplace.runs(step="train")[0]
    assert run.info.status == "KILLED"
    assert f"\n  python -m pipeline train --resume {run.info.run_id}\n" in outcome.told
    return run


@pytest.mark.parametrize(
    ("method", "call", "told"),
    [
        ("record", 1, "it starts from the beginning"),  # before anything is kept
        ("record", 2, "goes on after epoch 1 of window_0.85."),
        # Patience has ended the window, and nobody noted it.
        ("finish", 1, r"goes on after epoch \d of window_0.85."),
    ],
)
def test_an_interruption_at_an_awkward_moment(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, method: str, call: int, told: str
) -> None:
    assert workplace.cli(*QUICK).status == 0
    whole = workplace.run(step="train")
    run = interrupt(workplace, monkeypatch, method, call)
    outcome = workplace.cli("train", "--resume", run.info.run_id)
    assert outcome.status == 0, outcome.told
    assert re.search(told, outcome.told)
    run = workplace.client.get_run(run.info.run_id)
    assert run.info.status == "FINISHED"
    assert equal(workplace.weights(run), workplace.weights(whole))
    assert untimed(run.data.metrics) == untimed(whole.data.metrics)
    metric = "val/window_0.85/ndcg_at_10"
    assert workplace.history(run, metric) == workplace.history(whole, metric)


def test_a_model_without_epochs_is_told_of_once(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace.folder / "popular.yaml").write_text("model: most_popular\nwindows: [0.7, 0.85]\n")
    command = ("train", "--config", "popular.yaml", "--dataset", "ratings.csv")
    run = interrupt(workplace, monkeypatch, "record", 2, command)  # one is kept, one is not
    assert not [name for name in run.data.metrics if name.startswith("val/")]
    assert workplace.cli("train", "--resume", run.info.run_id).status == 0
    run = workplace.run(step="train")
    kept = workplace.json(run, "validation.json")["windows"]
    assert kept.keys() == {"window_0.7", "window_0.85"}
    for window, record in kept.items():
        name = f"val/{window}/ndcg_at_10"
        assert workplace.history(run, name) == {0: record["ndcg_at_10"]}


def test_a_resumed_run_does_not_say_that_it_was_interrupted(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = interrupt(workplace, monkeypatch, "record", 2)
    assert workplace.cli("train", "--resume", run.info.run_id).status == 0
    assert "ended" not in workplace.run(step="train").data.tags


def test_a_run_resumes_from_the_copy_in_its_artifacts(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = interrupt(workplace, monkeypatch, "record", 4)
    checkpoint(workplace, run).unlink()
    outcome = workplace.cli("train", "--resume", run.info.run_id)
    assert outcome.status == 0, outcome.told
    assert "starts from the beginning" not in outcome.told
    assert workplace.run(step="train").info.status == "FINISHED"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_run_that_was_begun_on_a_gpu_resumes_here(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it had been: what tells of a GPU is put into its inputs, tags and checkpoint."""
    run = interrupt(workplace, monkeypatch, "record", 4)
    workplace.client.set_tag(run.info.run_id, "device", "NVIDIA H100 80GB HBM3")
    inputs = workplace.json(run, "inputs.json")
    inputs["experiment"]["params"]["device"] = "cuda"
    workplace.client.log_dict(run.info.run_id, inputs, "inputs.json")
    path = checkpoint(workplace, run)
    content = torch.load(path, weights_only=True)
    content["state"] |= {"device": "cuda", "generator": torch.zeros(16, dtype=torch.uint8)}
    torch.save(content, path)
    outcome = workplace.cli("train", "--resume", run.info.run_id)
    assert outcome.status == 0, outcome.told
    assert "was begun on NVIDIA H100 80GB HBM3 and goes on on cpu" in outcome.told
    assert "device=auto: training on cpu" in outcome.told
    assert "random numbers are drawn anew" in outcome.told
    resumed = workplace.run(step="train")
    assert resumed.info.status == "FINISHED"
    assert resumed.data.tags["resumed_on"] == "cpu"


def test_a_finished_run_is_not_resumed(workplace: Workplace) -> None:
    assert workplace.cli(*QUICK, "--validate=false", "--epochs=1").status == 0
    run = workplace.run(step="train")
    outcome = workplace.cli("train", "--resume", run.info.run_id)
    assert outcome.status == 1
    assert f"Run {run.info.run_id} is finished: there is nothing to resume" in outcome.told
    after = workplace.run(step="train")
    assert (after.info.status, after.info.end_time) == ("FINISHED", run.info.end_time)


def test_a_run_that_is_still_being_trained_is_not_resumed(workplace: Workplace) -> None:
    process = workplace.start("pipeline", *SLOW, "--epochs=1000")
    try:
        run_id = run_told(process)
        path = workplace.folder / "data" / "checkpoints" / run_id / "checkpoint.pt"
        wait_until(path.exists, process)
        outcome = workplace.cli("train", "--resume", run_id)
        assert outcome.status == 1
        assert f"run {run_id} is being run by another process" in outcome.told
        assert process.poll() is None
        assert workplace.client.get_run(run_id).info.status == "RUNNING"
    finally:
        process.kill()
        process.communicate()


def test_an_unknown_run_is_not_resumed(workplace: Workplace) -> None:
    outcome = workplace.cli("train", "--resume", "0123456789")
    assert outcome.status == 1
    assert "Run 0123456789" in outcome.told
    assert workplace.uri in outcome.told  # which store was asked
    assert "not found" in outcome.told


def test_a_run_of_another_step_is_not_resumed(workplace: Workplace) -> None:
    run = workplace.client.create_run("0", tags={"step": "prepare"})
    outcome = workplace.cli("train", "--resume", run.info.run_id)
    assert outcome.status == 1
    assert f"Run {run.info.run_id} has no artifact inputs.json" in outcome.told
    assert workplace.client.get_run(run.info.run_id).info.status == "RUNNING"  # as it was


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + bytes(100)])
def test_a_damaged_checkpoint_is_told(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    run = interrupt(workplace, monkeypatch, "record", 3)
    path = checkpoint(workplace, run)
    path.write_bytes(content)
    outcome = workplace.cli("train", "--resume", run.info.run_id)
    assert outcome.status == 1
    assert f"{path.relative_to(workplace.folder)}: this is not a checkpoint" in outcome.told
    assert workplace.run(step="train").info.status == "FAILED"


def test_fields_do_not_go_with_resume(workplace: Workplace) -> None:
    outcome = workplace.cli("train", "--resume", "0123456789", "--epochs", "3")
    assert outcome.status == 1
    assert "--resume goes on with the run's own settings" in outcome.told
