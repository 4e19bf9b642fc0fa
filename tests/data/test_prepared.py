"""Prepared datasets: found again by their inputs, refused when tampered with, never half there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.data import prepared as module
from pipeline.data.dataset import Dataset
from pipeline.data.prepared import Prepared, load, prepare
from pipeline.data.raw.reading import Reading
from pipeline.data.sizes import statistics
from pipeline.data.split_settings import SplitSettings
from pipeline.data.windows import window_of
from pipeline.disk import unfinished
from pipeline.errors import UserError

SPLIT = SplitSettings()
DROP = Reading(on_bad_rows="drop")
ROOT = Path(__file__).parents[2]
# A prepare that dies by SIGKILL at the moment when everything is written but the folder not named.
KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pipeline.data.prepared import prepare
from pipeline.data.split_settings import SplitSettings
Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
prepare(sys.argv[2], SplitSettings())
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratings: pd.DataFrame) -> Path:
    monkeypatch.chdir(tmp_path)
    ratings.to_csv("ratings.csv", index=False)
    return tmp_path


def same(one: Dataset, other: Dataset) -> bool:
    return all(getattr(one, name).equals(getattr(other, name)) for name in module.TABLES)


def folders() -> list[str]:
    return sorted(path.name for path in module.home().iterdir())


def test_a_dataset_comes_back_as_it_was() -> None:
    first = prepare("ratings.csv", SPLIT)
    again = prepare("ratings.csv", SPLIT)
    assert (first.reused, again.reused) == (False, True)
    assert first.folder == again.folder == module.home() / first.dataset.fingerprint
    assert same(first.dataset, again.dataset)
    assert again.dataset.fingerprint == first.dataset.fingerprint
    assert statistics(again.dataset) == statistics(first.dataset)
    assert (again.dataset.name, again.dataset.protocol) == (
        "ratings",
        f"time-{SPLIT.test_cut:g}-5-15-10",
    )
    assert again.counts == first.counts
    assert same(load(first.dataset.fingerprint).dataset, first.dataset)


def test_what_the_folder_says_of_itself() -> None:
    made = prepare("ratings.csv", SPLIT)
    meta = json.loads((made.folder / "meta.json").read_text())
    assert meta["name"] == "ratings"
    assert meta["inputs"]["split"]["test_cut"] == 0.8
    assert (meta["inputs"]["split"]["protocol"], meta["split"]["protocol"]) == ("auto", "time")
    assert meta["inputs"]["on_bad_rows"] == "error"
    assert meta["statistics"] == statistics(made.dataset)
    assert sorted(path.name for path in made.folder.iterdir()) == [
        "items.parquet",
        "later.parquet",
        "meta.json",
        "train.parquet",
        "users.parquet",
    ]


def test_the_order_of_rows_is_not_in_the_fingerprint(ratings: pd.DataFrame) -> None:
    first = prepare("ratings.csv", SPLIT)
    ratings.sample(frac=1, random_state=1).to_csv("shuffled.csv", index=False)
    other = prepare("shuffled.csv", SPLIT)
    assert not other.reused
    assert other.dataset.fingerprint == first.dataset.fingerprint
    assert same(other.dataset, first.dataset)
    assert folders() == [first.dataset.fingerprint]


@pytest.mark.parametrize("name", ["ratings.parquet", "ratings.tsv"])
def test_the_format_is_not_in_the_fingerprint(ratings: pd.DataFrame, name: str) -> None:
    first = prepare("ratings.csv", SPLIT)
    if name.endswith("parquet"):
        ratings.to_parquet(name)
    else:
        ratings.to_csv(name, sep="\t", index=False)
    assert prepare(name, SPLIT).dataset.fingerprint == first.dataset.fingerprint


def test_the_time_zone_is_not_in_the_fingerprint(
    ratings: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    dates = ratings.assign(timestamp=pd.to_datetime(ratings["timestamp"], unit="s"))
    dates.to_parquet("dates.parquet")
    prints, found = set(), []
    for zone in ("UTC", "Asia/Tokyo", "America/St_Johns"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert time.localtime(0).tm_hour == {"UTC": 0, "Asia/Tokyo": 9}.get(zone, 20)
        for name in ("ratings.csv", "dates.parquet"):
            made = prepare(name, SPLIT, reuse=False)
            prints.add(made.dataset.fingerprint)
            found.append(statistics(made.dataset))
    monkeypatch.undo()
    time.tzset()
    assert len(prints) == 1
    assert all(each == found[0] for each in found)


def test_rows_and_settings_are_in_the_fingerprint(ratings: pd.DataFrame) -> None:
    prints = {prepare("ratings.csv", SPLIT).dataset.fingerprint}
    changes = {"rating": 0.5, "timestamp": 1, "item": 7}
    for column, step in changes.items():
        changed = ratings.copy()
        changed.loc[0, column] += step
        changed.to_csv("changed.csv", index=False)
        prints.add(prepare("changed.csv", SPLIT).dataset.fingerprint)
    for settings in ({"test_cut": 0.75}, {"min_training": 6}, {"min_held_out": 11}):
        prints.add(prepare("ratings.csv", SplitSettings(**settings)).dataset.fingerprint)
    assert len(prints) == 7
    assert len(folders()) == 7


def test_a_changed_file_is_read_again(ratings: pd.DataFrame) -> None:
    first = prepare("ratings.csv", SPLIT)
    ratings[:-1].to_csv("ratings.csv", index=False)
    second = prepare("ratings.csv", SPLIT)
    assert not second.reused
    assert second.dataset.fingerprint != first.dataset.fingerprint


def test_titles_come_along(ratings: pd.DataFrame, here: Path) -> None:
    folder = here / "films"
    folder.mkdir()
    ratings.to_csv(folder / "ratings.csv", index=False)
    catalogue = pd.DataFrame({"item": ratings["item"].unique()})
    catalogue = catalogue.assign(title="Film, the", genres="Drama")
    catalogue.to_csv(folder / "movies.csv", index=False)
    first = prepare("films", SPLIT)
    assert set(first.dataset.items["title"]) == {"Film, the"}
    assert same(prepare("films", SPLIT).dataset, first.dataset)
    assert first.dataset.fingerprint != prepare("ratings.csv", SPLIT).dataset.fingerprint


def test_ids_that_are_text_come_back_as_text(ratings: pd.DataFrame) -> None:
    names = ratings.assign(user="u" + ratings["user"].astype(str))
    names.to_csv("names.csv", index=False)
    first = prepare("names.csv", SPLIT)
    again = prepare("names.csv", SPLIT)
    assert again.reused
    assert again.dataset.users["user"].tolist() == first.dataset.users["user"].tolist()
    assert str(again.dataset.users["user"][0]).startswith("u")


def test_an_existing_split_is_taken_as_it_is(ratings: pd.DataFrame, here: Path) -> None:
    folder = here / "saved"
    folder.mkdir()
    ratings[:5000].to_csv(folder / "train.csv", index=False)
    ratings[5000:].to_csv(folder / "test.csv", index=False)
    (folder / "meta.json").write_text("{}")
    made = prepare("saved", SPLIT)
    assert made.dataset.protocol == "as-given"
    assert len(made.dataset.train) == 5000
    assert prepare("saved", SPLIT).reused


def test_bad_rows_are_in_the_key_and_counted(ratings: pd.DataFrame) -> None:
    with Path("ratings.csv").open("a") as file:
        file.write("1,2,nan,978300000\n1,2,3,soon\n")
    with pytest.raises(UserError, match="2 of 7045 rows cannot be used"):
        prepare("ratings.csv", SPLIT)
    assert not module.home().exists()
    first = prepare("ratings.csv", SPLIT, DROP)
    assert first.counts == {
        "rows_read": len(ratings) + 2,
        "bad_rows_dropped": 2,
        "duplicates_dropped": 0,
        "repeats_left_out": 0,
    }
    assert prepare("ratings.csv", SPLIT, DROP).counts == first.counts
    with pytest.raises(UserError, match="cannot be used"):  # dropping once allows nothing later
        prepare("ratings.csv", SPLIT)


def test_pairs_that_come_again_come_back_with_the_dataset(ratings: pd.DataFrame) -> None:
    again = ratings[:300].assign(timestamp=ratings["timestamp"][:300] + 1)
    late = ratings[:50].assign(timestamp=ratings["timestamp"].max() + 1)
    pd.concat([ratings, again, late]).to_csv("again.csv", index=False)
    first = prepare("again.csv", SPLIT)
    second = prepare("again.csv", SPLIT)
    assert second.reused
    assert second.counts == first.counts
    assert first.counts["duplicates_dropped"] == 300
    assert first.counts["repeats_left_out"] == 50
    assert second.dataset.superseded.equals(first.dataset.superseded)
    assert len(first.dataset.superseded) > 200
    assert window_of(second.dataset, 0.7).fingerprint == window_of(first.dataset, 0.7).fingerprint
    (first.folder / "superseded.parquet").unlink()
    with pytest.raises(UserError, match="no longer have the fingerprint"):
        load(first.dataset.fingerprint)


def test_what_was_prepared_by_another_rule_is_not_taken_for_the_same() -> None:
    """Before, pairs that came again were dropped from the whole file before the cut."""
    first = prepare("ratings.csv", SPLIT)
    meta = json.loads((first.folder / "meta.json").read_text())
    meta["inputs"]["format"] = 1
    (first.folder / "meta.json").write_text(json.dumps(meta))
    again = prepare("ratings.csv", SPLIT)
    assert not again.reused
    assert again.folder == first.folder


def tampered(made: Prepared, content: bytes | None) -> None:
    file = made.folder / "train.parquet"
    file.unlink()
    if content is not None:
        file.write_bytes(content)


def is_prepared_anew(damaged: Prepared, problem: str) -> None:
    """``load`` refuses a damaged dataset; ``prepare`` tells of it, keeps it and makes another."""
    left = {path.name: path.read_bytes() for path in damaged.folder.iterdir()}
    with pytest.raises(UserError) as error:
        load(damaged.dataset.fingerprint)
    assert f"{damaged.folder}: {problem}" in str(error.value)
    assert "Delete the folder and prepare again" in str(error.value)
    made = prepare("ratings.csv", SPLIT)
    assert (made.reused, made.folder) == (False, damaged.folder)
    assert same(load(made.dataset.fingerprint).dataset, damaged.dataset)
    refused, moved = made.notes
    assert refused == f"warning: not used: {error.value}"
    assert moved.startswith(f"warning: the damaged {made.folder} is kept as ")
    kept = Path(moved.rpartition(" ")[2])
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == left
    again = prepare("ratings.csv", SPLIT)
    assert again.reused
    assert again.notes == ()


def test_changed_tables_are_prepared_anew() -> None:
    made = prepare("ratings.csv", SPLIT)
    table = pd.read_parquet(made.folder / "train.parquet")
    table.loc[3, "rating"] = np.float32(1.5)
    table.to_parquet(made.folder / "train.parquet", index=False)
    is_prepared_anew(made, "the tables no longer have the fingerprint")


@pytest.mark.parametrize("content", [None, b"", b"PAR1 and no more"])
def test_damaged_tables_are_prepared_anew(content: bytes | None) -> None:
    made = prepare("ratings.csv", SPLIT)
    tampered(made, content)
    is_prepared_anew(made, "damaged (")


def records(made: Prepared) -> dict[str, str]:
    meta = json.loads((made.folder / "meta.json").read_text())
    return {
        "broken off": "{",
        "no object": "[]",
        "too deep": "[" * 100_000,
        "without inputs": json.dumps({**meta, "inputs": None}),
        "without counts": json.dumps({key: meta[key] for key in meta if key != "counts"}),
        "counts of text": json.dumps({**meta, "counts": {"rows_read": "many"}}),
        "no UTF-8": "\udcff",
    }


@pytest.mark.parametrize(
    "kind",
    ["broken off", "no object", "too deep", "without inputs", "without counts", "counts of text",
     "no UTF-8"],
)  # fmt: skip
def test_a_damaged_record_is_prepared_anew(kind: str) -> None:
    made = prepare("ratings.csv", SPLIT)
    content = records(made)[kind]
    (made.folder / "meta.json").write_bytes(content.encode(errors="surrogateescape"))
    is_prepared_anew(made, "damaged (")


def test_a_damaged_record_stops_no_other_dataset(ratings: pd.DataFrame) -> None:
    made = prepare("ratings.csv", SPLIT)
    (made.folder / "meta.json").write_text("{")
    ratings[:-1].to_csv("others.csv", index=False)
    other = prepare("others.csv", SPLIT)
    (note,) = other.notes
    assert note.startswith(f"warning: not used: {made.folder}: damaged (")
    assert prepare("others.csv", SPLIT).reused
    assert (made.folder / "meta.json").read_text() == "{"


def test_what_is_not_prepared_is_told() -> None:
    with pytest.raises(UserError, match=r"fingerprint 0123 is not prepared here. Run 'prepare'"):
        load("0123")


def test_a_failed_prepare_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)  # everything is written, but not safe
    with pytest.raises(OSError, match="no space left"):
        prepare("ratings.csv", SPLIT)
    assert folders() == []


def kill_a_prepare_of(here: Path, file: str) -> None:
    (here / file).write_text("".join((here / "ratings.csv").read_text().splitlines(True)[:-1]))
    words = [sys.executable, "-c", KILLED, str(ROOT), file]
    done = subprocess.run(words, cwd=here, capture_output=True)
    assert done.returncode == -9, done.stderr.decode()


def kill_a_prepare(here: Path) -> None:
    kill_a_prepare_of(here, "killed.csv")
    left, lock = folders()
    assert left.startswith(".dataset.")
    assert lock == f"{left}.lock"


def test_a_killed_prepare_leaves_nothing_that_counts_and_the_next_removes_it(here: Path) -> None:
    kill_a_prepare(here)
    made = prepare("ratings.csv", SPLIT)
    assert not made.reused
    assert folders() == [made.dataset.fingerprint]
    kill_a_prepare_of(here, "others.csv")
    assert len(folders()) == 3
    assert prepare("ratings.csv", SPLIT).reused
    assert folders() == [made.dataset.fingerprint]


def test_what_a_process_is_writing_is_left_to_it(here: Path) -> None:
    module.home().mkdir(parents=True)
    with unfinished(module.home(), module.DATASET) as partial:
        partial.mkdir()
        made = prepare("ratings.csv", SPLIT)
        assert partial.exists()
    assert folders() == [made.dataset.fingerprint]


def test_a_prepare_that_another_process_is_writing_does_not_disturb(here: Path) -> None:
    made = prepare("ratings.csv", SPLIT)
    half = made.folder.rename(made.folder.with_name(".partial-other"))
    (half / "meta.json").write_text("")
    assert prepare("ratings.csv", SPLIT).folder == made.folder


def test_a_prepare_that_another_process_has_just_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    made = prepare("ratings.csv", SPLIT)
    record = json.loads((made.folder / "meta.json").read_text())
    monkeypatch.setattr(Path, "exists", lambda _: False)  # as it was when this one looked
    module.store(made.dataset, made.folder, record | {"note": "later"})
    assert same(load(made.dataset.fingerprint).dataset, made.dataset)
    assert json.loads((made.folder / "meta.json").read_text())["note"] == "later"
    assert folders() == [made.dataset.fingerprint]
