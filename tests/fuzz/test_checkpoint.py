"""Damaged checkpoints: refused in words, and never gone on with as if they were whole."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from pipeline.models import family
from pipeline.models.ncf import NCF
from pipeline.training.checkpoint import Journal
from pipeline.training.trainer import Epoch
from tests.conftest import checkerboard
from tests.fuzz.damage import damaged, fuzzed, read_or_refused, zipped

DATASET = checkerboard()


def ncf(epochs: int) -> NCF:
    settings = {"epochs": epochs, "embedding_dim": 2, "layers": "none", "device": "cpu"}
    return NCF(family("ncf").settings_class.read(settings, "here"), seed=1)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of one fit after an epoch."""
    path = tmp_path_factory.mktemp("checkpoint") / "journal.pt"
    journal = Journal(path)

    def after(epoch: Epoch) -> bool:
        journal.record("final", epoch.record(), epoch.state())
        return False

    ncf(1).fit(DATASET, after)
    return path


@pytest.fixture(scope="module")
def whole(file: Path) -> bytes:
    return file.read_bytes()


def go_on(file: Path, dataset: Dataset) -> None:
    with read_or_refused(file):
        journal = Journal.load(file)
        try:
            ncf(2).fit(dataset, None, journal.state("final"))
        except UserError as error:
            raise UserError(f"{file}: {error}") from None


@fuzzed(150)
@given(data=st.data())
def test_a_damaged_file(file: Path, whole: bytes, data: st.DataObject) -> None:
    file.write_bytes(data.draw(damaged(whole)))
    go_on(file, DATASET)


@fuzzed(150)
@given(data=st.data())
def test_a_damaged_member_with_the_right_checksum(
    file: Path, whole: bytes, data: st.DataObject
) -> None:
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = data.draw(st.sampled_from(sorted(members)))
    members[name] = data.draw(damaged(members[name]))
    file.write_bytes(zipped(members, zipfile.ZIP_STORED))
    go_on(file, DATASET)


LEAVES = st.one_of(
    st.none(), st.integers(), st.floats(), st.text(max_size=5), st.just(torch.ones(3))
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=5,
)


@fuzzed(150)
@given(data=st.data(), value=VALUES)
def test_other_values(file: Path, whole: bytes, data: st.DataObject, value: Any) -> None:
    content = torch.load(io.BytesIO(whole), weights_only=True)
    inside, key = data.draw(st.sampled_from(places(content)))
    inside[key] = value
    torch.save(content, file)
    go_on(file, DATASET)


def places(inside: Any) -> list[tuple[Any, Any]]:
    """Every key of a mapping or list, at any depth."""
    keys = list(inside) if isinstance(inside, dict) else range(len(inside))
    found = [(inside, key) for key in keys]
    for key in keys:
        if isinstance(inside[key], dict | list):
            found += places(inside[key])
    return found
