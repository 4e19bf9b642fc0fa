from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import UserError
from pipeline.training.checkpoint import Journal

ROOT = Path(__file__).parents[2]
STATE = {"network": {"rows": torch.tensor([[1.5, -2.0]])}, "epochs_done": 2}


class Unwritable:
    """What cannot be written: pickling it fails when part of the file is there already."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise OSError("no space left on device")


def written(path: Path) -> Journal:
    """A window finished, another in progress."""
    journal = Journal(path)
    journal.record("one", {"loss": 0.5, "ndcg_at_10": 0.25}, {"epochs_done": 1})
    journal.finish("one")
    journal.record("two", {"loss": 0.75}, {"epochs_done": 1})
    journal.record("two", {"loss": 0.625}, STATE)
    return journal


def message(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        Journal.load(path)
    return str(caught.value)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "journal.pt"
    written(path)
    journal = Journal.load(path)
    assert journal.finished == ["one"]
    assert journal.records == {
        "one": [{"loss": 0.5, "ndcg_at_10": 0.25}],
        "two": [{"loss": 0.75}, {"loss": 0.625}],
    }
    state = journal.state("two")
    assert state is not None
    assert state["epochs_done"] == 2
    assert torch.equal(state["network"]["rows"], STATE["network"]["rows"])


def test_a_state_belongs_to_the_fit_in_progress(tmp_path: Path) -> None:
    path = tmp_path / "journal.pt"
    written(path)
    for journal in (written(tmp_path / "other.pt"), Journal.load(path)):
        assert journal.state("one") is None  # finished
        assert journal.state("three") is None  # not begun
        journal.finish("two")
        assert journal.state("two") is None


def test_a_journal_that_was_read_is_written_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.pt"
    written(path)
    journal = Journal.load(path)
    journal.record("two", {"loss": 0.5}, {"epochs_done": 3})
    again = Journal.load(path)
    assert [record["loss"] for record in again.records["two"]] == [0.75, 0.625, 0.5]
    assert again.state("two") == {"epochs_done": 3}


def test_a_fit_without_epochs_can_be_finished(tmp_path: Path) -> None:
    path = tmp_path / "journal.pt"
    Journal(path).finish("final")
    journal = Journal.load(path)
    assert journal.finished == ["final"]
    assert journal.records == {"final": []}


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    journal = Journal()
    journal.record("one", {"loss": 0.5}, STATE)
    assert journal.state("one") is STATE
    journal.finish("one")
    assert journal.finished == ["one"]
    assert not list(tmp_path.iterdir())


def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "journal.pt"
    journal = written(path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"cannot be written \(no space left"):
        journal.record("two", {"loss": 0.5}, {"rows": torch.ones(1000), "bad": Unwritable()})
    assert path.read_bytes() == before
    assert len(Journal.load(path).records["two"]) == 2


def test_a_crash_while_writing_leaves_no_litter(tmp_path: Path) -> None:
    journal = written(tmp_path / "journal.pt")
    with pytest.raises(UserError, match=r"cannot be written \(no space left"):
        journal.record("two", {"loss": 0.5}, {"bad": Unwritable()})
    assert [file.name for file in tmp_path.iterdir()] == ["journal.pt"]


def test_an_interrupt_amid_writing_comes_after_it(tmp_path: Path) -> None:
    """PyTorch would make an error of its own of it, or end the process."""
    state = {"large": torch.zeros(500_000), "many": [torch.zeros(1_000) for _ in range(50)]}
    journal = Journal(tmp_path / "journal.pt")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def record_and_wait(strike: threading.Timer) -> None:
        strike.start()
        journal.record("fit", {"loss": 1.0}, state)
        time.sleep(5)

    try:
        for number in range(50):
            strike = threading.Timer(2e-4 * number, os.kill, (os.getpid(), signal.SIGINT))
            with pytest.raises(KeyboardInterrupt):
                record_and_wait(strike)
            strike.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert Journal.load(tmp_path / "journal.pt").state("fit") is not None
    assert [path.name for path in tmp_path.iterdir()] == ["journal.pt"]


def test_nothing_but_the_journal_is_left_behind(tmp_path: Path) -> None:
    written(tmp_path / "journal.pt")
    assert [file.name for file in tmp_path.iterdir()] == ["journal.pt"]


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "journal.pt"
    assert message(path) == f"{path}: no checkpoint here to resume from."


def test_a_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "journal.pt"
    written(path)
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{path}: this is not a checkpoint that can be read" in message(path)


@pytest.mark.parametrize("content", [b"", b"model: ncf\n", b"\x80\x02}q\x00."])
def test_a_file_of_something_else(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal.pt"
    path.write_bytes(content)
    assert f"{path}: this is not a checkpoint that can be read" in message(path)


def test_a_number_that_has_changed_on_disk(tmp_path: Path) -> None:
    """torch writes checksums, but reads any bits."""
    path = tmp_path / "journal.pt"
    written(path)
    content = bytearray(path.read_bytes())
    content[content.index(STATE["network"]["rows"].numpy().tobytes())] ^= 1  # type: ignore[index]
    path.write_bytes(content)
    assert f"{path}: this is not a checkpoint that can be read" in message(path)


def test_a_bomb(tmp_path: Path) -> None:
    path = tmp_path / "journal.pt"
    written(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("journal/data/9", bytes(1 << 20))
    assert f"{path}: this is not a checkpoint that can be read" in message(path)


@pytest.mark.parametrize(
    "content",
    [
        {"epochs": [], "finished": [], "state": None},
        {"epochs": {"one": [{"loss": "low"}]}, "finished": [], "state": None},
        {"epochs": {}, "finished": "one", "state": None},
        {"epochs": {}, "finished": [], "state": 3},
    ],
)
def test_a_journal_of_other_kinds_of_values(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "journal.pt"
    torch.save(content, path)
    assert f"{path}: this is not a checkpoint that can be read (Valid" in message(path)


@pytest.mark.parametrize("content", [{}, {"epochs": {}}, [1, 2]])
def test_a_file_that_torch_reads_and_is_no_journal(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "journal.pt"
    torch.save(content, path)
    assert f"{path}: this is not a checkpoint that can be read" in message(path)


class Malice:
    """What runs something when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "journal.pt", tmp_path / "mark"
    torch.save({"epochs": {}, "finished": [], "state": Malice(mark)}, path)
    assert f"{path}: this is not a checkpoint that can be read" in message(path)
    assert not mark.exists()


def test_a_full_disk_is_told_and_the_last_checkpoint_stays(tmp_path: Path) -> None:
    script = f"""
import resource, torch
from pathlib import Path
from pipeline.errors import UserError
from pipeline.training.checkpoint import Journal
journal = Journal(Path({str(tmp_path / "checkpoint.pt")!r}))
journal.record("final", {{"loss": 1.0}}, {{"weights": torch.zeros(10)}})
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
try:
    journal.record("final", {{"loss": 0.5}}, {{"weights": torch.zeros(100_000)}})
except UserError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert "checkpoint.pt: the checkpoint cannot be written (" in done.stdout
    assert Journal.load(tmp_path / "checkpoint.pt").records == {"final": [{"loss": 1.0}]}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
