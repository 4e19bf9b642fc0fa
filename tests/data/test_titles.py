"""Titles of a person's own: over those found, kept with the dataset, outside of its fingerprint."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline.data.prepared import Prepared, load, prepare
from pipeline.data.raw.reading import Reading
from pipeline.data.split_settings import SplitSettings
from pipeline.data.titles import TITLES, digest
from pipeline.data.windows import window_of
from pipeline.errors import UserError

SPLIT = SplitSettings()
OWN = Reading(items="own.csv")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratings: pd.DataFrame) -> None:
    monkeypatch.chdir(tmp_path)
    ratings.to_csv("ratings.csv", index=False)


def write(rows: list[tuple[object, ...]], header: str = "id;Game Name;tags") -> None:
    Path("own.csv").write_text("\n".join([header, *(";".join(map(str, row)) for row in rows)]))


def titles(prepared: Prepared) -> dict[object, tuple[str, str]]:
    items = prepared.dataset.items
    told = zip(items["title"], items["genres"], strict=True)
    return {item: both for item, both in zip(items["item"], told, strict=True) if any(both)}


def test_titles_given_later_are_kept_without_another_fingerprint() -> None:
    first = prepare("ratings.csv", SPLIT)
    a, b, c = first.dataset.items["item"].head(3).tolist()
    assert (titles(first), digest(first.dataset)) == ({}, None)
    write([(a, "Ökonomie", "War"), (b, "Two", ""), (-5, "Nobody's", ""), ("x", "No id", "")])
    given = prepare("ratings.csv", SPLIT, OWN)
    assert given.reused
    assert titles(given) == {a: ("Ökonomie", "War"), b: ("Two", "")}
    assert f"titles for 2 of {first.dataset.n_items:,} items; 1 rows" in given.notes[-1]
    anew = prepare("ratings.csv", SPLIT, reuse=False)
    assert not anew.reused
    for again in (load(first.dataset.fingerprint), prepare("ratings.csv", SPLIT), anew):
        assert again.dataset.fingerprint == first.dataset.fingerprint == again.folder.name
        assert titles(again) == titles(given)
        assert digest(again.dataset) == digest(given.dataset) is not None
    assert "Ökonomie" in window_of(given.dataset, 0.8).items["title"].tolist()
    write([(c, "Three", "")])
    other = prepare("ratings.csv", SPLIT, OWN)
    assert titles(other) == {c: ("Three", "")}
    assert digest(other.dataset) != digest(given.dataset)
    assert [path.name for path in other.folder.iterdir() if path.name.startswith(".")] == []


def test_what_was_found_stays_where_nothing_is_given(ratings: pd.DataFrame) -> None:
    plain = prepare("ratings.csv", SPLIT)
    a, b = plain.dataset.items["item"].head(2).tolist()
    Path("movies.csv").write_text(f"item,title,genres\n{a},Found,Drama\n{b},Other,War\n")
    found = prepare("ratings.csv", SPLIT, reuse=False)
    assert found.dataset.fingerprint != plain.dataset.fingerprint
    write([(a, "", "Comedy"), (b, "Mine", "")])
    given = prepare("ratings.csv", SPLIT, OWN, reuse=False)
    assert titles(given) == {a: ("Found", "Comedy"), b: ("Mine", "War")}
    assert given.dataset.fingerprint == found.dataset.fingerprint


def test_titles_that_cannot_be_used() -> None:
    with pytest.raises(UserError, match=r"own\.csv: there is no such file"):
        prepare("ratings.csv", SPLIT, OWN)
    write([(-1, "x", "")])
    with pytest.raises(UserError, match="none of its 1 ids is an item of ratings, whose items are"):
        prepare("ratings.csv", SPLIT, OWN)
    write([(1, "x", "")], "wer;was;wie")
    with pytest.raises(UserError, match="the first line must name the columns, and item is"):
        prepare("ratings.csv", SPLIT, OWN)
    made = prepare("ratings.csv", SPLIT)
    write([(made.dataset.items["item"][0], "", "")])
    with pytest.raises(UserError, match=r"has neither titles nor genres. Name a column title"):
        prepare("ratings.csv", SPLIT, OWN)
    write([(made.dataset.items["item"][0], "x", "")])
    prepare("ratings.csv", SPLIT, OWN)
    (made.folder / TITLES).write_text("no titles")
    with pytest.raises(UserError, match=r"damaged .* Delete it and give --items again"):
        load(made.folder.name)
