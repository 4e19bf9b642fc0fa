"""Damaged experiments, suites and studies, and flags of any kind: taken, or refused in words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli import cli
from pipeline.config import read_experiment, read_suite
from pipeline.errors import UserError
from pipeline.tuning.study_files import read_plan
from tests.fuzz.damage import damaged, fuzzed, read_or_refused

ROOT = Path(__file__).parents[2]
FILES = {
    "experiments/mine.yaml": (ROOT / "experiments/ncf.yaml").read_bytes(),
    "experiments/suites/mine.yaml": (ROOT / "experiments/suites/ledger.yaml").read_bytes(),
    "experiments/studies/mine.yaml": (ROOT / "experiments/studies/ncf.yaml").read_bytes(),
}
WORDS = [
    b"!!python/object/apply:os.system [exit]", b"!!timestamp x", b"!!int x", b"!!bool x", b"!!set",
    b"!!binary x", b"&a", b"*a", b"&a [*a, *a]", b"<<: ", b"? ", b": ", b"- ", b"  ", b"---\n",
    b"|\n", b"1:60:60", b"2024-02-30", b".inf", b".nan", b"1.0e+400", b"0x" + b"f" * 4000, b"~",
    b"low", b"high", b"step", b"log", b"choices", b"space", b"config", b"model", b"most_popular",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("fields")
    for file in [*ROOT.glob("experiments/*.yaml"), *map(Path, FILES)]:
        copy = folder / (file.relative_to(ROOT) if file.is_absolute() else file)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes() if file.is_absolute() else FILES[str(file)])
    with contextlib.chdir(folder):
        yield


def read(file: Path, flags: dict[str, Any]) -> None:
    with read_or_refused(file):
        if file.parent.name == "suites":
            read_suite(str(file), flags)
        elif file.parent.name == "studies":
            plan = read_plan(file, None, flags)
            assert plan.budget > 0
            assert plan.model_dump_json()
        else:
            assert read_experiment(file, flags).recommender() is not None


@pytest.mark.parametrize("name", FILES)
@fuzzed(150)
@given(data=st.data())
def test_damaged_files(name: str, data: st.DataObject) -> None:
    file = Path(name)
    file.write_bytes(data.draw(damaged(FILES[name], WORDS)))
    try:
        read(file, {})
    finally:
        file.write_bytes(FILES[name])


NUMBERS = st.one_of(
    st.integers(), st.floats(), st.sampled_from([0, 1, 2, 10**30, 10**400, 1e308, -1e308, 1e-308])
)
LEAVES = st.one_of(
    st.none(), st.booleans(), NUMBERS, st.text(max_size=9), st.dates(), st.binary(max_size=9)
)
KEYS = st.one_of(st.sampled_from(["low", "high", "step", "choices"]), LEAVES)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)
RANGES = st.fixed_dictionaries(
    {"low": NUMBERS, "high": NUMBERS}, optional={"step": NUMBERS, "log": st.booleans()}
)


@pytest.mark.parametrize("name", FILES)
@fuzzed(150)
@given(data=st.data())
def test_values_of_any_kind(name: str, data: st.DataObject) -> None:
    fields = yaml.safe_load(FILES[name])
    known = [*fields, "seed", "k", "windows", "test_cut", "n_trials", "sampler", "grid_points"]
    for _ in range(data.draw(st.integers(1, 3))):
        fields[data.draw(st.sampled_from(known))] = data.draw(VALUES)
    if isinstance(fields.get("space"), dict):
        entry = data.draw(st.sampled_from(["embedding_dim", "dropout", "layers", "no_field"]))
        fields["space"][entry] = data.draw(st.one_of(RANGES, VALUES))
    file = Path(name)
    file.write_text(yaml.dump(fields, Dumper=yaml.SafeDumper, allow_unicode=True))
    try:
        read(file, {})
    finally:
        file.write_bytes(FILES[name])


NAMES = st.one_of(
    st.sampled_from(["dataset", "csv", "config", "study"]),
    st.sampled_from(["seed", "layers", "k", "windows", "model", "suite", "resume", "n_items"]),
    st.text("abc_=-[],.0123456789", max_size=9),
)
PATHS = [
    "",
    "a" * 300,
    "/",
    "..",
    "~",
    "~nobody1/x",
    "/dev/zero",
    "/dev/null",
    "/proc/self/mem",
]
TEXTS = st.one_of(
    st.sampled_from(PATHS),
    st.sampled_from(["none", "9" * 5000, "nan", "1e999", "1,2,,3", "[[1]]", "\udcff", "\x1b"]),
    st.text(max_size=12),
)
FLAG = st.one_of(*[st.builds("--{}={}".format, NAMES, TEXTS)] * 4, TEXTS)


@pytest.mark.parametrize(
    "start",
    [
        ["train", "--config=experiments/mine.yaml", "--dataset=nowhere"],
        ["main", "--dataset=nowhere"],
        ["prepare", "--dataset=nowhere"],
        ["import_ledger", "--csv=nowhere"],
        ["tune", "--study=experiments/studies/mine.yaml", "--dry_run=true"],
    ],
    ids=lambda start: start[0],
)
@fuzzed(60)
@given(flags=st.lists(FLAG, min_size=1, max_size=2))
def test_flags(start: list[str], flags: list[str]) -> None:
    """No ratings are at hand, so every command ends with a refusal."""
    ends = (UserError, click.ClickException, click.exceptions.Exit)
    with contextlib.suppress(*ends):
        cli.main([*start, *flags], "pipeline", standalone_mode=False)
