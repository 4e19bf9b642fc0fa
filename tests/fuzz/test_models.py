"""Damaged folders of models: refused in words, or they answer."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models import FAMILIES, family
from pipeline.models.folder import load_model, save_model
from tests.conftest import checkerboard
from tests.fuzz.damage import damaged, fuzzed, read_or_refused

FILES = [
    "family.json", "model.json", "weights.safetensors", "seen.safetensors", "users.parquet",
    "items.parquet",
]  # fmt: skip
WORDS = [b"ncf", b"ease", b"random", b"slim", b"F32", b"F64", b"I64", b"BF16", b"shape"]
DATASET = checkerboard()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each family."""
    home = tmp_path_factory.mktemp("models")
    for name in FAMILIES:
        kind = family(name)
        settings = {"epochs": 1} if "epochs" in kind.settings_class.model_fields else {}
        model = kind(kind.settings_class.read(settings, "here"), seed=1).fit(DATASET)
        (home / name).mkdir()
        save_model(name, model, DATASET, home / name)
    return home


def load(folder: Path) -> None:
    with read_or_refused(folder):
        model = load_model(folder)
        users = np.arange(len(model.users), dtype=np.int32)
        assert model.recommender.scores(users).shape == model.seen.shape


@pytest.mark.parametrize("file", FILES)
@fuzzed(80)
@given(data=st.data())
def test_a_damaged_file(folders: Path, file: str, data: st.DataObject) -> None:
    folder = folders / data.draw(st.sampled_from(sorted(FAMILIES)))
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(data.draw(damaged(whole, WORDS)))
    try:
        load(folder)
    finally:
        (folder / file).write_bytes(whole)


@pytest.mark.parametrize("file", FILES)
def test_a_file_of_another_family(folders: Path, tmp_path: Path, file: str) -> None:
    for one in FAMILIES:
        for other in FAMILIES:
            folder = tmp_path / f"{one}-{other}"
            shutil.copytree(folders / one, folder)
            shutil.copy(folders / other / file, folder)
            load(folder)
