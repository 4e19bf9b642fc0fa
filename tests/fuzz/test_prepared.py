"""Damaged prepared datasets: refused in words where they are asked for, else gone without."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.prepared import META, TABLES, Prepared, load, prepare
from pipeline.data.sizes import statistics
from pipeline.data.split_settings import SplitSettings
from tests.fuzz.damage import damaged, fuzzed, read_or_refused

SPLIT = SplitSettings()
FILES = [META, *(f"{name}.parquet" for name in TABLES)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame) -> Iterator[Prepared]:
    """A prepared dataset, whose folder the tests damage and mend; in the current directory."""
    with contextlib.chdir(tmp_path_factory.mktemp("prepared")):
        ratings[ratings["user"] < 150].to_csv("ratings.csv", index=False)
        made = prepare("ratings.csv", SPLIT)
        shutil.copytree(made.folder, "whole")
        yield made


@fuzzed(40)
@given(data=st.data(), name=st.sampled_from(FILES))
def test_a_damaged_one(whole: Prepared, data: st.DataObject, name: str) -> None:
    shutil.rmtree(whole.folder.parent)
    shutil.copytree("whole", whole.folder)
    content = data.draw(damaged((Path("whole") / name).read_bytes()))
    (whole.folder / name).write_bytes(content)
    refused = True
    with read_or_refused(whole.folder):
        assert statistics(load(whole.folder.name).dataset) == statistics(whole.dataset)
        refused = False
    again = prepare("ratings.csv", SPLIT)
    assert again.counts == whole.counts or again.reused
    assert again.dataset.fingerprint == whole.dataset.fingerprint
    if refused:
        assert not again.reused
        assert content in [path.read_bytes() for path in whole.folder.parent.rglob(name)]
    assert prepare("ratings.csv", SPLIT).reused
