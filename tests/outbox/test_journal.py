"""What was added is read again, in order, whatever happens to the process, the disk or the file."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.outbox.journal import DAMAGED, JOURNAL, Entry, Outbox, OutboxError
from tests.steps.workplace import ROOT, Workplace

STORE = "http://127.0.0.1:5000"
# Writes entries until it cannot, says how many it has, then waits to be killed.
WRITER = """
import resource, sys, time
from pathlib import Path
from pipeline.outbox.journal import Entry, Outbox, OutboxError
limit = int(sys.argv[2])
box, count = Outbox.create("store", Path(sys.argv[1])), 0
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    while count < 50:
        box.add(Entry("batch", "run", {"tags": [["number", str(count)]]}))
        count += 1
except OutboxError as error:
    print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    box.add(Entry("batch", "run", {"tags": [["number", str(count)]]}))
    count += 1
print(count, flush=True)
time.sleep(60)
"""


def entry(number: int, run: str = "a") -> Entry:
    return Entry("batch", run, {"tags": [["number", str(number)]]})


def numbers(outbox: Outbox) -> list[int]:
    return [int(each.content["tags"][0][1]) for each, _ in outbox.pending()]


def filled(root: Path, count: int, store: str = STORE, run: str = "a") -> Path:
    """An outbox that a process has left with so many entries."""
    outbox = Outbox.create(store, root)
    for number in range(count):
        outbox.add(entry(number, run))
    outbox.close()
    return outbox.folder


def left(root: Path) -> list[tuple[str, list[int], int]]:
    found = []
    for outbox in Outbox.left(root):
        found.append((outbox.store, numbers(outbox), outbox.kept(DAMAGED)))
        outbox.close()
    return found


def test_entries_come_in_their_order_and_once_when_they_are_marked(tmp_path: Path) -> None:
    outbox = Outbox.create(STORE, tmp_path)
    for number in range(5):
        outbox.add(entry(number))
    places = [place for _, place in outbox.pending()]
    assert numbers(outbox) == [0, 1, 2, 3, 4]
    outbox.mark(places[2])
    assert numbers(outbox) == [3, 4]
    outbox.add(entry(5))
    assert numbers(outbox) == [3, 4, 5]
    outbox.close()
    assert left(tmp_path) == [(STORE, [3, 4, 5], 0)]


def test_an_outbox_in_use_is_not_left_and_an_empty_one_vanishes(tmp_path: Path) -> None:
    outbox = Outbox.create(STORE, tmp_path)
    outbox.add(entry(1))
    assert left(tmp_path) == []
    ((_, place),) = outbox.pending()
    outbox.mark(place)
    outbox.close()
    assert list(tmp_path.iterdir()) == []


def test_files_are_kept_until_they_are_delivered(tmp_path: Path) -> None:
    outbox = Outbox.create(STORE, tmp_path)
    room = outbox.room()
    (room / "a").mkdir()
    (room / "a" / "b.txt").write_text("text")
    outbox.add(Entry("artifacts", "run", {}, room.name))
    ((found, _),) = outbox.pending()
    assert found.files == room.name
    outbox.drop(room.name)
    assert not room.exists()


@pytest.mark.parametrize("number", ["", "x" * 20, "9" * 20])
def test_a_number_that_cannot_be_read_delivers_again_or_nothing(
    tmp_path: Path, number: str
) -> None:
    folder = filled(tmp_path, 3)
    (folder / "delivered").write_text(number)
    assert left(tmp_path)[0][1] in ([0, 1, 2], [])


@given(cut=st.integers(1, 400))
def test_a_journal_cut_off_anywhere_keeps_what_was_whole(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    root = tmp_path_factory.mktemp("cut")
    journal = filled(root, 5) / JOURNAL
    content = journal.read_bytes()
    journal.write_bytes(content[: max(0, len(content) - cut)])
    whole = journal.read_bytes().count(b"\n")
    torn = not journal.read_bytes().endswith(b"\n") and journal.stat().st_size > 0
    ((_, found, damaged),) = left(root)
    assert found == list(range(whole))
    assert damaged == torn


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_line_that_is_damaged_is_put_aside_and_the_others_are_read(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    root = tmp_path_factory.mktemp("bit")
    journal = filled(root, 5) / JOURNAL
    content = bytearray(journal.read_bytes())
    content[place % len(content)] ^= 1 << bit
    journal.write_bytes(content)
    ((_, found, damaged),) = left(root)
    assert 3 <= len(found) <= 4  # a line break that is gone joins two lines
    assert found == sorted(found)
    assert damaged >= 1
    assert (journal.parent / DAMAGED).read_bytes().strip()
    assert journal.read_bytes() == bytes(content)


@pytest.mark.parametrize(
    "tail",
    [os.urandom(3000), bytes(4096), b"00000000 {}\n" * 3, b'1a2b3c4d {"kind": "bat', b"\n\n \n"],
    ids=["random", "zeroes", "other lines", "half a line", "blank lines"],
)
def test_a_tail_of_anything_is_told_and_what_is_whole_is_delivered(
    workplace: Workplace, tail: bytes
) -> None:
    run_id = workplace.client.create_run("0").info.run_id
    with workplace.entered():
        folder = filled(Path("data") / "outbox", 5, workplace.uri, run_id)
        with (workplace.folder / folder / JOURNAL).open("ab") as journal:
            journal.write(tail)
    outcome = workplace.cli("sync")
    assert outcome.status == 1
    assert re.search(r": \d+ entries are damaged; they are kept", outcome.told)
    assert f"Remove the folder {folder} when you need it no more." in outcome.told
    assert "Traceback" not in outcome.told
    assert workplace.client.get_run(run_id).data.tags["number"] == "4"
    kept = (workplace.folder / folder / DAMAGED).read_bytes()
    assert kept.replace(b"\n", b"") == tail.replace(b"\n", b"")


@pytest.mark.parametrize("limit", [900, 1_000_000])
def test_a_full_disk_and_a_killed_process_lose_no_entry(tmp_path: Path, limit: int) -> None:
    words = [sys.executable, "-c", WRITER, str(tmp_path), str(limit)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = process.stdout.readline()
        if limit == 900:
            assert "cannot be kept here (File too large). Make room" in told
            told = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    count = int(told)
    assert count == 50 or limit == 900
    assert left(tmp_path) == [("store", list(range(count)), 0)]


def test_a_folder_that_is_not_ours_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(OutboxError, match=r"data.outbox: .*Not a directory.*may write"):
        Outbox.create(STORE, tmp_path / "data" / "outbox")
    assert issubclass(OutboxError, UserError)


def test_an_outbox_that_has_vanished_under_its_process_is_delivered(tmp_path: Path) -> None:
    outbox = Outbox.create(STORE, tmp_path)
    outbox.add(entry(0))
    shutil.rmtree(tmp_path)
    outbox.add(entry(1))
    assert numbers(outbox) == [0, 1]
    with pytest.raises(OutboxError, match=r"\(No such file or directory\)"):
        outbox.room()
    for _, place in outbox.pending():
        outbox.mark(place)
    outbox.close()


def test_what_is_refused_is_kept_with_the_reason(tmp_path: Path) -> None:
    outbox = Outbox.create(STORE, tmp_path)
    outbox.refuse(entry(7), "no such run")
    kept = json.loads((outbox.folder / "refused").read_text())
    assert kept["why"] == "no such run"
    assert kept["content"] == {"tags": [["number", "7"]]}
    outbox.close()
    assert outbox.folder.exists()


def test_an_interruption_amid_a_write_hides_nothing_that_comes_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox.create(STORE, tmp_path)
    write, before = os.fsync, signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted(file: int) -> None:
        write(file)
        monkeypatch.setattr(os, "fsync", write)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(os, "fsync", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            outbox.add(Entry("batch", "run", {"tags": [["ended", "interrupted"]]}))
    finally:
        signal.signal(signal.SIGINT, before)
    outbox.add(Entry("end", "run", {"status": "KILLED"}))
    assert [entry.kind for entry, _ in outbox.pending()] == ["batch", "end"]
